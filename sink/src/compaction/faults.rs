//! Files that merges leave alone because they cannot be read as they were written.
//!
//! In: a file and what is wrong with it. Out: one line of the log per file, and the live files
//! without those. Each is looked at again after an hour, in case it has been restored; a file that
//! is no longer live is forgotten.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::catalog::DataFile;

const AGAIN_NS: i64 = 3600 * 1_000_000_000;

/// When each may be tried again, by path.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<HashMap<String, i64>>);

impl Faults {
    /// The files of `live` that may be merged now.
    pub(super) fn sound(&self, live: &[DataFile], now_ns: i64) -> Vec<DataFile> {
        let mut faults = self.lock();
        if !faults.is_empty() {
            faults.retain(|path, _| live.iter().any(|file| file.path == *path));
        }
        let sound = |file: &&DataFile| faults.get(&file.path).is_none_or(|again| *again <= now_ns);
        live.iter().filter(sound).cloned().collect()
    }

    /// Leaves the file out from now on; only the first time is told.
    pub(super) fn leave_out(&self, path: &str, why: &dyn Display, now_ns: i64) {
        let again = now_ns.saturating_add(AGAIN_NS);
        if self.lock().insert(path.to_owned(), again).is_none() {
            tracing::error!(
                path,
                error = %why,
                "file is left out of merges: restore it from a backup, `weir-sink ledger --audit` \
                 shows what it held"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
