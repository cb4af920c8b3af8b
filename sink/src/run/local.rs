//! `local-token` in the data directory: by it programs on the sink's own machine, run by whoever may read that
//! directory, are known without being set up. New at each start, readable by the sink's own user alone, removed by a
//! clean stop.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use weir_process::secret::Secret;

use crate::access::token;

const NAME: &str = "local-token";

/// Why there is none.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {source}: the commands of this machine are known by it")]
pub(super) struct LocalTokenError {
    path: PathBuf,
    source: io::Error,
}

/// The file.
pub struct LocalToken;

impl LocalToken {
    /// Puts a new one in the place of the last.
    pub(super) fn renew(data_dir: &Path) -> Result<Secret, LocalTokenError> {
        let path = data_dir.join(NAME);
        let written = token::make_local().and_then(|secret| {
            std::fs::create_dir_all(data_dir)?;
            let part = data_dir.join(format!("{NAME}.part"));
            // What a former life left there may be open to others.
            match std::fs::remove_file(&part) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file: File = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&part)?;
            writeln!(file, "{}", secret.expose())?;
            std::fs::rename(part, &path)?;
            Ok(secret)
        });
        written.map_err(|source| LocalTokenError { path, source })
    }

    /// What a running sink wrote, if it is there and may be read.
    pub fn read(data_dir: &Path) -> Option<Secret> {
        let text = std::fs::read_to_string(data_dir.join(NAME)).ok()?;
        Some(Secret::new(text.trim_end()))
    }

    pub(super) fn remove(data_dir: &Path) {
        // One that stays is of no use: the next start makes another.
        let _ = std::fs::remove_file(data_dir.join(NAME));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Red when the umask decides who may read it.
    #[test]
    fn each_start_has_another_which_only_its_user_can_read() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let one = LocalToken::renew(&data).unwrap();
        std::fs::write(data.join("local-token.part"), "left by a crash").unwrap();
        let two = LocalToken::renew(&data).unwrap();
        assert_ne!(one, two);
        assert_eq!(LocalToken::read(&data), Some(two));
        let mode = std::fs::metadata(data.join(NAME))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        LocalToken::remove(&data);
        assert_eq!(LocalToken::read(&data), None);
    }
}
