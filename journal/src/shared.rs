//! What handles, writer and readers of one journal hold in common, and the releasing of segments.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::watch;
use bytes::Bytes;
use weir_fault::{Point, point};

use crate::handover::Handover;
use crate::options::{Options, Progress, READ_TRIES, Recovery, Stats};
use crate::segment::{self, Segment};
use crate::storage::{Lock, Storage};

/// See the module.
pub(crate) struct Shared {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) id: [u8; 16],
    pub(crate) recovery: Recovery,
    pub(crate) handover: Handover,
    pub(crate) progress: watch::Sender<Progress>,
    pub(crate) preamble: Mutex<Option<Bytes>>,
    pub(crate) counters: Counters,
    pub(crate) oldest: AtomicU64,
    /// In order; the last one is written to, or will be followed by the one that is.
    segments: Mutex<VecDeque<Segment>>,
    /// Held while files are removed, so that they go oldest first.
    removing: Mutex<()>,
    released_through: AtomicU64,
    /// How often the disk refused to read a segment, by its first number.
    refusals: Mutex<BTreeMap<u64, u32>>,
    /// In nanoseconds; at first what the options say.
    commit_interval: AtomicU64,
    lock: Mutex<Option<Lock>>,
}

/// Since the journal was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) records: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) sync_nanos_total: AtomicU64,
    pub(crate) last_sync_nanos: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
}

/// What a journal is put together from at open.
pub(crate) struct Parts {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) id: [u8; 16],
    pub(crate) recovery: Recovery,
    pub(crate) handover: Handover,
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) lock: Lock,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Shared {
        let progress = Progress {
            durable_through: parts.recovery.next - 1,
            ..Progress::default()
        };
        Shared {
            storage: parts.storage,
            dir: parts.dir,
            commit_interval: AtomicU64::new(nanos(parts.options.commit_interval)),
            options: parts.options,
            id: parts.id,
            oldest: AtomicU64::new(parts.recovery.oldest),
            recovery: parts.recovery,
            handover: parts.handover,
            progress: watch::Sender::new(progress),
            preamble: Mutex::new(None),
            counters: Counters::default(),
            segments: Mutex::new(parts.segments),
            removing: Mutex::new(()),
            released_through: AtomicU64::new(0),
            refusals: Mutex::default(),
            lock: Mutex::new(Some(parts.lock)),
        }
    }

    pub(crate) fn segments(&self) -> MutexGuard<'_, VecDeque<Segment>> {
        hold(&self.segments)
    }

    /// The segment that holds a number or would hold it, and whether another one follows.
    pub(crate) fn segment_of(&self, number: u64) -> Option<(Segment, bool)> {
        let segments = self.segments();
        let after = segments.partition_point(|segment| segment.first <= number);
        let found = segments.get(after.checked_sub(1)?)?;
        Some((found.clone(), after < segments.len()))
    }

    /// Enters a new last segment.
    pub(crate) fn enter(&self, segment: Segment) {
        let mut segments = self.segments();
        if segments.is_empty() {
            self.oldest.store(segment.first, Ordering::Release);
        }
        segments.push_back(segment);
    }

    /// Removes the segments whose last record is at most `through`, and has the writer replace the last one where that
    /// is worth it.
    pub(crate) fn release(&self, through: u64) -> io::Result<()> {
        self.released_through.fetch_max(through, Ordering::AcqRel);
        loop {
            let removed = self.remove_oldest(Some(through))?;
            if removed.is_none() {
                break;
            }
        }
        self.handover.wake();
        Ok(())
    }

    /// Removes the oldest segment unless it is the last, or holds more than what `through` covers; says which numbers
    /// went.
    pub(crate) fn remove_oldest(&self, through: Option<u64>) -> io::Result<Option<(u64, u64)>> {
        let _removing = hold(&self.removing);
        if hold(&self.lock).is_none() {
            return Err(io::Error::other("the journal is closed"));
        }
        let oldest = {
            let mut segments = self.segments();
            let covered =
                |segment: &Segment| through.is_none_or(|through| segment.next - 1 <= through);
            if segments.len() < 2 || !segments.front().is_some_and(covered) {
                return Ok(None);
            }
            let oldest = segments.pop_front().expect("there are two");
            self.oldest.store(segments[0].first, Ordering::Release);
            oldest
        };
        let path = segment::path(&self.dir, oldest.first);
        point(Point::JournalRelease);
        match self.storage.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                self.oldest.store(oldest.first, Ordering::Release);
                self.segments().push_front(oldest);
                return Err(error);
            }
            _ => {}
        }
        point(Point::JournalReleased);
        self.handover.credit(oldest.bytes);
        hold(&self.refusals).remove(&oldest.first);
        // The file is gone whatever the sync says, and the answer has to say so. Nobody was promised
        // that it stays gone: one that a power loss brings back is released again.
        if let Err(error) = self.storage.sync_dir(&self.dir) {
            tracing::warn!(path = %path.display(), %error, "a removed segment may come back with a power loss");
        }
        Ok(Some((oldest.first, oldest.next - 1)))
    }

    /// Takes down that a segment could not be read. True once what cannot be read of it is given up.
    pub(crate) fn refused(&self, first: u64, error: &io::Error) -> bool {
        let mut refusals = hold(&self.refusals);
        let times = refusals.entry(first).or_default();
        *times = times.saturating_add(1);
        let given_up = self.options.give_up_unreadable && *times >= READ_TRIES;
        if given_up && *times == READ_TRIES {
            let path = segment::path(&self.dir, first);
            tracing::error!(path = %path.display(), %error, tries = READ_TRIES, "a segment cannot be read: what the disk refuses of it is given up");
        }
        given_up
    }

    /// Whether what cannot be read of a segment is given up.
    pub(crate) fn is_given_up(&self, first: u64) -> bool {
        let refusals = hold(&self.refusals);
        let times = refusals.get(&first).copied().unwrap_or(0);
        self.options.give_up_unreadable && times >= READ_TRIES
    }

    /// How long the first waiting record may wait for company.
    pub(crate) fn commit_interval(&self) -> Duration {
        Duration::from_nanos(self.commit_interval.load(Ordering::Relaxed))
    }

    /// Changes that, also for what waits already.
    pub(crate) fn set_commit_interval(&self, interval: Duration) {
        self.commit_interval
            .store(nanos(interval), Ordering::Relaxed);
        self.handover.wake();
    }

    /// The highest number a caller has released.
    pub(crate) fn released_through(&self) -> u64 {
        self.released_through.load(Ordering::Acquire)
    }

    /// Nothing is accepted any more, for this reason.
    pub(crate) fn poison(&self, reason: &str) {
        let reason: Arc<str> = Arc::from(reason);
        self.handover.poison(Arc::clone(&reason));
        self.progress.send_modify(|progress| {
            progress.poisoned.get_or_insert(reason);
        });
    }

    /// The writer has ended.
    pub(crate) fn end(&self) {
        self.handover.close();
        self.progress.send_modify(|progress| progress.closed = true);
    }

    /// Another process may open the directory. A poisoned journal keeps it until its last handle is gone.
    pub(crate) fn unlock(&self) {
        let _removing = hold(&self.removing);
        hold(&self.lock).take();
    }

    pub(crate) fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            segments: self.segments().len() as u64,
            bytes: self.handover.used(),
            records: read(&self.counters.records),
            syncs: read(&self.counters.syncs),
            sync_nanos_total: read(&self.counters.sync_nanos_total),
            last_sync_nanos: read(&self.counters.last_sync_nanos),
            bytes_written: read(&self.counters.bytes_written),
        }
    }
}

fn nanos(interval: Duration) -> u64 {
    u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX)
}

/// Locks what no panic can leave half changed.
pub(crate) fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|held| held.into_inner())
}
