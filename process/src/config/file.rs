//! The settings file: TOML text into values by key name, and what in it nobody knows.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Value;

use super::faults::Faults;
use super::resolve::suggestion;
use super::table::Table;
use crate::secret::Secret;

/// What a settings file says.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) path: PathBuf,
    pub(super) values: BTreeMap<&'static str, Secret>,
    pub(super) sections: BTreeMap<&'static str, Value>,
}

/// Without values: those of sections are not known to hold no secret.
impl fmt::Debug for Contents {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Contents")
            .field("path", &self.path)
            .field("values", &self.values)
            .field("sections", &self.sections.keys())
            .finish()
    }
}

/// Reads the text of a settings file. Faults name the file and the entry.
pub(super) fn read(table: &Table, path: &Path, text: &str, faults: &mut Faults) -> Contents {
    let mut contents = Contents {
        path: path.to_path_buf(),
        ..Contents::default()
    };
    let root = match text.parse::<toml::Table>() {
        Ok(root) => root,
        Err(error) => {
            let line = error.span().map_or(1, |span| {
                text[..span.start.min(text.len())].matches('\n').count() + 1
            });
            faults.push(
                format!("{} line {line}", path.display()),
                error.message().replace('\n', ", "),
            );
            return contents;
        }
    };
    for (name, value) in root {
        match table.sections.iter().find(|section| **section == name) {
            Some(section) => {
                contents.sections.insert(section, value);
            }
            None => walk(table, &name, &value, &mut contents, faults),
        }
    }
    contents
}

fn walk(table: &Table, name: &str, value: &Value, contents: &mut Contents, faults: &mut Faults) {
    let entry = || format!("{}: {name}", contents.path.display());
    let is_group = |key: &str| {
        key.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('.'))
    };
    match (table.find(name), value) {
        (Some(key), _) => match scalar(value) {
            Some(text) => {
                contents.values.insert(key.name, text.into());
            }
            None => faults.push(
                entry(),
                format!(
                    "is {} {}: write a single value",
                    article(value),
                    value.type_str()
                ),
            ),
        },
        (None, Value::Table(inner)) if table.keys().any(|key| is_group(key.name)) => {
            for (part, value) in inner {
                walk(table, &format!("{name}.{part}"), value, contents, faults);
            }
        }
        (None, _) => {
            let known = table.keys().map(|key| key.name);
            let known: Vec<&str> = known.chain(table.sections.iter().copied()).collect();
            faults.push(
                entry(),
                suggestion(table, name, &known, |known| known.to_owned()),
            );
        }
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(yes) => Some(yes.to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

fn article(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "an",
        _ => "a",
    }
}
