//! Why the spool did not do what was asked of it.

use std::io;
use std::path::PathBuf;

use weir_journal::{AppendError, OpenError, ReadError};

/// Why the spool did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The directory or a state file did not do what was asked of it.
    #[error("cannot {doing} {path}: {source}", path = path.display())]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another agent uses this data directory.
    #[error("spool {path} is in use by another agent: stop that one, or set WEIR_AGENT_DATA_DIR", path = path.display())]
    Locked {
        /// The spool's directory.
        path: PathBuf,
    },
    /// A stream's journal did not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A stream's journal could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A batch can never fit.
    #[error("batch does not fit the spool: {0}")]
    TooLarge(AppendError),
    /// A write or sync failed: only a restart goes through recovery.
    #[error("spool accepts nothing more, restart the agent: {0}")]
    Poisoned(String),
    /// [`Spool::finish`] was called.
    #[error("spool is closed")]
    Closed,
}

impl SpoolError {
    /// Whether there was no room on the disk: that passes.
    pub(crate) fn is_full(&self) -> bool {
        let (SpoolError::Io { source, .. } | SpoolError::Open(OpenError::Io { source, .. })) = self
        else {
            return false;
        };
        matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}

impl From<AppendError> for SpoolError {
    /// For an append that waits wherever waiting helps: what is left is final.
    fn from(error: AppendError) -> SpoolError {
        match error {
            AppendError::Poisoned(reason) => SpoolError::Poisoned(reason),
            AppendError::Closed => SpoolError::Closed,
            other => SpoolError::TooLarge(other),
        }
    }
}
