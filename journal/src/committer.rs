//! The writer: takes all that waits, writes it, syncs once, tells everyone (group commit).
//!
//! A state machine whose [`Committer::step`] never waits; in production a thread runs it and parks in between
//! ([`Committer::run`]), in a simulation a task drives it ([`Committer::drive`]) and lets time pass between a group's
//! write and its sync. A group is one write and one sync into one segment. A segment without room is sealed and
//! the next one started first; that is where a full disk shows, and then everything stays queued until there is room.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use weir_fault::{Point, point};

use crate::handover::{Orders, Waiting};
use crate::live::{Live, Trouble};
use crate::shared::Shared;

/// What the group buffer keeps while nothing is to do.
const IDLE_BYTES: usize = 256 << 10;
/// How long a full disk is left alone, unless something was released.
const DISK_FULL_RETRY: Duration = Duration::from_secs(1);

/// The one writer of a journal. Dropping it before it has ended poisons the journal.
pub struct Committer {
    shared: Arc<Shared>,
    live: Option<Live>,
    /// Taken from the queue, not yet durable.
    backlog: VecDeque<Waiting>,
    group: Vec<u8>,
    /// How many records of the backlog are in the group, once it is written and not synced.
    written: Option<usize>,
    /// A group's sync is a step of its own.
    pausing: bool,
    next: u64,
    started: Instant,
    waiting_since: Option<Duration>,
    retry_at: Option<Duration>,
    ended: bool,
}

impl Committer {
    pub(crate) fn new(shared: Arc<Shared>, live: Option<Live>) -> Committer {
        let next = shared.recovery.next;
        Committer {
            shared,
            live,
            backlog: VecDeque::new(),
            group: Vec::new(),
            written: None,
            pausing: false,
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

    /// [`Committer::run`] as a task on tokio's clock, for a simulation: its I/O is done inline, and it wakes for a hand-over
    /// or a timer, never to look around. Dropped before the journal is closed, it poisons the journal, as a thread would.
    pub async fn drive(self) {
        self.drive_slowly(Duration::ZERO).await;
    }

    /// The same on a disk that takes `latency` between a group's write and its sync: a crash in between finds the group
    /// torn. Zero does both at once.
    pub async fn drive_slowly(mut self, latency: Duration) {
        let started = tokio::time::Instant::now();
        self.pausing = !latency.is_zero();
        while !self.ended {
            if self.step_at(started.elapsed()) {
                if self.written.is_some() {
                    tokio::time::sleep(latency).await;
                }
                continue;
            }
            if self.ended {
                break;
            }
            let due = self.timeout(started.elapsed());
            let signal = poll_fn(|context| self.shared.handover.poll_signal(context));
            match due {
                // Late rather than never: a timer goes off, whatever came of the signal.
                Some(due) => drop(tokio::time::timeout(due, signal).await),
                None => signal.await,
            }
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
        if self.written.is_some() {
            return self.commit(orders, now);
        }
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
        now >= since.saturating_add(self.shared.commit_interval())
    }

    fn timeout(&self, now: Duration) -> Option<Duration> {
        let interval = self.shared.commit_interval();
        let due = self.retry_at.or_else(|| {
            self.waiting_since
                .map(|since| since.saturating_add(interval))
        })?;
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
                self.fail(&reason);
                false
            }
        }
    }

    fn write_group(&mut self) -> Result<(), Trouble> {
        let records = match self.written.take() {
            Some(records) => records,
            None => {
                let records = self.write_first()?;
                if self.pausing {
                    self.written = Some(records);
                    return Ok(());
                }
                records
            }
        };
        let live = self.live.as_mut().expect("a group was written to it");
        let sync_nanos = live.sync(self.group.len())?;
        let last = self.backlog.drain(..records).next_back();
        self.next = last.expect("a group has a record").number + 1;
        self.publish(records as u64, sync_nanos);
        Ok(())
    }

    /// Writes the first group of the backlog; answers how many records it has.
    fn write_first(&mut self) -> Result<usize, Trouble> {
        let first = self
            .backlog
            .front()
            .map_or(0, |waiting| waiting.frame.len());
        self.make_room(first as u64)?;
        let live = self.live.as_mut().expect("room was made in it");
        let records = live.gather(&self.backlog, &mut self.group);
        live.write(&self.group)?;
        Ok(records)
    }

    /// Lets readers and those who wait know what is durable now.
    fn publish(&self, records: u64, sync_nanos: u64) {
        let bytes = self.group.len();
        let counters = &self.shared.counters;
        let add = |counter: &AtomicU64, more| counter.fetch_add(more, Ordering::Relaxed);
        add(&counters.records, records);
        add(&counters.syncs, 1);
        add(&counters.sync_nanos_total, sync_nanos);
        add(&counters.bytes_written, bytes as u64);
        let last_sync = &counters.last_sync_nanos;
        last_sync.store(sync_nanos, Ordering::Relaxed);
        if let (Some(live), Some(last)) = (&self.live, self.shared.segments().back_mut()) {
            last.bytes = live.at;
            last.next = self.next;
        }
        self.shared.handover.settle(bytes);
        self.shared.progress.send_modify(|progress| {
            progress.durable_through = self.next - 1;
            progress.disk_full = false;
        });
    }

    /// Sees to it that the live segment has room for a frame.
    fn make_room(&mut self, bytes: u64) -> Result<(), Trouble> {
        match &self.live {
            Some(live) if live.has_room(bytes) => Ok(()),
            _ => self.start_segment(bytes),
        }
    }

    /// Starts the next segment, then gives back what the one before it does not use. When the disk is full, it gives
    /// that back first.
    fn start_segment(&mut self, bytes: u64) -> Result<(), Trouble> {
        point(Point::JournalRoll);
        let mut started = Live::start(&self.shared, self.next, bytes);
        if matches!(started, Err(Trouble::DiskFull)) && self.live.as_mut().is_some_and(Live::trim) {
            started = Live::start(&self.shared, self.next, bytes);
        }
        let started = started?;
        point(Point::JournalRolled);
        if let Some(mut sealed) = self.live.replace(started) {
            sealed.trim();
        }
        Ok(())
    }

    /// When everything is released and the live segment holds enough to matter, starts a new one so that it can go.
    fn replace_released(&mut self, orders: Orders) -> bool {
        let Some(last) = self.shared.segments().back().cloned() else {
            return false;
        };
        let enough = self.shared.options.effective_segment_bytes() / 4;
        let matters = last.bytes >= enough || orders.starved;
        let empty = last.first == last.next;
        if empty || !matters || self.shared.released_through() + 1 < last.next {
            return false;
        }
        match self.start_segment(0) {
            Ok(()) => {}
            // The next release tries again.
            Err(Trouble::DiskFull) => return false,
            Err(Trouble::Fatal(reason)) => {
                self.fail(&reason);
                return false;
            }
        }
        if let Err(error) = self.shared.release(last.next - 1) {
            tracing::warn!(%error, "cannot remove a released segment");
        }
        self.shared.handover.fed();
        // Whoever was refused for want of space looks again.
        self.shared.progress.send_modify(|_| {});
        true
    }

    fn fail(&mut self, reason: &str) {
        let dir = self.shared.dir.display();
        tracing::error!(%dir, reason, "journal accepts nothing more: restart to recover");
        self.ended = true;
        self.shared.poison(reason);
        self.shared.end();
    }

    fn end(&mut self) {
        if let Some(live) = &mut self.live {
            live.trim();
        }
        self.ended = true;
        self.shared.end();
        self.shared.unlock();
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        if !self.ended {
            self.shared
                .poison("the writer stopped before the journal was closed");
            self.shared.end();
            self.shared.unlock();
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
