//! What leaves the store: days that are older than they need be, inputs of merges, and objects
//! that never became visible.
//!
//! | object | leaves when |
//! |---|---|
//! | a file whose newest row was received more than `retention_days` whole days ago | its rows are counted `expired`, then as below |
//! | a file that is no longer live | the longest query that may still read it is over |
//! | an object somebody meant to write under an older lease | its intent has expired |
//! | an object nobody knows | never; it is reported |

use std::sync::Arc;
use std::time::Duration;

use weir_process::clock::Clock;

use crate::catalog::{Catalog, DataFile};
use crate::fold::rows::DAY_NS;
use crate::fold::{FoldError, FoldHandle};
use crate::store::Store;

#[cfg(test)]
mod tests;

/// Removes what need not be kept.
pub(crate) struct Retention {
    pub(crate) catalog: Catalog,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) fold: FoldHandle,
    pub(crate) lease_epoch: i64,
    /// Whole days, counted from when rows were received; `None` keeps all.
    pub(crate) days: Option<u32>,
    /// Longer than any query takes.
    pub(crate) grace: Duration,
}

impl Retention {
    /// Takes whole days out of sight; answers how many rows expired.
    pub(crate) async fn expire(&self) -> Result<u64, FoldError> {
        let Some(days) = self.days else { return Ok(0) };
        let now_ns = self.clock.wall_ns();
        let first_kept = now_ns.div_euclid(DAY_NS) - i64::from(days);
        let old: Vec<DataFile> = self
            .fold
            .files()
            .iter()
            .filter(|file| file.max_received_ns.div_euclid(DAY_NS) < first_kept)
            .cloned()
            .collect();
        if old.is_empty() {
            return Ok(0);
        }
        let taken = self.catalog.expire_files(&old, now_ns).await?;
        self.fold.replace_files(&taken, Vec::new());
        let rows = taken.iter().map(|file| file.rows).sum();
        tracing::info!(files = taken.len(), rows, days, "files expired");
        Ok(rows)
    }

    /// Deletes the objects of files that nobody can be reading any more.
    pub(crate) async fn delete_removed(&self) -> Result<usize, FoldError> {
        let grace = i64::try_from(self.grace.as_nanos()).unwrap_or(i64::MAX);
        let before = self.clock.wall_ns().saturating_sub(grace);
        let paths = self.catalog.removed_before(before).await?;
        self.delete(&paths).await?;
        self.catalog.forget_files(&paths).await?;
        Ok(paths.len())
    }

    /// Deletes what a sink that is gone meant to write and never committed.
    pub(crate) async fn sweep(&self) -> Result<usize, FoldError> {
        let paths = self
            .catalog
            .orphans(self.lease_epoch, self.clock.wall_ns())
            .await?;
        self.delete(&paths).await?;
        self.catalog.forget_intents(&paths).await?;
        if !paths.is_empty() {
            tracing::info!(
                objects = paths.len(),
                "objects swept that never became visible"
            );
        }
        Ok(paths.len())
    }

    /// Objects the catalog knows nothing of. They are reported, never deleted.
    pub(crate) async fn unknown(&self) -> Result<Vec<String>, FoldError> {
        // The store first: what is written in between has its intent by then.
        let listed = self.store.list().await?;
        let known = self.catalog.known_paths().await?;
        let unknown = |path: &String| {
            !known.contains(path) && !known.contains(path.trim_end_matches(".part"))
        };
        let unknown: Vec<String> = listed.into_iter().filter(unknown).collect();
        if let Some(first) = unknown.first() {
            tracing::warn!(
                objects = unknown.len(),
                first,
                "the store holds objects the catalog does not know"
            );
        }
        Ok(unknown)
    }

    async fn delete(&self, paths: &[String]) -> Result<(), FoldError> {
        for path in paths {
            self.store.delete(path).await?;
        }
        Ok(())
    }
}
