//! From the places where a value may stand to the one that counts, and the names nobody knows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::ArgMatches;

use super::effective::Source;
use super::faults::Faults;
use super::file::{self, Contents};
use super::table::{CONFIG_FLAG, Key, NO_ENVIRONMENT_FLAG, Table};
use crate::env::Environment;
use crate::secret::Secret;

/// Where values may come from, as read and not yet understood. `Debug` shows no value: any may be a secret.
#[derive(Debug, Default)]
pub struct Sources {
    /// Values given as flags, by key name.
    pub flags: BTreeMap<&'static str, Secret>,
    /// The environment; empty when it must not be looked at.
    pub environment: Environment,
    /// The settings file: its path and its text.
    pub file: Option<(PathBuf, Secret)>,
    /// What was already wrong while gathering.
    pub faults: Faults,
}

/// One value and where it came from.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) text: Secret,
    pub(super) source: Source,
}

/// Everything the sources say, keyed by key name.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    pub(super) values: BTreeMap<&'static str, Value>,
    pub(super) file: Contents,
    pub(super) faults: Faults,
}

impl Sources {
    /// Takes the flags from the command line, and finds and reads the settings file. A file that is named and cannot
    /// be read is a fault.
    pub fn gather(table: &Table, matches: &ArgMatches, environment: &Environment) -> Self {
        let environment = if matches.get_flag(NO_ENVIRONMENT_FLAG) {
            Environment::default()
        } else {
            environment.clone()
        };
        let flag = matches.get_one::<String>(CONFIG_FLAG).cloned();
        let variable = table.file_variable();
        let (name, path) = match flag {
            Some(path) => (format!("--{CONFIG_FLAG}"), Some(path)),
            None => {
                let path = environment.get(&variable).map(str::to_owned);
                (variable, path)
            }
        };
        let mut sources = Self {
            flags: table.flags(matches),
            environment,
            file: None,
            faults: Faults::default(),
        };
        if let Some(path) = path {
            match fs::read_to_string(&path) {
                Ok(text) => sources.file = Some((PathBuf::from(path), text.into())),
                Err(error) => {
                    let message = format!("cannot read {path}: {}", error.kind());
                    sources.faults.push(name, message);
                }
            }
        }
        sources
    }
}

/// Picks the value of every key and reports every name that is not one.
pub(super) fn resolve(table: &Table, sources: &Sources) -> Resolved {
    let mut resolved = Resolved {
        faults: sources.faults.clone(),
        ..Resolved::default()
    };
    if let Some((path, text)) = &sources.file {
        resolved.file = file::read(table, path, text.expose(), &mut resolved.faults);
    }
    let mut known: BTreeSet<String> = BTreeSet::from([table.file_variable()]);
    for key in table.keys() {
        let variable = table.variable(key);
        let value = pick(key, &variable, sources, &mut resolved);
        resolved.values.insert(key.name, value);
        if key.secret {
            known.insert(format!("{variable}_FILE"));
        }
        known.insert(variable);
    }
    unknown_variables(table, &known, &sources.environment, &mut resolved.faults);
    resolved
}

fn pick(key: &'static Key, variable: &str, sources: &Sources, resolved: &mut Resolved) -> Value {
    let faults = &mut resolved.faults;
    if sources.environment.is_unreadable(variable) {
        faults.push(variable, "is not UTF-8 text: write it anew");
    }
    if let Some(text) = sources.flags.get(key.name).filter(|text| !text.is_empty()) {
        let text = unwrapped(&format!("--{}", key.flag()), text.expose(), faults);
        return Value {
            text: text.into(),
            source: Source::Flag,
        };
    }
    let plain = sources.environment.get(variable);
    let twin = format!("{variable}_FILE");
    let path = sources.environment.get(&twin).filter(|_| key.secret);
    if plain.is_some() && path.is_some() {
        faults.push(
            &twin,
            format!("is set together with {variable}: keep one of them"),
        );
    }
    if let Some(text) = plain {
        let text = unwrapped(variable, text, faults);
        if !text.is_empty() {
            return Value {
                text: text.into(),
                source: Source::Environment,
            };
        }
    }
    if let Some(path) = path {
        match Secret::read(Path::new(path)) {
            Ok(text) => {
                let text = Secret::new(text.expose().trim_end_matches(['\r', '\n']));
                let source = Source::SecretFile(PathBuf::from(path));
                return Value { text, source };
            }
            Err(error) => faults.push(twin, format!("cannot read {path}: {}", error.kind())),
        }
    }
    if let Some(text) = resolved
        .file
        .values
        .get(key.name)
        .filter(|text| !text.is_empty())
    {
        let source = Source::File(resolved.file.path.clone());
        return Value {
            text: text.clone(),
            source,
        };
    }
    Value {
        text: key.default.into(),
        source: Source::Default,
    }
}

/// The value without what a careless file or shell wrapped around it, which is a fault, but reading goes on.
fn unwrapped(name: &str, text: &str, faults: &mut Faults) -> String {
    let mut text = text;
    if let Some(rest) = text.strip_suffix('\r') {
        faults.push(
            name,
            "ends in a carriage return, so its file has Windows line ends: save that file with plain line ends (LF)",
        );
        text = rest;
    }
    text = text.trim();
    for quote in ['"', '\''] {
        let inner = text
            .strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote));
        if let Some(inner) = inner {
            faults.push(
                name,
                format!("is wrapped in {quote} quotes, which became part of the value (docker run --env-file keeps them): remove the quotes"),
            );
            return inner.to_owned();
        }
    }
    text.to_owned()
}

fn unknown_variables(
    table: &Table,
    known: &BTreeSet<String>,
    environment: &Environment,
    faults: &mut Faults,
) {
    let prefix = format!("{}_", table.prefix);
    let names: Vec<&str> = known
        .iter()
        .filter_map(|name| name.strip_prefix(&prefix))
        .collect();
    for (variable, value) in environment.starting_with(&prefix) {
        if known.contains(variable) || is_service_link(variable, value) {
            continue;
        }
        let name = &variable[prefix.len()..];
        let message = suggestion(table, name, &names, |known| format!("{prefix}{known}"));
        faults.push(variable, message);
    }
}

/// Kubernetes announces every service of a namespace as variables (`WEIR_SINK_SERVICE_HOST` for a service named
/// `weir-sink`): those are not slips of an operator.
fn is_service_link(variable: &str, value: &str) -> bool {
    let port = |protocol: &str| variable.contains("_PORT_") && variable.contains(protocol);
    variable.ends_with("_SERVICE_HOST")
        || variable.ends_with("_SERVICE_PORT")
        || variable.contains("_SERVICE_PORT_")
        || (variable.ends_with("_PORT") && value.contains("://"))
        || port("_TCP")
        || port("_UDP")
        || port("_SCTP")
}

/// "is not a setting", with the known name that looks most like it.
pub(super) fn suggestion(
    table: &Table,
    name: &str,
    known: &[&str],
    show: impl Fn(&str) -> String,
) -> String {
    // Below this share of equal letters a guess confuses more than it helps.
    const ALIKE: f64 = 0.6;
    let program = table.program();
    let best = known
        .iter()
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known), *known))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(alike, _)| *alike >= ALIKE);
    match best {
        Some((_, known)) => {
            let known = show(known);
            format!("is not a setting of {program}: did you mean {known}?")
        }
        None => format!("is not a setting of {program}: `{program} config` lists them all"),
    }
}
