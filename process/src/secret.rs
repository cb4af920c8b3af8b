//! A text that is never shown by accident: not in logs, errors, `Debug` output or support bundles.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Of a file with a secret: larger than any token or key.
const MOST_BYTES: u64 = 64 << 10;

/// A token, a password, a private key. Whoever needs the text asks for it by name, see [`Secret::expose`].
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// What a file holds.
    ///
    /// # Errors
    /// When it cannot be read, is not UTF-8, or holds more than 64 KiB, as a device does that never ends.
    pub fn read(path: &Path) -> io::Result<Secret> {
        let mut text = String::new();
        let file = File::open(path)?;
        file.take(MOST_BYTES + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MOST_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(Secret(text))
    }

    /// The text itself, for the one place that has to have it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mutation: a file that is read to its end, which this one does not have.
    #[test]
    fn what_never_ends_is_not_read_whole() {
        let error = Secret::read(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "hunter2\n").unwrap();
        assert_eq!(Secret::read(&path).unwrap().expose(), "hunter2\n");
    }

    /// Red with a derived `Debug`.
    #[test]
    fn its_debug_output_shows_nothing_of_it() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{:?}", Some(&secret)), "Some(***)");
        assert_eq!(secret.expose(), "hunter2");
    }
}
