//! How much the dead letters take, and whether another one may come.
//!
//! In: what is kept and removed, and from time to time a look at the directory, for people remove letters
//! too. Out: a yes, or [`Full`]. A store that is full is said once, and once when it has room again; what is
//! not set aside stays in the spool, whose policy then decides.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Another letter would exceed `spool.dead_letter_max_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "dead letters take {bytes} of {max_bytes} bytes: what the sink refuses stays in the spool until letters are put back or removed (weir-agent spool ls), or spool.dead_letter_max_bytes is raised"
)]
pub(crate) struct Full {
    /// What they take.
    pub(crate) bytes: u64,
    /// What they may.
    pub(crate) max_bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Room {
    max_bytes: u64,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// What the letters take; None before the first look.
    bytes: Option<u64>,
    /// The room that the last letter turned away needs.
    wanted: Option<u64>,
}

impl Room {
    pub(super) fn new(max_bytes: u64) -> Room {
        let known = Mutex::default();
        Room { max_bytes, known }
    }

    /// What the letters take, if somebody has looked.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.known().bytes
    }

    /// What a look has found.
    pub(super) fn found(&self, bytes: u64) {
        let mut known = self.known();
        known.bytes = Some(bytes);
        if known
            .wanted
            .is_some_and(|more| bytes + more <= self.max_bytes)
        {
            known.wanted = None;
            tracing::info!(bytes, "there is room for dead letters again");
        }
    }

    /// Whether so much more may come.
    pub(super) fn admits(&self, more: u64) -> Result<(), Full> {
        let mut known = self.known();
        let full = Full {
            bytes: known.bytes.unwrap_or(0),
            max_bytes: self.max_bytes,
        };
        if full.bytes.saturating_add(more) <= self.max_bytes {
            return Ok(());
        }
        if known.wanted.replace(more).is_none() {
            tracing::error!(bytes = full.bytes, max_bytes = full.max_bytes, "{full}");
        }
        Err(full)
    }

    /// So much has come.
    pub(super) fn add(&self, bytes: u64) {
        let known = &mut self.known().bytes;
        *known = known.map(|before| before.saturating_add(bytes));
    }

    /// So much has gone.
    pub(super) fn remove(&self, bytes: u64) {
        let left = self.bytes().map(|before| before.saturating_sub(bytes));
        if let Some(left) = left {
            self.found(left);
        }
    }

    /// Set while a letter waits for room.
    pub(super) fn full(&self) -> Option<Full> {
        let known = self.known();
        known.wanted.map(|_| Full {
            bytes: known.bytes.unwrap_or(0),
            max_bytes: self.max_bytes,
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
