//! The table of keys, and what follows from it: names, flags, the example file.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::{Arg, ArgAction, ArgMatches};

use super::values;
use crate::secret::Secret;

/// What a value looks like. Decides how it is shown in help and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `250ms`, `5s`, `1m`.
    Duration,
    /// `64KiB`, `4MiB`, or plain bytes.
    Bytes,
    /// A whole number from 0.
    Count,
    /// A number from 0 that may have a fraction, for example per second.
    Rate,
    /// `true` or `false`.
    Bool,
    /// `scheme://host:port/path`.
    Url,
    /// `127.0.0.1:4317`.
    Address,
    /// A file or directory.
    Path,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Anything.
    Text,
}

/// One thing an operator can set.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// `section.name`, lower case, in the form of the TOML file.
    pub name: &'static str,
    /// What a value looks like.
    pub kind: Kind,
    /// The value when nobody sets one; empty for none.
    pub default: &'static str,
    /// One sentence for the operator, lower case, without a full stop.
    pub help: &'static str,
    /// Whether the value must never be shown.
    pub secret: bool,
}

/// Keys that are shown together.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// What they have in common, as a heading.
    pub title: &'static str,
    /// The keys, in the order in which they are shown.
    pub keys: &'static [Key],
}

/// All keys of one program.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// What its environment variables begin with, without the last underscore: `WEIR_AGENT`.
    pub prefix: &'static str,
    /// The keys.
    pub groups: &'static [Group],
    /// Parts of the file that are not keys, for example arrays of tables, which the program reads by itself.
    pub sections: &'static [&'static str],
}

impl Key {
    /// A key that is not secret.
    pub const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        help: &'static str,
    ) -> Self {
        Self {
            name,
            kind,
            default,
            help,
            secret: false,
        }
    }

    /// The same key, whose value is never shown and may be given as the path of a file.
    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// The flag without its dashes: `batch-max-readings`.
    pub fn flag(&self) -> String {
        self.name.replace(['.', '_'], "-")
    }
}

impl Kind {
    fn value_name(self) -> String {
        match self {
            Self::Duration => "DURATION".to_owned(),
            Self::Bytes => "BYTES".to_owned(),
            Self::Count => "COUNT".to_owned(),
            Self::Rate => "NUMBER".to_owned(),
            Self::Bool => "true|false".to_owned(),
            Self::Url => "URL".to_owned(),
            Self::Address => "ADDRESS:PORT".to_owned(),
            Self::Path => "PATH".to_owned(),
            Self::Choice(words) => words.join("|"),
            Self::Text => "TEXT".to_owned(),
        }
    }
}

/// Ids and long names of the two flags that are not keys.
pub(super) const CONFIG_FLAG: &str = "config";
pub(super) const NO_ENVIRONMENT_FLAG: &str = "no-environment";

impl Table {
    /// All keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &'static Key> {
        self.groups.iter().flat_map(|group| group.keys.iter())
    }

    /// The key of that name.
    pub fn find(&self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name)
    }

    /// The environment variable of a key.
    pub fn variable(&self, key: &Key) -> String {
        let name = key.name.replace(['.', '-'], "_").to_uppercase();
        format!("{}_{name}", self.prefix)
    }

    /// The variable that names the configuration file.
    pub fn file_variable(&self) -> String {
        format!("{}_CONFIG", self.prefix)
    }

    /// The program's name, as it is typed: `weir-agent` for the prefix `WEIR_AGENT`.
    pub fn program(&self) -> String {
        self.prefix.to_lowercase().replace('_', "-")
    }

    /// One flag per key, `--config` and `--no-environment`; all of them global, to be added to the program's command.
    pub fn args(&self) -> Vec<Arg> {
        let mut args = vec![
            Arg::new(CONFIG_FLAG)
                .long(CONFIG_FLAG)
                .value_name("FILE")
                .help(format!(
                    "settings file (TOML) [env: {}]",
                    self.file_variable()
                ))
                .global(true),
            Arg::new(NO_ENVIRONMENT_FLAG)
                .long(NO_ENVIRONMENT_FLAG)
                .action(ArgAction::SetTrue)
                .help("read no environment variables")
                .global(true),
        ];
        for group in self.groups {
            args.extend(group.keys.iter().map(|key| self.arg(group, key)));
        }
        args
    }

    fn arg(&self, group: &Group, key: &'static Key) -> Arg {
        let mut help = format!("{} [env: {}]", key.help, self.variable(key));
        if !key.default.is_empty() {
            help.push_str(&format!(" [default: {}]", key.default));
        }
        Arg::new(key.name)
            .long(key.flag())
            .value_name(key.kind.value_name())
            .help(help)
            .help_heading(group.title)
            .hide_short_help(true)
            .global(true)
    }

    /// The values given as flags, by key name.
    pub(super) fn flags(&self, matches: &ArgMatches) -> BTreeMap<&'static str, Secret> {
        self.keys()
            .filter_map(|key| {
                let value = matches.get_one::<String>(key.name)?;
                Some((key.name, Secret::new(value)))
            })
            .collect()
    }

    /// The table as lines for `.env.example`: every variable commented out at its default, with its help above.
    pub fn env_example(&self) -> String {
        let mut text = format!(
            "# Settings of {}. Every variable is shown with its default.\n\n",
            self.program()
        );
        let file = self.file_variable();
        text.push_str("# a settings file in TOML; what is set here wins over it\n");
        let _ = writeln!(text, "#{file}=");
        for group in self.groups {
            let _ = writeln!(text, "\n# --- {} ---", group.title);
            for key in group.keys {
                let form = key.kind.value_name();
                let _ = writeln!(text, "# {} ({form})", key.help);
                if key.secret {
                    let _ = writeln!(
                        text,
                        "# or {}_FILE: the path of a file that holds it",
                        self.variable(key)
                    );
                }
                let _ = writeln!(text, "#{}={}", self.variable(key), key.default);
            }
        }
        text
    }

    /// What is wrong with the table itself, for a test of the program that owns it.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut seen = BTreeMap::new();
        for key in self.keys() {
            if let Some(other) = seen.insert(key.flag(), key.name) {
                mistakes.push(format!("{} and {other} have the same flag", key.name));
            }
            if key.flag() == CONFIG_FLAG || key.flag() == NO_ENVIRONMENT_FLAG {
                mistakes.push(format!("{} takes the name of a built-in flag", key.name));
            }
            if !key.default.is_empty()
                && let Err(message) = values::check(key.kind, key.default)
            {
                mistakes.push(format!("{}: default: {message}", key.name));
            }
            let top = key.name.split('.').next().unwrap_or_default();
            if self.sections.contains(&top) {
                mistakes.push(format!("{} lies in the section {top}", key.name));
            }
            if key.help.is_empty() || key.help.ends_with('.') {
                mistakes.push(format!(
                    "{}: help must be a sentence without full stop",
                    key.name
                ));
            }
        }
        mistakes
    }
}
