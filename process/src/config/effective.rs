//! The settings a program runs with, and where each came from.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::sync::OnceLock;

use super::table::{Key, Kind};
use super::values;
use crate::output;

/// Where a value came from, lowest rank first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// The settings file.
    File(PathBuf),
    /// A file named by the variable with `_FILE` appended.
    SecretFile(PathBuf),
    /// The environment (or `.env`).
    Environment,
    /// The command line.
    Flag,
}

/// One setting, safe to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The key's name.
    pub name: &'static str,
    /// Its environment variable.
    pub variable: String,
    /// The value; `***` in place of a secret, and URLs without user and password.
    pub value: String,
    /// Where it came from.
    pub source: Source,
    /// Of the value itself, also where it is not shown; of no use outside this process.
    mark: u64,
}

/// All settings, in the order of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effective(pub Vec<Setting>);

impl Setting {
    pub(super) fn new(key: &'static Key, variable: String, value: &str, source: Source) -> Self {
        static MARKS: OnceLock<RandomState> = OnceLock::new();
        let mark = MARKS.get_or_init(RandomState::new).hash_one(value);
        let value = match key.kind {
            _ if key.secret && !value.is_empty() => "***".to_owned(),
            Kind::Url => values::hide_userinfo(value),
            _ => value.to_owned(),
        };
        Self {
            name: key.name,
            variable,
            value,
            source,
            mark,
        }
    }

    /// Whether both have the same value, shown or not.
    pub fn is_as(&self, other: &Setting) -> bool {
        self.mark == other.mark
    }
}

impl Effective {
    /// The shown value of one setting.
    pub fn get(&self, name: &str) -> Option<&Setting> {
        self.0.iter().find(|setting| setting.name == name)
    }

    /// All of it for people: setting, value and where it came from.
    pub fn table(&self) -> output::Table {
        let columns = ["setting", "value", "from", "variable"];
        let mut table = output::Table::new(columns.map(|name| (name, output::Align::Left)));
        for setting in &self.0 {
            let source = setting.source.to_string();
            table.row([setting.name, &setting.value, &source, &setting.variable]);
        }
        table
    }
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => out.write_str("default"),
            Self::File(path) | Self::SecretFile(path) => write!(out, "{}", path.display()),
            Self::Environment => out.write_str("environment"),
            Self::Flag => out.write_str("flag"),
        }
    }
}
