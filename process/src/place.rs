//! Whether the files a program works with are still where it found them.
//!
//! A program goes on writing to a directory that somebody has removed or replaced, and all of it is
//! gone with the last handle. So each path is remembered with what it is (device and inode), and
//! looked at again.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Some paths, as they were found.
#[derive(Clone, Debug)]
pub struct Place {
    paths: Vec<(PathBuf, (u64, u64))>,
}

impl Place {
    /// The paths as they are now.
    ///
    /// # Errors
    /// One of them is not there, or may not be looked at.
    pub fn of(paths: impl IntoIterator<Item = PathBuf>) -> io::Result<Place> {
        let found = paths.into_iter().map(|path| {
            let found = fs::metadata(&path)?;
            Ok((path, (found.dev(), found.ino())))
        });
        let paths = found.collect::<io::Result<_>>()?;
        Ok(Place { paths })
    }

    /// Whether all of them still are what they were.
    ///
    /// # Errors
    /// What has become of the first that is not, in words for the operator.
    pub fn check(&self) -> Result<(), String> {
        for (path, known) in &self.paths {
            let path_shown = path.display();
            match fs::metadata(path) {
                Ok(found) if (found.dev(), found.ino()) == *known => {}
                Ok(_) => return Err(format!("{path_shown} was replaced while it was in use")),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(format!("{path_shown} is gone"));
                }
                // Whoever may not look now could when it started: the disk, or its rights.
                Err(error) => return Err(format!("cannot look at {path_shown}: {error}")),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Red when a path that leads to another file counts as the same.
    #[test]
    fn a_removed_and_a_replaced_directory_are_told() {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("data");
        fs::create_dir(&data).unwrap();
        let place = Place::of([data.clone()]).unwrap();
        assert_eq!(place.check(), Ok(()));
        fs::rename(&data, parent.path().join("away")).unwrap();
        assert!(place.check().unwrap_err().ends_with("data is gone"));
        fs::create_dir(&data).unwrap();
        assert!(place.check().unwrap_err().contains("replaced"));
        assert!(Place::of([parent.path().join("nowhere")]).is_err());
    }
}
