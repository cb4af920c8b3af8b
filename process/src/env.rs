//! The environment: `.env` loaded before any thread exists, and a snapshot of the variables as a plain map.
//!
//! In: the process environment and an optional `.env` in the working directory, or a file that is named in its place. Out: [`Environment`], which is passed
//! on as an argument, so that nothing else in the program reads a global. A variable that is already set wins over
//! `.env`; a malformed `.env` is an error that names the line and never shows a value.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, value_parser};

use crate::secret::Secret;

const FILE_FLAG: &str = "env-file";

/// The variables a program was started with, read once. `Debug` shows names and no values.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    values: BTreeMap<String, Secret>,
    unreadable: BTreeSet<String>,
}

/// Why a `.env` file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DotenvError {
    /// The file is there and cannot be read.
    #[error("cannot read {}: {}", path.display(), source.kind())]
    Unreadable {
        /// Where the file is.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What the program was started with holds nothing now.
    #[error(
        "{} is empty, and was not when the program began: write it again, or start anew without it",
        path.display()
    )]
    Empty {
        /// Where the file is.
        path: PathBuf,
    },
    /// A line is not `NAME=value`.
    #[error(
        "{} line {line}: cannot read this as NAME=value: put a value that holds spaces or # in quotes, and close every quote",
        path.display()
    )]
    Malformed {
        /// Where the file is.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
}

/// The flag that names a file to be read in place of `.env`, for every command of a program.
pub fn file_flag() -> Arg {
    Arg::new(FILE_FLAG)
        .long(FILE_FLAG)
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .global(true)
        .help("read variables from this file in place of .env, as a service's own in /etc/weir")
}

/// Loads the file that [`file_flag`] names, or `.env` in the working directory if there is one, into the environment, and says
/// which file it was.
///
/// Must be called in a plain `fn main`, before any thread or runtime exists: changing the environment of a process
/// with threads is a data race.
///
/// # Errors
/// When the file exists and cannot be read, a named one does not exist, or a line cannot be understood. Nothing is loaded then.
pub fn load_dotenv(matches: &ArgMatches) -> Result<Option<PathBuf>, DotenvError> {
    let Some((path, text)) = find(matches)? else {
        return Ok(None);
    };
    dotenvy::from_read(text.as_bytes()).map_err(|error| fault(&path, &text, error))?;
    Ok(Some(path))
}

/// The variables as [`load_dotenv`] would make them of `started`, those that the program was started with, and the file as it
/// is now. `loaded` is what [`load_dotenv`] answered. What the file held then does not count, but one that held something has to be
/// there and hold something: it may just be being replaced. A value that refers to another variable (`${NAME}`) gets what
/// that one is in the process.
///
/// # Errors
/// As of [`load_dotenv`], and when the file that was loaded is gone or empty.
pub fn read_again(
    matches: &ArgMatches,
    started: &Environment,
    loaded: Option<&Path>,
) -> Result<Environment, DotenvError> {
    let mut environment = started.clone();
    match (find(matches)?, loaded) {
        (Some((path, text)), Some(_)) if text.trim().is_empty() => {
            return Err(DotenvError::Empty { path });
        }
        (Some((path, text)), _) => environment.add(&path, &text)?,
        (None, Some(path)) => return Err(missing(path)),
        (None, None) => {}
    }
    Ok(environment)
}

fn missing(path: &Path) -> DotenvError {
    DotenvError::Unreadable {
        path: path.to_path_buf(),
        source: io::ErrorKind::NotFound.into(),
    }
}

/// The file to load and what is in it, if there is one.
fn find(matches: &ArgMatches) -> Result<Option<(PathBuf, String)>, DotenvError> {
    let named = matches.get_one::<PathBuf>(FILE_FLAG);
    let path = named.map_or(Path::new(".env"), PathBuf::as_path);
    match (read_dotenv(path)?, named) {
        (Some(text), _) => Ok(Some((path.to_path_buf(), text))),
        (None, None) => Ok(None),
        (None, Some(path)) => Err(missing(path)),
    }
}

/// Reads and checks a `.env` file without loading it. `None` when there is no such file.
fn read_dotenv(path: &Path) -> Result<Option<String>, DotenvError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            let path = path.to_path_buf();
            return Err(DotenvError::Unreadable { path, source });
        }
    };
    let text = text.trim_start_matches('\u{feff}').to_owned();
    for item in dotenvy::from_read_iter(text.as_bytes()) {
        item.map_err(|error| fault(path, &text, error))?;
    }
    Ok(Some(text))
}

fn fault(path: &Path, text: &str, error: dotenvy::Error) -> DotenvError {
    let path = path.to_path_buf();
    match error {
        dotenvy::Error::Io(source) => DotenvError::Unreadable { path, source },
        _ => DotenvError::Malformed {
            path,
            line: malformed_line(text),
        },
    }
}

/// The line where the first entry begins that cannot be read. The parser tells the text of an entry but not its place,
/// and a value in quotes may span lines: so the shortest beginning of the file is looked for that fails at that entry.
fn malformed_line(text: &str) -> usize {
    let good_entries = |text: &str| {
        let mut items = dotenvy::from_read_iter(text.as_bytes());
        let good = items.by_ref().take_while(Result::is_ok).count();
        let all = dotenvy::from_read_iter(text.as_bytes()).count();
        (good, good == all)
    };
    let (good, _) = good_entries(text);
    let mut end = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        end += line.len();
        if good_entries(&text[..end]) == (good, false) {
            return index + 1;
        }
    }
    1
}

impl Environment {
    /// The variables of this process, as they are now.
    pub fn current() -> Self {
        let mut environment = Self::default();
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else {
                continue;
            };
            match value.into_string() {
                Ok(value) => {
                    environment.values.insert(name, value.into());
                }
                Err(_) => {
                    environment.unreadable.insert(name);
                }
            }
        }
        environment
    }

    /// Takes in what a file says of variables that are not set.
    fn add(&mut self, path: &Path, text: &str) -> Result<(), DotenvError> {
        for item in dotenvy::from_read_iter(text.as_bytes()) {
            let (name, value) = item.map_err(|error| fault(path, text, error))?;
            if !self.unreadable.contains(&name) {
                self.values.entry(name).or_insert_with(|| value.into());
            }
        }
        Ok(())
    }

    /// The value of a variable. One that is set but empty counts as not set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values
            .get(name)
            .map(Secret::expose)
            .filter(|value| !value.is_empty())
    }

    /// Whether a variable is set to something that is not UTF-8.
    pub fn is_unreadable(&self, name: &str) -> bool {
        self.unreadable.contains(name)
    }

    /// All readable variables whose names begin with `prefix`, in order.
    pub fn starting_with<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.values
            .iter()
            .filter(move |(name, _)| name.starts_with(prefix))
            .map(|(name, value)| (name.as_str(), value.expose()))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let values = pairs
            .into_iter()
            .map(|(name, value)| (name.into(), Secret::new(value)))
            .collect();
        Self {
            values,
            unreadable: BTreeSet::new(),
        }
    }
}

#[cfg(test)]
mod tests;
