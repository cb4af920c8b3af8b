//! What can go wrong when a journal is opened, appended to or read.

use std::io;
use std::path::PathBuf;

use crate::handover::Refused;

/// Why a journal did not open. Content is never a reason.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The storage did not do what was asked of it.
    #[error("cannot {doing} {path}: {source}", path = path.display())]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the storage said.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("journal {dir} is in use by another process: stop that one, or give this one its own directory", dir = dir.display())]
    Locked {
        /// The journal's directory.
        dir: PathBuf,
    },
    /// It was written by a newer program.
    #[error(
        "{path} has journal format version {found}, this program reads up to {supported}: start the newer version again, or move the directory away", path = path.display()
    )]
    NewerVersion {
        /// The first file found to be newer.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version this program reads.
        supported: u32,
    },
}

/// Why a record was not accepted, or not committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// `max_bytes` is reached: release or drop something first.
    #[error("journal is full: its limit of bytes on disk is reached")]
    Full,
    /// `queue_bytes` wait for their commit: try again after the next one.
    #[error("journal is busy: too many bytes wait for their commit")]
    Busy,
    /// The disk has no room and the queue is full.
    #[error("disk is full: the journal cannot start another segment")]
    DiskFull,
    /// The record can never fit.
    #[error("record of {bytes} bytes is too large: the journal takes up to {max}")]
    TooLarge {
        /// Size of the body.
        bytes: usize,
        /// Largest body accepted.
        max: usize,
    },
    /// A write or sync failed; restart to go through recovery.
    #[error("journal accepts nothing more: {0}")]
    Poisoned(String),
    /// The journal was closed.
    #[error("journal is closed")]
    Closed,
}

/// Why a record could not be read. Damaged content is not a reason: it is a hole.
#[derive(Debug, thiserror::Error)]
#[error("cannot read journal segment {path}: {source}", path = path.display())]
pub struct ReadError {
    /// The segment.
    pub path: PathBuf,
    /// What the storage said.
    pub source: io::Error,
}

impl From<Refused> for AppendError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Self::Full,
            Refused::Busy => Self::Busy,
            Refused::DiskFull => Self::DiskFull,
            Refused::Poisoned(reason) => Self::Poisoned(reason.to_string()),
            Refused::Closed => Self::Closed,
        }
    }
}
