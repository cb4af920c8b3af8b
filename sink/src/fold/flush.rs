//! From frozen rows to committed files.
//!
//! ```text
//! freeze -> encode -> intents -> put every file -> one catalog transaction -> thaw, release
//! ```
//!
//! What was frozen is written under the same names as often as it takes: trying again after a
//! failure of unknown outcome puts the same bytes in the same place, and the catalog's
//! compare-and-set lets the commit happen once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use weir_fault::{Mutant, Point, mutant, point};
use weir_process::clock::Clock;
use weir_process::health::Stage;
use weir_process::{random, work};

use super::rows::SeriesRows;
use super::snapshot;
use super::state::State;
use super::view::FrozenRows;
use super::{FoldError, Shared};
use crate::catalog::{Catalog, CatalogError, Commit, DataFile, Position, SeriesKey};
use crate::store::Store;
use crate::writer::{self, Provenance, WriteError};

/// How long an intent protects its object from the sweep of a later lease.
pub(crate) const INTENT_NS: i64 = 10 * 60 * 1_000_000_000;

/// Counts for metrics, since the process started.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FlushCounts {
    /// Flushes committed.
    pub flushes: u64,
    /// Attempts that failed and were tried again.
    pub failures: u64,
    /// Files committed.
    pub files: u64,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// One flush's worth of state, no longer changing.
pub(super) struct Frozen {
    pub(super) rows: FrozenRows,
    pub(super) commit: Commit,
    pub(super) provenance: Provenance,
}

/// What the loop has to know of a flush that is committed.
pub(super) struct Flushed {
    pub(super) through: u64,
    pub(super) files: Vec<DataFile>,
}

/// What a flush works with.
pub(super) struct Flush {
    pub(super) catalog: Catalog,
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stage: Stage,
    pub(super) shared: Arc<Shared>,
    pub(super) retry: (Duration, Duration),
    pub(super) token: CancellationToken,
}

impl State {
    /// Sets what changed aside for a flush. The rows stay visible.
    pub(super) fn freeze(&mut self, expected: Position, now_ns: i64) -> Frozen {
        let buffers = std::mem::take(&mut self.current);
        self.last = None;
        let rows = (0u32..)
            .zip(buffers.rows)
            .filter(|(_, rows)| !rows.is_empty());
        let rows = rows.map(|(number, rows)| {
            let key = Arc::clone(self.series.key(number));
            (number, SeriesRows { key, rows })
        });
        self.frozen = Arc::new(rows.collect());
        self.frozen_bytes = buffers.bytes;
        let new_series = self.series.since(self.series_frozen);
        let series = new_series
            .map(|(number, key)| (number, SeriesKey::clone(key)))
            .collect();
        self.series_frozen = self.series.len();
        let streams: Vec<_> = buffers
            .streams
            .iter()
            .map(|number| (*number, self.streams[*number as usize].ledger.clone()))
            .collect();
        let provenance = Provenance {
            journal_id: self.journal_id,
            from: expected.number,
            through: self.position,
            streams: streams
                .iter()
                .map(|(_, s)| (s.stream_id, s.watermark))
                .collect(),
        };
        let commit = Commit {
            expected,
            through: self.position,
            files: Vec::new(),
            streams,
            series,
            definitions: buffers.definitions,
            snapshot: (
                snapshot::SNAPSHOT_FORMAT,
                snapshot::encode(&self.latest, &self.clocks),
            ),
            dead: buffers.dead,
            losses: buffers.losses,
            now_ns,
        };
        Frozen {
            rows: Arc::clone(&self.frozen),
            commit,
            provenance,
        }
    }

    /// The frozen rows are in `files` now.
    pub(super) fn thaw(&mut self, files: Vec<DataFile>) {
        self.frozen = FrozenRows::default();
        self.frozen_bytes = 0;
        if !files.is_empty() {
            Arc::make_mut(&mut self.files).extend(files);
        }
        self.forget_unused();
        self.version += 1;
    }

    /// Puts the committed state in place of this one; what it counted since the start stays. Files are those that
    /// views show: merges and expiry go by them.
    pub(super) fn begin_anew(&mut self, new: Self) {
        let old = std::mem::replace(self, new);
        self.version = old.version + 1;
        self.files = old.files;
        self.counts = old.counts;
    }

    /// Whether no more rows may come in before a flush is done.
    pub(super) fn is_full(&self, max_bytes: usize) -> bool {
        self.current.bytes + self.frozen_bytes >= max_bytes
    }
}

impl Flush {
    /// Writes and commits, again and again until it is done, told to stop, or cannot be.
    pub(super) async fn run(self, frozen: Frozen) -> Result<Flushed, FoldError> {
        let Frozen {
            rows,
            mut commit,
            provenance,
        } = frozen;
        let now_ms = u64::try_from(commit.now_ns / 1_000_000).unwrap_or(0);
        let encoded = work::run(move || {
            let rows: Vec<&SeriesRows> = rows.iter().map(|(_, one)| one).collect();
            let name = || writer::name(now_ms);
            writer::write_by_day(&rows, &provenance, name)
        });
        let files = encoded
            .await
            .map_err(|e| WriteError::Foreign(format!("writer: {e}")))??;
        commit.files = files.iter().map(|(file, _)| file.clone()).collect();
        let mut pause = self.retry.0;
        loop {
            let error = match self.attempt(&files, &commit).await {
                Ok(()) => return Ok(self.count(commit)),
                Err(error @ FoldError::Catalog(CatalogError::Moved { .. })) => return Err(error),
                Err(error) => error,
            };
            self.shared
                .flushes
                .lock()
                .expect("counting does not panic")
                .failures += 1;
            tracing::warn!(%error, retry_in = ?pause, "flush failed, rows stay in memory and journal");
            self.stage.failing(format!("flush: {error}"));
            tokio::select! {
                biased;
                () = self.token.cancelled() => return Err(FoldError::Stopped),
                () = tokio::time::sleep(jittered(pause)) => {}
            }
            pause = (pause * 2).min(self.retry.1);
        }
    }

    pub(super) async fn attempt(
        &self,
        files: &[(DataFile, Bytes)],
        commit: &Commit,
    ) -> Result<(), FoldError> {
        if !files.is_empty() {
            let paths: Vec<String> = files.iter().map(|(file, _)| file.path.clone()).collect();
            let expires_ns = self.clock.wall_ns().saturating_add(INTENT_NS);
            self.catalog
                .intend(&paths, commit.expected.lease_epoch, expires_ns)
                .await?;
            point(Point::SinkIntended);
        }
        for (file, bytes) in files {
            let put = self.store.put(&file.path, bytes.clone()).await;
            if !mutant(Mutant::CommitWithoutFile) {
                put?;
            }
        }
        point(Point::StorePut);
        match self.catalog.commit(commit).await {
            Ok(()) => Ok(()),
            Err(error) => self.settle(commit, error).await,
        }
    }

    /// After an error: did it happen all the same?
    async fn settle(&self, commit: &Commit, error: CatalogError) -> Result<(), FoldError> {
        let found = self.catalog.position().await?;
        let done = Position {
            number: commit.through,
            ..commit.expected
        };
        if found == Some(done) {
            return Ok(());
        }
        if found == Some(commit.expected) {
            return Err(error.into());
        }
        Err(CatalogError::Moved {
            found,
            expected: commit.expected,
        }
        .into())
    }

    fn count(&self, commit: Commit) -> Flushed {
        let mut counts = self.shared.flushes.lock().expect("counting does not panic");
        counts.flushes += 1;
        for file in &commit.files {
            counts.files += 1;
            counts.rows += file.rows;
            counts.bytes += file.bytes;
        }
        tracing::debug!(
            through = commit.through,
            files = commit.files.len(),
            rows = commit.files.iter().map(|file| file.rows).sum::<u64>(),
            "flush committed"
        );
        Flushed {
            through: commit.through,
            files: commit.files,
        }
    }
}

/// Between half of `pause` and all of it, so that many sinks do not beat in step.
fn jittered(pause: Duration) -> Duration {
    pause / 2 + random::below(pause / 2)
}
