//! What goes on behind the fold: merging small files, expiring old days, sweeping orphans, and a look now and
//! then whether every file is still there.
//!
//! One task, one step after the other, so that merge and retention never race within a sink;
//! against another sink the catalog's transactions decide. A step that fails is tried again at
//! the next tick: nothing here can lose a reading.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use weir_process::health::Stage;

use crate::compaction::{Compactor, Faults, Journals};
use crate::fold::{Fold, FoldError};
use crate::retention::Retention;

/// How often there is a look whether all files are there.
const LOOK_EVERY_NS: u64 = 60_000_000_000;

/// The limits of maintenance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaintenanceConfig {
    /// How often there is a look at what can be done.
    pub interval: Duration,
    /// So many small files of a day make a merge.
    pub min_files: usize,
    /// No merge takes more rows than this into memory.
    pub max_merge_rows: u64,
    /// Whole days rows are kept, counted from when they were received; `None` keeps all.
    pub retention_days: Option<u32>,
    /// How long an object outlives its removal: more than any query takes.
    pub grace: Duration,
}

impl Default for MaintenanceConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(15),
            min_files: 8,
            max_merge_rows: 2 << 20,
            retention_days: None,
            grace: Duration::from_secs(300),
        }
    }
}

/// Maintenance before it runs.
pub struct Maintenance {
    compactor: Compactor,
    retention: Retention,
    interval: Duration,
    /// Says which files are damaged.
    stage: Stage,
    /// By the monotonic clock.
    looked_at: Option<u64>,
}

impl Maintenance {
    /// Of the store that `fold` writes to, under its lease.
    pub fn new(fold: &Fold, stage: Stage, config: MaintenanceConfig) -> Self {
        let (catalog, store, clock) = fold.parts();
        let lease_epoch = fold.lease_epoch();
        let compactor = Compactor {
            catalog: catalog.clone(),
            store: store.clone(),
            clock: Arc::clone(&clock),
            fold: fold.handle(),
            lease_epoch,
            min_files: config.min_files,
            max_rows: config.max_merge_rows,
            faults: Faults::default(),
            journals: Journals::default(),
            unsettled: None,
        };
        let retention = Retention {
            catalog,
            store,
            clock,
            fold: fold.handle(),
            lease_epoch,
            days: config.retention_days,
            grace: config.grace,
        };
        Self {
            compactor,
            retention,
            interval: config.interval,
            stage,
            looked_at: None,
        }
    }

    /// Works until told to stop.
    pub async fn run(mut self, token: CancellationToken) {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut first = true;
        loop {
            tokio::select! {
                biased;
                () = token.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if let Err(error) = self.round(&token, first).await {
                tracing::warn!(%error, "maintenance failed, will try again");
            }
            first = false;
            self.look().await;
        }
    }

    /// Whether the files are there, and what is to be said of them.
    async fn look(&mut self) {
        let Compactor {
            store, clock, fold, ..
        } = &self.compactor;
        let now_ns = clock.monotonic_ns();
        let is_due = |at: u64| now_ns.saturating_sub(at) >= LOOK_EVERY_NS;
        if self.looked_at.is_none_or(is_due) {
            self.looked_at = Some(now_ns);
            store.look(&fold.files()).await;
        }
        let known = store.damaged().known();
        match known.first() {
            None => self.stage.ok(),
            Some(first) => self.stage.note(format!(
                "{} data files are missing or damaged, the first is {} ({}): see `weir-sink files`",
                known.len(),
                first.path,
                first.why
            )),
        }
    }

    async fn round(&mut self, token: &CancellationToken, first: bool) -> Result<(), FoldError> {
        self.retention.sweep().await?;
        if first {
            self.retention.unknown().await?;
        }
        self.retention.expire().await?;
        self.retention.delete_removed().await?;
        while !token.is_cancelled() && self.compactor.step().await? {}
        Ok(())
    }
}
