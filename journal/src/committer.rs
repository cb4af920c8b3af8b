//! The writer: takes all that waits, writes it, syncs once, tells everyone (group commit).
//!
//! A state machine whose [`Committer::step`] never waits; in production a thread runs it and parks in between, in a
//! simulation a task steps it. A group is one write and one sync into one segment. A segment without room is sealed and
//! the next one started first; that is where a full disk shows, and then everything stays queued until there is room.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::frame::{self, FRAME_HEADER, PREAMBLE, SEGMENT_HEADER, SegmentHeader};
use crate::handover::{Orders, Waiting};
use crate::options::RESERVE_BYTES;
use crate::segment::{Draft, Segment};
use crate::shared::{Shared, hold};
use crate::storage::{self, File};

/// Most bytes of one write, unless a single frame has more.
const GROUP_BYTES: usize = 4 << 20;
/// What the group buffer keeps while nothing is to do.
const IDLE_BYTES: usize = 256 << 10;
/// How long a full disk is left alone, unless something was released.
const DISK_FULL_RETRY: Duration = Duration::from_secs(1);

/// The segment being written.
pub(crate) struct Live {
    pub(crate) file: Arc<dyn File>,
    pub(crate) id: u64,
    pub(crate) first: u64,
    /// Offset of the next frame.
    pub(crate) at: u64,
    pub(crate) allocated: u64,
}

/// The one writer of a journal. Dropping it before it has ended poisons the journal.
pub struct Committer {
    shared: Arc<Shared>,
    live: Option<Live>,
    /// Taken from the queue, not yet durable.
    backlog: VecDeque<Waiting>,
    group: Vec<u8>,
    next: u64,
    started: Instant,
    waiting_since: Option<Duration>,
    retry_at: Option<Duration>,
    ended: bool,
}

/// Why a group was not written.
enum Trouble {
    /// No room: try again later.
    DiskFull,
    /// The log can no longer be trusted.
    Fatal(String),
}

impl Committer {
    pub(crate) fn new(shared: Arc<Shared>, live: Option<Live>) -> Committer {
        let next = shared.recovery.next;
        Committer {
            shared,
            live,
            backlog: VecDeque::new(),
            group: Vec::new(),
            next,
            started: Instant::now(),
            waiting_since: None,
            retry_at: None,
            ended: false,
        }
    }

    /// Runs on a thread of its own.
    pub fn spawn(self) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || self.run())
    }

    /// Commits until the journal is closed or poisoned; parks while there is nothing to do.
    pub fn run(mut self) {
        while !self.ended {
            if self.step() {
                continue;
            }
            if self.ended {
                break;
            }
            if self.group.capacity() > IDLE_BYTES {
                self.group = Vec::new();
            }
            let timeout = self.timeout(self.started.elapsed());
            self.shared.handover.park(timeout);
        }
    }

    /// One round without waiting; true if it did something and another may find more to do.
    pub fn step(&mut self) -> bool {
        self.step_at(self.started.elapsed())
    }

    /// Like [`Committer::step`], on a clock of the caller's: the time since any fixed moment.
    pub fn step_at(&mut self, now: Duration) -> bool {
        if self.ended {
            return false;
        }
        let orders = self.shared.handover.orders();
        if self.is_due(orders, now) {
            self.shared.handover.take(&mut self.backlog);
            self.waiting_since = None;
            return self.commit(orders, now);
        }
        if self.backlog.is_empty() && !orders.waiting {
            if orders.closed {
                self.end();
                return false;
            }
            return self.replace_released(orders);
        }
        false
    }

    /// Whether it has ended: closed and done, or poisoned.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    fn is_due(&mut self, orders: Orders, now: Duration) -> bool {
        if self.backlog.is_empty() && !orders.waiting {
            return false;
        }
        if let Some(retry_at) = self.retry_at {
            return orders.closed || orders.retry || now >= retry_at;
        }
        if !self.backlog.is_empty() || orders.flush || orders.closed {
            return true;
        }
        let since = *self.waiting_since.get_or_insert(now);
        now >= since + self.shared.options.commit_interval
    }

    fn timeout(&self, now: Duration) -> Option<Duration> {
        let interval = self.shared.options.commit_interval;
        let due = self
            .retry_at
            .or_else(|| self.waiting_since.map(|since| since + interval))?;
        Some(due.saturating_sub(now))
    }

    /// Writes one group of the backlog.
    fn commit(&mut self, orders: Orders, now: Duration) -> bool {
        match self.write_group() {
            Ok(()) => {
                self.retry_at = None;
                true
            }
            Err(Trouble::DiskFull) => {
                self.retry_at = Some(now + DISK_FULL_RETRY);
                self.shared.handover.disk_full();
                self.shared
                    .progress
                    .send_if_modified(|progress| !std::mem::replace(&mut progress.disk_full, true));
                if orders.closed {
                    tracing::error!(
                        dir = %self.shared.dir.display(), records = self.backlog.len(),
                        "disk is full at shutdown: records that waited are lost"
                    );
                    self.end();
                }
                false
            }
            Err(Trouble::Fatal(reason)) => {
                tracing::error!(dir = %self.shared.dir.display(), reason, "journal accepts nothing more: restart to recover");
                self.shared.poison(&reason);
                self.ended = true;
                self.shared.end();
                false
            }
        }
    }

    fn write_group(&mut self) -> Result<(), Trouble> {
        let first = self
            .backlog
            .front()
            .map_or(0, |waiting| waiting.frame.len());
        self.make_room(first as u64)?;
        let live = self.live.as_mut().expect("room was made in it");
        self.group.clear();
        let mut records = 0;
        for waiting in &mut self.backlog {
            let bytes = self.group.len() + waiting.frame.len();
            let fits = live.at + bytes as u64 <= live.allocated;
            if records > 0 && (!fits || bytes > GROUP_BYTES) {
                break;
            }
            frame::seal(&mut waiting.frame, live.id, waiting.kind, waiting.number);
            self.group.extend_from_slice(&waiting.frame);
            records += 1;
        }
        live.file
            .write_at(&self.group, live.at)
            .map_err(|error| trouble("write", &error))?;
        let started = Instant::now();
        let synced = live.file.sync_data();
        let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        synced.map_err(|error| Trouble::Fatal(format!("cannot sync a segment: {error}")))?;
        live.at += self.group.len() as u64;
        let through = self.backlog[records - 1].number;
        self.backlog.drain(..records);
        self.next = through + 1;
        self.publish(records as u64, nanos);
        Ok(())
    }

    /// Lets readers and those who wait know what is durable now.
    fn publish(&self, records: u64, sync_nanos: u64) {
        let counters = &self.shared.counters;
        counters.records.fetch_add(records, Ordering::Relaxed);
        counters.syncs.fetch_add(1, Ordering::Relaxed);
        counters
            .sync_nanos_total
            .fetch_add(sync_nanos, Ordering::Relaxed);
        counters
            .last_sync_nanos
            .store(sync_nanos, Ordering::Relaxed);
        counters
            .bytes_written
            .fetch_add(self.group.len() as u64, Ordering::Relaxed);
        if let (Some(live), Some(last)) = (&self.live, self.shared.segments().back_mut()) {
            last.bytes = live.at;
            last.next = self.next;
        }
        self.shared.handover.settle(self.group.len());
        self.shared.progress.send_modify(|progress| {
            progress.durable_through = self.next - 1;
            progress.disk_full = false;
        });
    }

    /// Sees to it that the live segment has room for a frame.
    fn make_room(&mut self, bytes: u64) -> Result<(), Trouble> {
        if let Some(live) = &self.live
            && live.at + bytes <= live.allocated
        {
            return Ok(());
        }
        self.start_segment(bytes)
    }

    /// Starts the next segment, then seals the one before it.
    fn start_segment(&mut self, bytes: u64) -> Result<(), Trouble> {
        let shared = Arc::clone(&self.shared);
        let header = SegmentHeader {
            journal: shared.id,
            segment: crate::recovery::draw(),
            first: self.next,
        };
        let head = self.head(&header);
        let needed = head.len() as u64 + bytes;
        let (dir, storage) = (&shared.dir, shared.storage.as_ref());
        let draft = Draft::create(storage, dir, header.first, &head, self.allocation(), needed)
            .map_err(|error| trouble("start", &error))?;
        let allocated = draft.allocated;
        let file = draft
            .publish(storage, dir)
            .map_err(|error| trouble("start", &error))?;
        self.seal();
        let at = head.len() as u64;
        shared.handover.charge(at);
        shared
            .counters
            .bytes_written
            .fetch_add(at, Ordering::Relaxed);
        shared.enter(Segment {
            first: header.first,
            next: header.first,
            id: Some(header.segment),
            bytes: at,
        });
        self.live = Some(Live {
            file,
            id: header.segment,
            first: header.first,
            at,
            allocated,
        });
        Ok(())
    }

    /// Header and preamble of a segment.
    fn head(&self, header: &SegmentHeader) -> Vec<u8> {
        let mut head = header.encode().to_vec();
        if let Some(body) = &*hold(&self.shared.preamble) {
            head.resize(SEGMENT_HEADER + FRAME_HEADER, 0);
            head.extend_from_slice(body);
            let frame = &mut head[SEGMENT_HEADER..];
            frame::seal(frame, header.segment, PREAMBLE, header.first);
        }
        head
    }

    /// How much to allocate: a whole segment, or what the limit leaves.
    fn allocation(&self) -> u64 {
        let options = &self.shared.options;
        let segment = options.effective_segment_bytes();
        match options.max_bytes {
            0 => segment,
            limit => {
                let segments = self.shared.segments();
                let used = segments.iter().map(|segment| segment.bytes).sum();
                segment.min((limit + RESERVE_BYTES).saturating_sub(used))
            }
        }
    }

    /// Gives back what the live segment did not use; its content is durable already.
    fn seal(&mut self) {
        if let Some(live) = self.live.take()
            && let Err(error) = live.file.set_len(live.at)
        {
            tracing::warn!(first = live.first, %error, "cannot cut a full segment to its length");
        }
    }

    /// When everything is released and the live segment holds enough to matter, starts a new one so that it can go.
    fn replace_released(&mut self, orders: Orders) -> bool {
        let options = &self.shared.options;
        let Some(last) = self.shared.segments().back().cloned() else {
            return false;
        };
        let empty = last.first == last.next;
        if empty || self.shared.released_through() + 1 < last.next {
            return false;
        }
        let enough = options.effective_segment_bytes() / 4;
        if last.bytes < enough && !orders.starved {
            return false;
        }
        match self.start_segment(0) {
            Ok(()) => {}
            Err(Trouble::DiskFull) => return false,
            Err(Trouble::Fatal(reason)) => {
                self.shared.poison(&reason);
                self.ended = true;
                self.shared.end();
                return false;
            }
        }
        if let Err(error) = self.shared.release(last.next - 1) {
            tracing::warn!(%error, "cannot remove a released segment");
        }
        // Whoever was refused for want of space looks again.
        self.shared.progress.send_modify(|_| {});
        true
    }

    fn end(&mut self) {
        self.seal();
        self.ended = true;
        self.shared.end();
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        if !self.ended {
            self.shared
                .poison("the writer stopped before the journal was closed");
            self.shared.end();
        }
    }
}

impl std::fmt::Debug for Committer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Committer")
            .field("next", &self.next)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

fn trouble(doing: &str, error: &io::Error) -> Trouble {
    if storage::is_full(error) {
        Trouble::DiskFull
    } else {
        Trouble::Fatal(format!("cannot {doing} a segment: {error}"))
    }
}
