//! Data files that are not what was written, as far as anybody has found out.
//!
//! In: every file that was read whole, and a look now and then whether all are there ([`Store::look`]). Out:
//! what `/readyz`, `weir-sink files` and the metric say. A file that is found good again is forgotten, and so
//! is one that is live no more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Store;
use crate::catalog::{DataFile, LostFile};

/// Damaged files that are read again at each look, at most.
const READ_AGAIN: usize = 8;

/// One damaged file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: String,
    /// Whose rows.
    pub tenant: Arc<str>,
    /// Rows it should hold.
    pub rows: u64,
    /// What is wrong with it.
    pub why: String,
}

/// Those that are known, and those whose loss was accepted. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Damaged(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    known: BTreeMap<String, Damage>,
    lost: Vec<LostFile>,
}

impl Damaged {
    /// What is known to be damaged, in order of path.
    pub fn known(&self) -> Vec<Damage> {
        self.lock().known.values().cloned().collect()
    }

    /// How many that is.
    pub fn count(&self) -> usize {
        self.lock().known.len()
    }

    /// What was accepted as lost.
    pub fn lost(&self) -> Vec<LostFile> {
        self.lock().lost.clone()
    }

    /// What the catalog has of those.
    pub fn restore(&self, lost: Vec<LostFile>) {
        self.lock().lost = lost;
    }

    /// Its loss was accepted.
    pub fn accept(&self, lost: LostFile) {
        let mut inner = self.lock();
        inner.known.remove(&lost.path);
        inner.lost.push(lost);
    }

    pub(crate) fn note(&self, file: &DataFile, why: String) {
        let damage = Damage {
            path: file.path.clone(),
            tenant: Arc::clone(&file.tenant),
            rows: file.rows,
            why: why.clone(),
        };
        if self
            .lock()
            .known
            .insert(file.path.clone(), damage)
            .is_none()
        {
            let (path, rows) = (&file.path, file.rows);
            tracing::error!(
                path,
                rows,
                why,
                "a data file is missing or damaged: restore it from a backup; if there is none, `weir-sink files \
                 accept-loss` lets queries go on without it"
            );
        }
    }

    pub(super) fn good(&self, file: &DataFile) {
        if self.lock().known.remove(&file.path).is_some() {
            tracing::info!(path = file.path, "a damaged data file is whole again");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Looks whether every file of `live` is there with its size, and again at some that were damaged.
    pub(crate) async fn look(&self, live: &[DataFile]) {
        let damaged = self.damaged();
        let is_live = |path: &String| live.iter().any(|file| file.path == *path);
        damaged.lock().known.retain(|path, _| is_live(path));
        let known: Vec<String> = damaged.lock().known.keys().cloned().collect();
        for file in live.iter().filter(|file| !known.contains(&file.path)) {
            match self.size(&file.path).await {
                Ok(Some(bytes)) if bytes == file.bytes => {}
                Ok(Some(bytes)) => {
                    let why = format!("{bytes} bytes long, not {}", file.bytes);
                    damaged.note(file, why);
                }
                Ok(None) => damaged.note(file, "missing".to_owned()),
                // The store is away: that is not the file's fault.
                Err(_) => return,
            }
        }
        for path in known.iter().take(READ_AGAIN) {
            if let Some(file) = live.iter().find(|file| file.path == *path) {
                // Says itself what came of it.
                let _ = self.whole(file).await;
            }
        }
    }
}
