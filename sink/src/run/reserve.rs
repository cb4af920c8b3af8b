//! Room kept for the catalog, so that a sink on a full disk starts all the same.
//!
//! SQLite needs room before it answers anything: for its shared memory file, and in its log for the transaction with
//! which a sink takes the journal over. A file beside the catalog holds that room. A start that finds the disk full
//! gives it up and goes on: the ledger and queries answer, and what agents send is refused until the journal has room
//! again. A running sink takes the room again once the disk has several times as much.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use tokio_util::sync::CancellationToken;
use weir_process::work;

/// What is held: twice the log at which SQLite writes it back into the database.
const BYTES: u64 = 8 << 20;
/// Taken only while the disk has so many times as much.
const PLENTY: u64 = 8;
/// How often a running sink looks whether it can be taken again.
const LOOK: Duration = Duration::from_secs(60);

/// The file that holds the room, there or not.
#[derive(Clone, Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    /// Bytes that the disk of a file has left.
    available: fn(&Path) -> io::Result<u64>,
}

impl Reserve {
    /// Beside the catalog's file.
    pub(super) fn beside(catalog_file: &Path) -> Reserve {
        let mut name = catalog_file.as_os_str().to_owned();
        name.push(".reserve");
        Reserve {
            path: name.into(),
            available,
        }
    }

    /// Tries `start`, and once more without the reserve where the disk was so full that this may
    /// help.
    pub(super) async fn start<T, E, F>(&self, start: impl Fn() -> F) -> Result<T, E>
    where
        E: std::fmt::Display,
        F: Future<Output = Result<T, E>>,
    {
        match start().await {
            Err(error) if self.give_up_on((self.available)(&self.path)) => {
                tracing::warn!(%error, "the disk is full: starting with the room that was kept for this");
                start().await
            }
            other => other,
        }
    }

    /// Gives the room back where the disk has less; true if there was something to give.
    fn give_up_on(&self, available: io::Result<u64>) -> bool {
        available.is_ok_and(|bytes| bytes < BYTES) && fs::remove_file(&self.path).is_ok()
    }

    /// Takes the room, now or when the disk has plenty, until `token`.
    pub(super) async fn keep(self, token: CancellationToken) {
        loop {
            let taking = self.clone();
            let taken = work::run(move || taking.take((taking.available)(&taking.path))).await;
            match taken {
                Ok(Err(error)) => tracing::debug!(%error, "cannot keep room for the catalog"),
                Ok(Ok(())) => {}
                // The runtime ends.
                Err(_) => return,
            }
            tokio::select! {
                biased;
                () = token.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    fn take(&self, available: io::Result<u64>) -> io::Result<()> {
        if available? < PLENTY * BYTES || self.path.exists() {
            return Ok(());
        }
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).open(&self.path)?;
        let taken = fallocate(&file, FallocateFlags::empty(), 0, BYTES);
        if taken.is_err() {
            fs::remove_file(&self.path)?;
        }
        Ok(taken?)
    }
}

/// Bytes that the disk of a file has left.
fn available(path: &Path) -> io::Result<u64> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let disk = statvfs(directory)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::{BYTES, PLENTY, Reserve};

    /// Red when the room is taken from a disk that has little, or kept from one that has none.
    #[test]
    fn room_is_taken_from_plenty_and_given_where_there_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let reserve = Reserve::beside(&directory.path().join("catalog.db"));
        reserve.take(Ok(PLENTY * BYTES - 1)).unwrap();
        assert!(!reserve.path.exists());
        assert!(!reserve.give_up_on(Ok(0)), "there is nothing to give");

        reserve.take(Ok(PLENTY * BYTES)).unwrap();
        assert_eq!(reserve.path.metadata().unwrap().len(), BYTES);
        reserve.take(Ok(PLENTY * BYTES)).unwrap();
        assert!(!reserve.give_up_on(Ok(BYTES)), "another reason");
        assert!(reserve.path.exists());
        assert!(reserve.give_up_on(Ok(BYTES - 1)));
        assert!(!reserve.path.exists());
    }

    /// Red when a start that finds the disk full is not tried again, or the room is kept from it.
    #[tokio::test]
    async fn a_full_disk_is_started_on_with_the_room_that_was_kept() {
        let directory = tempfile::tempdir().unwrap();
        let full = Reserve {
            available: |_| Ok(0),
            ..Reserve::beside(&directory.path().join("catalog.db"))
        };
        let start = || async {
            if full.path.exists() {
                return Err("database or disk is full");
            }
            Ok("started")
        };
        full.take(Ok(PLENTY * BYTES)).unwrap();
        assert_eq!(full.start(start).await, Ok("started"));
        assert!(!full.path.exists());
    }

    #[tokio::test]
    async fn a_start_that_fails_for_another_reason_is_not_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let reserve = Reserve::beside(&directory.path().join("catalog.db"));
        let tries = Cell::new(0);
        let started: Result<(), &str> = reserve
            .start(|| {
                tries.set(tries.get() + 1);
                async { Err("another sink has it") }
            })
            .await;
        assert_eq!((started, tries.get()), (Err("another sink has it"), 1));
    }
}
