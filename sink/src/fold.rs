//! Everything behind the journal: a deterministic fold of its records, in order, into files,
//! latest values and the ledger.
//!
//! ```text
//! ingest --offer--> intake --.
//!                             >-- pull --> State::apply --> rows in memory --freeze--> flush
//! journal ------- reader ----'                |                                        |
//!                                             `--> views for queries      files, catalog, release
//! ```
//!
//! In: records the journal says are durable, in the order of their numbers, either handed over
//! by ingest already decoded or read from the journal. Out: Parquet files and one catalog
//! transaction per flush, which moves the position; then the journal is released.
//!
//! Promises:
//! - Replaying the journal from the committed position gives the same state, files apart from
//!   their names, and ledger. Nothing is read but records and committed state.
//! - A record at or below its stream's watermark is never stored again.
//! - A record that cannot be taken in is set aside in the same transaction and counted; the
//!   next one is folded. So is one on which the program panics, here or when it is written.
//! - While store or catalog fail, memory is bounded: at `max_buffer_bytes` the fold stops taking
//!   records and the journal fills. It goes on by itself once they are back.

mod aside;
mod buffers;
mod caution;
mod clocks;
mod definitions;
mod error;
mod flush;
mod intake;
pub(crate) mod latest;
mod parcel;
mod prepare;
mod pull;
mod readings;
pub(crate) mod rows;
mod runner;
pub(crate) mod series;
mod snapshot;
mod state;
#[cfg(test)]
pub(crate) mod tests;
mod view;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use weir_fault::{Mutant, mutant};
use weir_journal::Journal;
use weir_process::clock::Clock;
use weir_process::health::Stage;
use weir_proto::{batch, v1};

pub(crate) use self::clocks::CLOCKS_BEGIN_NS;
pub use self::error::FoldError;
pub use self::flush::FlushCounts;
pub(crate) use self::flush::INTENT_NS;
pub use self::parcel::{Enclosed, Parcel};
pub use self::state::FoldCounts;
pub use self::view::View;
pub use crate::catalog::StreamLedger;

use self::intake::Intake;
use self::runner::Runner;
use self::state::State;
use self::view::Views;
use crate::catalog::{Catalog, CatalogError, DataFile, Position, SeriesKey};
use crate::envelope::Envelope;
use crate::store::Store;

/// One journaled record, handed over by ingest.
#[derive(Debug)]
pub struct Arrival {
    /// Its number in the journal.
    pub number: u64,
    /// What stands there.
    pub envelope: Envelope,
    /// The batch inside, if ingest has already decoded and checked it.
    pub decoded: Option<Decoded>,
}

/// A batch as ingest has checked it.
#[derive(Debug)]
pub struct Decoded {
    /// Its header.
    pub header: v1::BatchHeader,
    /// Series it uses for the first time.
    pub series_defined: Vec<v1::Series>,
    /// Its readings.
    pub readings: batch::Readings,
}

/// The fold's limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldConfig {
    /// Rows that make a flush.
    pub flush_rows: usize,
    /// No row waits longer than this for its flush to begin.
    pub flush_interval: Duration,
    /// Bytes of rows not yet in files; beyond it no record is taken.
    pub max_buffer_bytes: usize,
    /// Bytes of decoded records that may wait for the fold.
    pub max_intake_bytes: usize,
    /// The pauses between failed flushes, from the first to the longest.
    pub retry: (Duration, Duration),
}

impl Default for FoldConfig {
    fn default() -> Self {
        Self {
            flush_rows: 500_000,
            flush_interval: Duration::from_secs(10),
            max_buffer_bytes: 256 << 20,
            max_intake_bytes: 64 << 20,
            // No longer than an operator who has brought the store back wants to wait.
            retry: (Duration::from_millis(200), Duration::from_secs(4)),
        }
    }
}

/// Counts records between the catalog's position and the journal's beginning as lost, so that
/// [`Fold::open`] no longer answers [`FoldError::Missing`]. Their readings stay unexplained in
/// the ledger. Answers the range, or nothing when none is missing. For the operator only.
pub async fn recover(
    journal: &Journal,
    catalog: &Catalog,
) -> Result<Option<(u64, u64)>, CatalogError> {
    let position = catalog.position().await?;
    let position = position.filter(|found| found.journal_id == journal.id());
    let (from, oldest) = (
        position.map_or(1, |found| found.number + 1),
        journal.oldest(),
    );
    if oldest <= from {
        return Ok(None);
    }
    if position.is_none() {
        // A catalog that never saw this journal stands at its beginning.
        catalog.take_over(journal.id()).await?;
    }
    catalog.give_up(journal.id(), oldest - 1).await?;
    Ok(Some((from, oldest - 1)))
}

/// What the fold works with.
pub struct FoldParts {
    /// Where records come from.
    pub journal: Journal,
    /// Where the position is.
    pub catalog: Catalog,
    /// Where files go.
    pub store: Store,
    /// For names and dates of files; the fold itself reads no clock.
    pub clock: Arc<dyn Clock>,
    /// How the fold says how it fares.
    pub stage: Stage,
    /// Its limits.
    pub config: FoldConfig,
}

/// The fold before it runs.
pub struct Fold {
    parts: FoldParts,
    shared: Arc<Shared>,
    committed: Position,
}

struct Shared {
    intake: Intake,
    state: Mutex<State>,
    views: Views,
    flush_now: Notify,
    flushes: Mutex<FlushCounts>,
}

/// Asks the fold and hands it records. Cloning gives another handle to the same.
#[derive(Clone)]
pub struct FoldHandle {
    shared: Arc<Shared>,
    journal: Journal,
}

impl Fold {
    /// Takes the journal over at the catalog's position. Nothing is folded before [`Fold::run`].
    pub async fn open(parts: FoldParts) -> Result<Self, FoldError> {
        let committed = parts.catalog.take_over(parts.journal.id()).await?;
        let position = committed.number;
        let (oldest, next) = (parts.journal.oldest(), parts.journal.next());
        if next <= position {
            return Err(FoldError::RolledBack { position, next });
        }
        if oldest > position + 1 {
            return Err(FoldError::Missing { position, oldest });
        }
        // A record too late, where there is one to miss.
        let late = mutant(Mutant::ReplayFromWrongPosition) && next > position + 1;
        let position = position + u64::from(late);
        let loaded = parts.catalog.load().await?;
        let state =
            State::load(committed.journal_id, position, loaded).map_err(FoldError::Damaged)?;
        let streams = state.streams.len();
        tracing::info!(
            position,
            behind = next - 1 - position,
            streams,
            "fold takes the journal over"
        );
        let shared = Arc::new(Shared {
            intake: Intake::new(parts.config.max_intake_bytes, position),
            state: Mutex::new(state),
            views: Views::default(),
            flush_now: Notify::new(),
            flushes: Mutex::default(),
        });
        Ok(Self {
            parts,
            shared,
            committed,
        })
    }

    /// For everyone else.
    pub fn handle(&self) -> FoldHandle {
        FoldHandle {
            shared: Arc::clone(&self.shared),
            journal: self.parts.journal.clone(),
        }
    }

    /// What it works with: catalog, store and clock.
    pub(crate) fn parts(&self) -> (Catalog, Store, Arc<dyn Clock>) {
        let FoldParts {
            catalog,
            store,
            clock,
            ..
        } = &self.parts;
        (catalog.clone(), store.clone(), Arc::clone(clock))
    }

    /// The lease the fold works under; the sweep of orphans needs it.
    pub fn lease_epoch(&self) -> i64 {
        self.committed.lease_epoch
    }

    /// Folds until told to stop, then flushes once more. Ends early only when another sink has
    /// taken over or a file cannot be made; the stage says so.
    pub async fn run(self, token: CancellationToken) -> Result<(), FoldError> {
        let stage = self.parts.stage.clone();
        let result = Runner::new(self, token).run().await;
        if let Err(error) = &result {
            tracing::error!(%error, "fold has ended");
            stage.dead(error.to_string());
        }
        result
    }
}

impl FoldHandle {
    /// Hands over records that were appended to the journal, durable or not yet. Never waits:
    /// what does not fit is read from the journal later.
    pub fn offer(&self, parcel: impl Into<Parcel>) {
        self.shared.intake.offer(parcel.into());
    }

    /// One consistent snapshot of a tenant's files, fresh rows and latest values. Takes as long
    /// as copying the rows that are new since the last one: not for the runtime's own threads
    /// while a backlog is folded.
    pub fn view(&self, tenant: &str) -> Arc<View> {
        self.shared.views.view(tenant, true, &self.shared.state)
    }

    /// The same without latest values, which take longer the more series there are.
    pub fn view_of_rows(&self, tenant: &str) -> Arc<View> {
        self.shared.views.view(tenant, false, &self.shared.state)
    }

    /// The one or the other where it is the last one still, without a wait.
    pub fn view_at_hand(&self, tenant: &str, with_latest: bool) -> Option<Arc<View>> {
        let state = &self.shared.state;
        self.shared.views.at_hand(tenant, with_latest, state)
    }

    /// Every stream as far as it is folded.
    pub fn streams(&self) -> Vec<StreamLedger> {
        self.streams_where(|_| true)
    }

    /// Those of them that are this tenant's.
    pub fn streams_of(&self, tenant: &str) -> Vec<StreamLedger> {
        self.streams_where(|ledger| *ledger.tenant == *tenant)
    }

    fn streams_where(&self, wanted: impl Fn(&StreamLedger) -> bool) -> Vec<StreamLedger> {
        let state = self.shared.state();
        let ledgers = state.streams.iter().map(|stream| &stream.ledger);
        ledgers.filter(|ledger| wanted(ledger)).cloned().collect()
    }

    /// Every series that was ever stored, and those that stand for what was not, for a count at the start.
    pub(crate) fn each_series(&self, mut take: impl FnMut(&SeriesKey)) {
        for (_, key) in self.shared.state().series.since(0) {
            take(key);
        }
    }

    /// The journal it reads.
    pub(crate) fn journal_id(&self) -> [u8; 16] {
        self.journal.id()
    }

    /// Everything through this journal number is folded.
    pub fn position(&self) -> u64 {
        self.shared.state().position
    }

    /// Durable journal records that are not folded yet.
    pub fn behind(&self) -> u64 {
        let durable = self.journal.progress().borrow().durable_through;
        durable.saturating_sub(self.position())
    }

    /// Rows and bytes that are not in files yet.
    pub fn buffered(&self) -> (usize, usize) {
        let state = self.shared.state();
        let frozen: usize = state.frozen.iter().map(|(_, one)| one.rows.len()).sum();
        (
            state.current.row_count + frozen,
            state.current.bytes + state.frozen_bytes,
        )
    }

    /// What was folded since the process started.
    pub fn counts(&self) -> FoldCounts {
        self.shared.state().counts
    }

    /// What was flushed since the process started.
    pub fn flushes(&self) -> FlushCounts {
        *self.shared.flushes.lock().expect("counting does not panic")
    }

    /// Records that did not fit between ingest and the fold and are read from the journal.
    pub fn intake_refused(&self) -> u64 {
        self.shared.intake.refused()
    }

    /// Asks for a flush now, whatever the limits say.
    pub fn flush(&self) {
        self.shared.flush_now.notify_one();
    }

    /// Files that views show. Merges and expiry start from these and not from the catalog: a
    /// file that is committed and not shown yet must not be replaced before it is.
    pub(crate) fn files(&self) -> Arc<Vec<DataFile>> {
        Arc::clone(&self.shared.state().files)
    }

    /// Takes files out of the view and puts others in, after the catalog has done so.
    pub(crate) fn replace_files(&self, gone: &[DataFile], new: Vec<DataFile>) {
        let mut state = self.shared.state();
        let mut files: Vec<DataFile> = state
            .files
            .iter()
            .filter(|file| !gone.iter().any(|one| one.path == file.path))
            .cloned()
            .collect();
        files.extend(new);
        state.files = Arc::new(files);
        state.version += 1;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("the fold does not panic while it holds its state")
    }
}
