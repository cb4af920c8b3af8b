//! What a journal is opened with, and what it tells about itself: plain values, no behaviour.

use std::sync::Arc;
use std::time::Duration;

/// How far [`crate::Journal::append_reserved`] may go beyond `max_bytes`.
pub const RESERVE_BYTES: u64 = 1 << 20;

/// How often a reader answers with the error before it gives up what the disk refuses to read, where
/// [`Options::give_up_unreadable`] says so.
pub const READ_TRIES: u32 = 5;

/// How a journal is laid out and how eagerly it commits.
#[derive(Debug, Clone)]
pub struct Options {
    /// Size of a preallocated segment. With a `max_bytes`, never more than a quarter of it, so that dropping or
    /// releasing one segment makes room.
    pub segment_bytes: u64,
    /// Most bytes on disk and waiting; 0 is no limit. Beyond it `try_append` says [`crate::AppendError::Full`].
    pub max_bytes: u64,
    /// Most bytes waiting in memory for their commit; beyond it `try_append` says [`crate::AppendError::Busy`].
    pub queue_bytes: usize,
    /// How long the first waiting record may wait for company; zero commits whatever waits at once. Half a queue, a
    /// flush and a close end the wait. [`crate::Journal::set_commit_interval`] changes it.
    pub commit_interval: Duration,
    /// Id of a journal that does not exist yet; `None` draws one.
    pub id: Option<[u8; 16]>,
    /// What every id drawn by this opening follows from, for simulations that must repeat; draw another for each
    /// opening. `None` leaves it to the system.
    pub salt: Option<u64>,
    /// The next record gets a higher number than this, also where what is found ends before it: what is missing is a
    /// hole then. Zero asks for nothing.
    pub resume_behind: u64,
    /// Whether what the disk refuses to read, however often it is asked, is given up as damaged, so that the rest flows.
    /// Otherwise it stays an error: a person may still bring the disk back.
    pub give_up_unreadable: bool,
    /// Threads that read segments while it is opened; one, the default, is the caller's.
    pub scan_threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            segment_bytes: 64 << 20,
            max_bytes: 0,
            queue_bytes: 8 << 20,
            commit_interval: Duration::ZERO,
            id: None,
            salt: None,
            resume_behind: 0,
            give_up_unreadable: false,
            scan_threads: 1,
        }
    }
}

impl Options {
    /// The segment size in force: at least 512 bytes, and at most a quarter of the limit.
    pub(crate) fn effective_segment_bytes(&self) -> u64 {
        let limit = if self.max_bytes == 0 {
            u64::MAX
        } else {
            self.max_bytes / 4
        };
        self.segment_bytes.min(limit).max(512)
    }
}

/// A range of record numbers that cannot be read, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// First number missing.
    pub from: u64,
    /// Last number missing.
    pub through: u64,
}

/// What opening found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// First number the journal still answers for; equal to `next` when it is empty.
    pub oldest: u64,
    /// Number the next record will get.
    pub next: u64,
    /// Numbers in between that cannot be read, in order, without overlap.
    pub holes: Vec<Hole>,
    /// Bytes of a torn tail that were cut from the last segment.
    pub cut_bytes: u64,
    /// Bytes that are no frame although a later frame of the same segment is whole, and bytes of segments whose header
    /// is unreadable.
    pub damaged_bytes: u64,
}

/// How far the writer is; published after every commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Every record up to this number is covered by a finished sync.
    pub durable_through: u64,
    /// Why nothing more is accepted, once a write or sync has failed.
    pub poisoned: Option<Arc<str>>,
    /// The disk has no room for the next segment; what waits is tried again.
    pub disk_full: bool,
    /// The writer has ended.
    pub closed: bool,
}

/// Counters since the journal was opened, and its size now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Segment files present.
    pub segments: u64,
    /// Bytes on disk and waiting to be.
    pub bytes: u64,
    /// Records committed.
    pub records: u64,
    /// Syncs of record data: one per group.
    pub syncs: u64,
    /// Time spent in them.
    pub sync_nanos_total: u64,
    /// Time the last one took.
    pub last_sync_nanos: u64,
    /// Bytes written, headers and preambles included.
    pub bytes_written: u64,
}
