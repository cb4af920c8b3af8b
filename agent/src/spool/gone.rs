//! Files that somebody removes under the running agent.
//!
//! A removed file takes writes as before and keeps none of them. So the names are looked at every second: where the
//! stream being written has lost its state or its segment, another begins, and what can no longer be read of the old
//! one is counted as `damaged` when the sender comes to it.

use std::io;
use std::path::Path;
use std::sync::PoisonError;

use tokio::time::Instant;

use super::directory::{STATE, hex};
use super::{FULL_FOR, Spool, SpoolError, Stream};

impl Spool {
    /// Looks whether the files of the stream being written are there; begins another where they are not.
    pub(crate) fn look_for_files(&self) {
        let mut inner = self.lock();
        let Some(live) = inner.live().filter(|_| !inner.finished) else {
            return;
        };
        if self.is_in_place(&live) {
            return;
        }
        inner.gone_at = Some(Instant::now());
        let waits = live.view(Some(0)).spooled;
        tracing::error!(
            stream = %hex(&live.id), dir = %live.dir.display(), readings = waits,
            "files of the spool were removed under the running agent: of these readings, what the sink does not have yet and cannot be read any more is lost, and counted as damaged; beginning another stream"
        );
        let begun = self
            .lock_again()
            .and_then(|()| self.begin_next(&mut inner, &live));
        match begun {
            Ok(()) => {
                drop(inner);
                self.bump_news();
            }
            Err(error) => self.trouble(&live, &error),
        }
    }

    /// Whether files were found to be gone within the last minute.
    pub(super) fn lost_files(&self) -> bool {
        let gone_at = self.lock().gone_at;
        gone_at.is_some_and(|at| at.elapsed() < FULL_FOR)
    }

    fn is_in_place(&self, stream: &Stream) -> bool {
        !self.is_gone(&stream.dir.join(STATE)) && stream.journal.is_in_place()
    }

    fn is_gone(&self, path: &Path) -> bool {
        let found = self.shared.storage.open_to_read(path);
        found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// Without the file of its lock another agent could take the directory.
    fn lock_again(&self) -> Result<(), SpoolError> {
        let path = self.shared.dir.join("lock");
        if !self.is_gone(&path) {
            return Ok(());
        }
        let shared = &self.shared;
        let fault = |source| SpoolError::Io {
            doing: "lock again",
            path: path.clone(),
            source,
        };
        shared.storage.create_dir(&shared.dir).map_err(fault)?;
        let lock = shared.storage.lock(&path).map_err(fault)?;
        *shared.lock.lock().unwrap_or_else(PoisonError::into_inner) = lock;
        Ok(())
    }
}
