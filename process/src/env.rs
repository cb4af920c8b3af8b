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
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Option<String>, DotenvError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".env");
        fs::write(&path, text).unwrap();
        read_dotenv(&path)
    }

    #[test]
    fn accepts_comments_quotes_and_a_byte_order_mark() {
        let text = check("\u{feff}# first\nA=1\nB=\"two words\"\n\nexport C='x'\n").unwrap();
        assert!(text.unwrap().starts_with("# first"));
    }

    #[test]
    fn names_the_malformed_line_and_hides_its_text() {
        let error = check("A=1\n# note\nTOKEN=very secret\nB=2\n").unwrap_err();
        let text = error.to_string();
        assert!(text.contains(".env line 3:"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn names_the_line_where_an_open_quote_begins() {
        let error = check("A=1\nB=\"open\nC=3\n").unwrap_err();
        assert!(error.to_string().contains(".env line 2:"), "{error}");
    }

    #[test]
    fn counts_lines_across_values_that_span_them() {
        let error = check("# x y\nA=\"one\ntwo\"\nB=x y\nC=1\n").unwrap_err();
        assert!(error.to_string().contains(".env line 4:"), "{error}");
    }

    /// Seen red with: `malformed_line` answering the line before.
    #[test]
    fn any_text_is_read_or_its_line_is_named() {
        use proptest::prelude::*;
        let line = "(export )?[A-Za-z_0-9 .-]{0,6}[=:]?[\"'$#\\\\ {}a-z\u{e9}\u{0}]{0,8}";
        let text = proptest::collection::vec(line, 0..8).prop_map(|lines| lines.join("\n"));
        let mut runner = proptest::test_runner::TestRunner::default();
        let held = runner.run(&prop_oneof![text, any::<String>()], |text| {
            match check(&text) {
                Ok(_) => {}
                Err(DotenvError::Malformed { line, .. }) => {
                    prop_assert!((1..=text.lines().count().max(1)).contains(&line), "{line}");
                }
                Err(other) => prop_assert!(false, "{other}"),
            }
            Ok(())
        });
        held.unwrap();
    }

    /// Mutations: what is set that gives way to the file; a line that stands twice of which the last counts.
    #[test]
    fn what_is_read_again_is_the_file_as_it_is_now_behind_what_was_set() {
        let started: Environment = [("A", "set"), ("EMPTY", "")].into_iter().collect();
        let mut now = started.clone();
        let file = "A=file\nEMPTY=file\nB=new\nB=twice\n";
        now.add(Path::new(".env"), file).unwrap();
        assert_eq!((now.get("A"), now.get("B")), (Some("set"), Some("new")));
        assert_eq!(now.get("EMPTY"), None);
        assert_eq!(started.get("B"), None);
    }

    /// Mutation: what was there at the start counts as never having been.
    #[test]
    fn a_file_that_is_gone_or_empty_now_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settings");
        let named = [
            "x".into(),
            "--env-file".into(),
            path.clone().into_os_string(),
        ];
        let named = || {
            clap::Command::new("x")
                .arg(file_flag())
                .get_matches_from(named.clone())
        };
        let none = clap::Command::new("x").arg(file_flag());
        let none = none.get_matches_from(["x"]);
        let started = Environment::default();
        // The tests' directory has no `.env`.
        let gone = read_again(&none, &started, Some(Path::new(".env"))).unwrap_err();
        assert!(matches!(gone, DotenvError::Unreadable { .. }), "{gone}");
        assert!(read_again(&none, &started, None).is_ok());
        for (text, holds) in [("\n", false), ("A=b\n", true)] {
            fs::write(&path, text).unwrap();
            let read = read_again(&named(), &started, Some(&path));
            assert_eq!(read.is_ok(), holds, "{read:?}");
        }
    }

    #[test]
    fn a_missing_file_is_nothing_to_report() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read_dotenv(&dir.path().join(".env")).unwrap().is_none());
    }

    #[test]
    fn a_directory_named_like_the_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = read_dotenv(dir.path()).unwrap_err();
        assert!(error.to_string().starts_with("cannot read "), "{error}");
    }

    /// Not a test of its own: loading changes the environment of a whole process.
    #[test]
    #[ignore = "run as a child process by the_real_environment_wins_over_the_file"]
    fn child_that_loads() {
        let named = std::env::var("AS_NAMED").ok();
        let arguments = named.map(|path| vec!["x".to_owned(), "--env-file".to_owned(), path]);
        let matches = clap::Command::new("x")
            .arg(file_flag())
            .get_matches_from(arguments.unwrap_or_default());
        if let Some(path) = load_dotenv(&matches).unwrap() {
            println!("\nloaded {}", path.display());
        }
        let environment = Environment::current();
        for (name, value) in environment.starting_with("WEIR_CHILD_") {
            println!("{name}={value}");
        }
    }

    /// What the child shows of itself, started in this directory.
    fn loaded(dir: &Path, named: &str) -> (bool, String) {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        if !named.is_empty() {
            child.env("AS_NAMED", named);
        }
        let output = child
            .args(["--exact", "env::tests::child_that_loads"])
            .args(["--ignored", "--nocapture"])
            .current_dir(dir)
            .env("WEIR_CHILD_A", "real")
            .output()
            .unwrap();
        let shown = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&shown).into_owned(),
        )
    }

    /// Seen red with: `.env` read where another file is named; a named file that is missing passed over.
    #[test]
    fn a_named_file_comes_in_place_of_the_usual_one() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".env"), "WEIR_CHILD_B=usual\n").unwrap();
        fs::write(dir.path().join("agent.env"), "WEIR_CHILD_C=named\n").unwrap();
        let (_, shown) = loaded(dir.path(), "agent.env");
        let expected = "\nloaded agent.env\nWEIR_CHILD_A=real\nWEIR_CHILD_C=named\n";
        assert!(shown.contains(expected), "{shown}");
        let (well, shown) = loaded(dir.path(), "none.env");
        assert!(!well && shown.contains("none.env"), "{shown}");
    }

    #[test]
    fn the_real_environment_wins_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let text = "\u{feff}WEIR_CHILD_A=file\nWEIR_CHILD_B=\"from file\"\n";
        fs::write(dir.path().join(".env"), text).unwrap();
        let (_, shown) = loaded(dir.path(), "");
        let expected = "\nloaded .env\nWEIR_CHILD_A=real\nWEIR_CHILD_B=from file\n";
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        let environment: Environment = [("A", ""), ("B", "b")].into_iter().collect();
        assert_eq!(environment.get("A"), None);
        assert_eq!(environment.get("B"), Some("b"));
    }
}
