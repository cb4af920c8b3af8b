//! The spool: every reading that was batched, on disk, until the sink has it.
//!
//! In: encoded batches, and counts of readings that were lost before batching. Out: records in order
//! of their sequence for the sender, and the books that make the ledger. It promises:
//!
//! * what was appended and committed survives a crash and leaves only after the sink's ack;
//! * every reading gets a place in exactly one sequence, whatever the overflow policy does;
//! * a drop is provisional until the sink has acknowledged the `Skip` that says so;
//! * one opening of the spool is one stream with its own random id, so that a restored or cloned
//!   disk can never pass new readings off as old ones.
//!
//! On disk, under `<data_dir>/spool`:
//!
//! | name | content |
//! |---|---|
//! | `lock` | locked by the agent that has the spool open |
//! | `<order>-<stream id>/` | one stream: `order` is 10 decimal digits and rises with every stream, the id is 32 hex digits |
//! | `gone-<order>-<stream id>/` | a stream on its way out; removed at open |
//!
//! A stream's directory is a journal ([`weir_journal`] documents its files) whose id is the stream id
//! and whose record number is the sequence, with the file `state` beside it (see `spool/state.rs`).
//! A record of kind 1 is an encoded `weir.v1.Record` holding a `Batch` or a `Skip`. The preamble of
//! each segment is an encoded `Record` holding `Definitions`: every series the segment may use.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use weir_journal::watch;
use weir_journal::{Disk, Storage};
use weir_process::clock::Clock;
use weir_process::logging::Throttle;
use weir_proto::batch::Encoded;
use weir_proto::v1;

use crate::dead_letter::DeadLetters;
use crate::ledger;
use pressure::Pressure;

mod append;
mod books;
mod content;
mod directory;
mod dropping;
mod error;
mod finish;
mod gone;
pub(crate) mod inspect;
mod look;
mod metrics;
mod origin;
mod overflow;
mod pressure;
mod recover;
mod renew;
mod replay;
mod retire;
mod state;
mod stream;
mod survey;
mod tend;
pub(crate) mod verify;

pub(crate) use content::{Content, content};
pub(crate) use directory::hex;
pub(crate) use dropping::{Dropping, Pending};
pub use error::SpoolError;
pub(crate) use pressure::Cause;
pub(crate) use replay::Replayed;
pub(crate) use stream::Stream;

#[cfg(test)]
pub(crate) mod tests;

/// The journal's kind of a record: an encoded `weir.v1.Record`.
pub(crate) const RECORD_KIND: u8 = 1;

/// For how long a spool counts as full after it was.
const FULL_FOR: Duration = Duration::from_secs(60);

/// What the spool does with a batch when it is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Waits for room; the samplers then miss ticks, and count them.
    Block,
    /// Gives up the oldest segment that is not on its way to the sink.
    DropOldest,
    /// Gives up the batch.
    DropNewest,
}

/// What a spool is opened with.
#[derive(Clone, Debug)]
pub struct SpoolConfig {
    /// The spool lives in `<data_dir>/spool`.
    pub data_dir: PathBuf,
    /// Most bytes on disk over all streams.
    pub max_bytes: u64,
    /// Bytes of one segment: the grain in which space is given back. At most an eighth of the limit is used.
    pub segment_bytes: u64,
    /// What happens at the limit.
    pub overflow: Overflow,
    /// How long a batch may wait for its commit; zero commits each at once.
    pub commit_interval: Duration,
    /// Most bytes of batches that were set aside, beside the spool.
    pub dead_letter_max_bytes: u64,
}

/// One batch on its way into the spool.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The payload and what its header says of it.
    pub encoded: Encoded,
    /// Series this batch is the first to use. Refs count up from 1 and are never reused.
    pub series_defined: Vec<v1::Series>,
    /// Monotonic clock when the batch's first reading was taken.
    pub monotonic_start_ns: u64,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It has this sequence, and is durable after the next commit.
    Stored {
        /// Its sequence in the current stream.
        sequence: u64,
    },
    /// The spool was full and its policy gave this batch up; its readings are counted.
    Dropped,
}

/// What runs the writers of the spool's journals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// A thread each: a sync of the disk holds up nobody else.
    Threads,
    /// A task each, on the runtime that opens the spool, for a simulation: its disk takes so long between the write of a
    /// group and its sync.
    Tasks(Duration),
}

/// What a spool stands on.
#[derive(Clone)]
pub struct Ground {
    /// Where its files are.
    pub storage: Arc<dyn Storage>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What runs its writers.
    pub writers: Writers,
}

/// The spool. Cloning gives another handle to the same.
#[derive(Clone)]
pub struct Spool {
    pub(crate) shared: Arc<Shared>,
}

/// What all handles share.
pub(crate) struct Shared {
    pub(crate) config: SpoolConfig,
    pub(crate) dir: PathBuf,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) writers: Writers,
    inner: Mutex<Inner>,
    /// Rises when space may have been given back: appenders wait on it.
    room: watch::Sender<u64>,
    /// Rises when the sender should look again at what there is to do.
    news: watch::Sender<u64>,
    /// Appenders waiting for room.
    starved: AtomicUsize,
    /// How long a batch may wait for its commit now, in nanoseconds.
    commit_interval: AtomicU64,
    /// An appender waits until nothing is in flight, to drop the oldest segment.
    drop_wanted: AtomicBool,
    /// Where refused batches are kept: beside the spool, on the same disk.
    letters: DeadLetters,
    /// What is said while there is no room.
    pressure: Pressure,
    /// Of what is said of a disk that does not let room be made.
    trouble: Throttle,
    /// Held until the process ends, or anew where its file was removed.
    lock: Mutex<weir_journal::storage::Lock>,
}

/// What changes together.
pub(crate) struct Inner {
    /// Oldest first; the last one is live unless the spool is finished.
    pub(crate) streams: VecDeque<Arc<Stream>>,
    /// What is being copied and is not held yet: it takes room like the others.
    pub(crate) copies: Vec<Arc<Stream>>,
    pub(crate) next_order: u64,
    /// Readings given up and not yet in a Skip record, by reason number.
    pub(crate) lost: BTreeMap<i32, u64>,
    /// When the oldest of them was given up.
    pub(crate) lost_since: Option<Instant>,
    /// When that was last noted on the disk.
    pub(crate) noted: Option<Instant>,
    /// Definitions that left with a dropped batch; the next batch carries them.
    pub(crate) undelivered: Vec<v1::Series>,
    /// The streams with records on the wire over a live connection.
    pub(crate) in_flight: BTreeSet<[u8; 16]>,
    pub(crate) finished: bool,
    /// Readings of the batch that waits to be taken, and since when.
    pub(crate) waits: Option<(Instant, u64)>,
    /// When the files of the stream being written were last found to be gone.
    pub(crate) gone_at: Option<Instant>,
    /// When a batch was last refused for want of room.
    pub(crate) full_at: Option<Instant>,
    /// The books of streams delivered completely by this process.
    pub(crate) retired: ledger::Totals,
}

impl Spool {
    /// Opens the spool on the file system: recovers what earlier runs left and begins a new stream.
    ///
    /// # Errors
    /// The data directory cannot be used, or another agent uses it. Content is never a reason.
    pub fn open(config: SpoolConfig, clock: Arc<dyn Clock>) -> Result<Spool, SpoolError> {
        Spool::open_on(Arc::new(Disk), config, clock)
    }

    /// [`Spool::open`] on another storage.
    ///
    /// # Errors
    /// See [`Spool::open`].
    pub fn open_on(
        storage: Arc<dyn Storage>,
        config: SpoolConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Spool, SpoolError> {
        let ground = Ground {
            storage,
            clock,
            writers: Writers::Threads,
        };
        Spool::open_at(ground, config)
    }

    /// [`Spool::open`] on given ground. Within a runtime where the writers are tasks.
    ///
    /// # Errors
    /// See [`Spool::open`].
    pub fn open_at(ground: Ground, config: SpoolConfig) -> Result<Spool, SpoolError> {
        let Ground {
            storage,
            clock,
            writers,
        } = ground;
        let dir = config.data_dir.join("spool");
        let recovered = recover::recover(&storage, &dir, &config)?;
        let letters = DeadLetters::on(
            Arc::clone(&storage),
            &config.data_dir,
            config.dead_letter_max_bytes,
        );
        let shared = Shared {
            dir,
            letters,
            storage,
            clock,
            writers,
            inner: Mutex::new(Inner {
                streams: recovered.streams,
                copies: Vec::new(),
                next_order: recovered.next_order,
                lost: BTreeMap::new(),
                lost_since: None,
                noted: None,
                undelivered: Vec::new(),
                in_flight: BTreeSet::new(),
                finished: false,
                waits: None,
                gone_at: None,
                full_at: None,
                retired: ledger::Totals::default(),
            }),
            room: watch::Sender::new(0),
            news: watch::Sender::new(0),
            starved: AtomicUsize::new(0),
            commit_interval: AtomicU64::new(nanos(config.commit_interval)),
            drop_wanted: AtomicBool::new(false),
            pressure: Pressure::default(),
            trouble: Throttle::new(FULL_FOR),
            lock: Mutex::new(recovered.lock),
            config,
        };
        let spool = Spool {
            shared: Arc::new(shared),
        };
        spool.settle_replays();
        let mut inner = spool.lock();
        if spool.live_or_begin(&mut inner)?.is_none() {
            tracing::error!(dir = %spool.shared.dir.display(), "disk is full: a stream is begun when there is room");
        }
        drop(inner);
        Ok(spool)
    }

    /// The stream being written, begun if there is none; `None` while the disk has no room for one.
    fn live_or_begin(&self, inner: &mut Inner) -> Result<Option<Arc<Stream>>, SpoolError> {
        if let Some(live) = inner.live() {
            return Ok(Some(live));
        }
        match self.begin_stream(inner, BTreeMap::new()) {
            Ok(live) => {
                self.bump_news();
                Ok(Some(live))
            }
            Err(error) if error.is_full() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How long a batch may wait for its commit now.
    pub(crate) fn commit_interval(&self) -> Duration {
        Duration::from_nanos(self.shared.commit_interval.load(Ordering::Relaxed))
    }

    /// Changes that, for every stream, also for what waits already.
    pub(crate) fn set_commit_interval(&self, interval: Duration) {
        let inner = self.lock();
        let now = &self.shared.commit_interval;
        now.store(nanos(interval), Ordering::Relaxed);
        for stream in &inner.streams {
            stream.journal.set_commit_interval(interval);
        }
    }

    /// The id of the stream that is being written.
    pub fn live_stream_id(&self) -> Option<[u8; 16]> {
        self.lock().live().map(|stream| stream.id)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while it was held leaves at worst a count that the ledger then shows as unexplained.
        self.shared
            .inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn bump_room(&self) {
        self.shared.room.send_modify(|n| *n += 1);
    }

    pub(crate) fn bump_news(&self) {
        self.shared.news.send_modify(|n| *n += 1);
    }
}

impl Inner {
    /// The stream being written.
    pub(crate) fn live(&self) -> Option<Arc<Stream>> {
        self.streams
            .back()
            .filter(|stream| stream.is_live())
            .cloned()
    }

    /// Bytes of all streams, those being copied included.
    pub(crate) fn bytes(&self) -> u64 {
        let all = self.streams.iter().chain(&self.copies);
        all.map(|stream| stream.bytes()).sum()
    }

    /// A copy that is held from now on, or removed.
    pub(crate) fn forget_copy(&mut self, copy: &Stream) {
        self.copies.retain(|held| held.id != copy.id);
    }
}

fn nanos(interval: Duration) -> u64 {
    u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX)
}
