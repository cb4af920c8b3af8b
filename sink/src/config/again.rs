//! The settings read again while the sink runs, from where they were read at its start.
//!
//! In: the command line, the variables that the program was started with, and the files as they are now. Out: what is in effect
//! from now on and what only a restart would change, or why nothing changes.

use std::fmt;
use std::path::PathBuf;

use clap::ArgMatches;
use weir_process::config::{Effective, Faults, Reader};
use weir_process::env::{self, DotenvError, Environment};

use super::{Config, TABLE};

/// What the keys begin with that are taken over without a restart.
const TAKEN_OVER: &str = "limits.";

/// Where the settings of this run come from, and what is in effect of them.
#[derive(Debug)]
pub struct Again {
    matches: ArgMatches,
    started: Environment,
    loaded: Option<PathBuf>,
    effective: Effective,
}

/// What came out of reading them again.
#[derive(Debug)]
pub(crate) struct Difference {
    /// All of them as they are written now.
    pub(crate) config: Config,
    /// Variables whose other value is to be taken over.
    pub(crate) taken: Vec<String>,
    /// Variables whose other value is for the next start.
    pub(crate) at_restart: Vec<String>,
}

/// Why the settings cannot be read again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CannotRead {
    /// The file with variables.
    #[error(transparent)]
    File(#[from] DotenvError),
    /// They are wrong: each fault names its key and the remedy.
    #[error("{}", one_line(.0))]
    Faults(Faults),
}

fn one_line(faults: &impl fmt::Display) -> String {
    let text = faults.to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ")
}

impl Again {
    /// `started`: the variables before a file was `loaded` into them. `effective`: what was read then.
    pub fn new(
        matches: ArgMatches,
        (started, loaded): (Environment, Option<PathBuf>),
        effective: Effective,
    ) -> Self {
        Self {
            matches,
            started,
            loaded,
            effective,
        }
    }

    /// Reads and checks all of them. What is to be taken over counts as in effect from then on.
    pub(crate) fn read(&mut self) -> Result<Difference, CannotRead> {
        let environment = env::read_again(&self.matches, &self.started, self.loaded.as_deref())?;
        let reader = Reader::from_args(&TABLE, &self.matches, &environment);
        let (config, now) = Config::read(reader, &environment).map_err(CannotRead::Faults)?;
        let (taken, at_restart) = differences(&mut self.effective, now);
        Ok(Difference {
            config,
            taken,
            at_restart,
        })
    }
}

/// The variables that differ: those that are taken over, and then stand in `effective`, and the others.
fn differences(effective: &mut Effective, now: Effective) -> (Vec<String>, Vec<String>) {
    let (mut taken, mut at_restart) = (Vec::new(), Vec::new());
    for setting in now.0 {
        let known = effective.0.iter_mut();
        let Some(known) = known.into_iter().find(|known| known.name == setting.name) else {
            continue;
        };
        if known.is_as(&setting) {
            continue;
        }
        if setting.name.starts_with(TAKEN_OVER) {
            taken.push(setting.variable.clone());
            *known = setting;
        } else {
            at_restart.push(setting.variable);
        }
    }
    (taken, at_restart)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effective(keys: &[(&'static str, &str)]) -> Effective {
        let sources = weir_process::config::Sources {
            flags: keys
                .iter()
                .map(|(key, value)| (*key, (*value).into()))
                .collect(),
            ..Default::default()
        };
        let reader = Reader::new(&TABLE, &sources);
        Config::read(reader, &Environment::default()).unwrap().1
    }

    /// Mutation: what needs a restart that is said once and then counts as in effect.
    #[test]
    fn limits_are_taken_over_and_all_else_is_named_until_the_restart() {
        let mut known = effective(&[]);
        let next = || effective(&[("limits.agent_series", "5"), ("query.max_rows", "7")]);
        let (taken, at_restart) = differences(&mut known, next());
        assert_eq!(taken, ["WEIR_SINK_LIMITS_AGENT_SERIES"]);
        assert_eq!(at_restart, ["WEIR_SINK_QUERY_MAX_ROWS"]);
        let (taken, at_restart) = differences(&mut known, next());
        assert_eq!((taken.len(), at_restart.len()), (0, 1));
        let (taken, at_restart) = differences(&mut known, effective(&[]));
        assert_eq!((taken.len(), at_restart.len()), (1, 0));
    }

    /// Mutation: settings are compared as they are shown.
    #[test]
    fn a_secret_that_is_another_one_is_named_and_not_shown() {
        let [mut known, next] = ["one", "two"].map(|token| effective(&[("token", token)]));
        let text = format!("{known:?}");
        let (_, at_restart) = differences(&mut known, next);
        assert_eq!(at_restart, ["WEIR_SINK_TOKEN"]);
        assert!(!text.contains("one"), "{text}");
    }
}
