//! The segment being written: how it starts, takes groups and is sealed.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use weir_fault::{Mutant, Point, mutant, point};

use crate::frame::{self, FRAME_HEADER, PREAMBLE, SEGMENT_HEADER, SegmentHeader};
use crate::handover::Waiting;
use crate::options::RESERVE_BYTES;
use crate::recovery::draw;
use crate::seed::Seed;
use crate::segment::{Draft, Segment};
use crate::shared::{Shared, hold};
use crate::storage::{self, File};

/// Most bytes of one write, unless a single frame has more.
const GROUP_BYTES: usize = 4 << 20;

/// See the module.
pub(crate) struct Live {
    pub(crate) file: Arc<dyn File>,
    pub(crate) seed: Seed,
    pub(crate) first: u64,
    /// Offset of the next frame.
    pub(crate) at: u64,
    pub(crate) allocated: u64,
}

/// Why something was not written.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// No room: try again later.
    DiskFull,
    /// The log can no longer be trusted.
    Fatal(String),
}

impl Trouble {
    /// No room passes, everything else is fatal.
    fn from(doing: &str, error: &io::Error) -> Trouble {
        if storage::is_full(error) {
            Trouble::DiskFull
        } else {
            Trouble::Fatal(format!("cannot {doing}: {error}"))
        }
    }
}

impl Live {
    /// Starts the segment whose first record is `next`, with room for a frame of that many bytes; it is durable, and
    /// entered as the last one, when this returns.
    pub(crate) fn start(shared: &Shared, next: u64, bytes: u64) -> Result<Live, Trouble> {
        let header = SegmentHeader {
            journal: shared.id,
            segment: draw(shared.options.salt, next),
            first: next,
        };
        let head = beginning(shared, &header);
        let at = head.len() as u64;
        let (dir, storage) = (&shared.dir, shared.storage.as_ref());
        let fault = |error| Trouble::from("start a segment", &error);
        let wanted = allocation(shared);
        let draft = Draft::create(storage, dir, next, &head, wanted, at + bytes).map_err(fault)?;
        let allocated = draft.allocated;
        point(Point::JournalDrafted);
        let file = draft.publish(storage, dir).map_err(fault)?;
        shared.handover.charge(at);
        let written = &shared.counters.bytes_written;
        written.fetch_add(at, Ordering::Relaxed);
        shared.enter(Segment {
            first: next,
            next,
            seed: Some(header.seed()),
            bytes: at,
        });
        Ok(Live {
            file,
            seed: header.seed(),
            first: next,
            at,
            allocated,
        })
    }

    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.at + bytes <= self.allocated
    }

    /// Seals frames, as many as one write may have and the segment has room for, one after another into `group`; answers
    /// how many.
    pub(crate) fn gather(&self, backlog: &VecDeque<Waiting>, group: &mut Vec<u8>) -> usize {
        group.clear();
        let mut records = 0;
        for waiting in backlog {
            let bytes = group.len() + waiting.frame.len();
            if records > 0 && (bytes > GROUP_BYTES || !self.has_room(bytes as u64)) {
                break;
            }
            let begin = group.len();
            group.extend_from_slice(&waiting.frame);
            let (kind, number) = (waiting.kind, waiting.number);
            frame::seal(&mut group[begin..], self.seed, kind, number, records);
            records += 1;
        }
        records
    }

    /// Writes a group, which counts for nothing before [`Live::sync`]: after a write without room the same group can be
    /// written again.
    pub(crate) fn write(&mut self, group: &[u8]) -> Result<(), Trouble> {
        point(Point::JournalWrite);
        self.file
            .write_at(group, self.at)
            .map_err(|error| Trouble::from("write a segment", &error))?;
        point(Point::JournalSync);
        Ok(())
    }

    /// Syncs the group of so many bytes that was written last; answers how long that took, in nanoseconds. After a failed
    /// sync nothing counts at all.
    pub(crate) fn sync(&mut self, bytes: usize) -> Result<u64, Trouble> {
        let started = Instant::now();
        if !mutant(Mutant::NoSync) {
            self.file
                .sync_data()
                .map_err(|error| Trouble::Fatal(format!("cannot sync a segment: {error}")))?;
        }
        point(Point::JournalSynced);
        self.at += bytes as u64;
        Ok(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Gives back the room it does not use; what it holds is durable already. True if there was any.
    pub(crate) fn trim(&mut self) -> bool {
        if self.allocated <= self.at {
            return false;
        }
        self.allocated = self.at;
        let trimmed = self.file.set_len(self.at);
        if let Err(error) = &trimmed {
            tracing::warn!(first = self.first, %error, "cannot cut a full segment to its length");
        }
        trimmed.is_ok()
    }
}

/// Header and preamble of a segment.
fn beginning(shared: &Shared, header: &SegmentHeader) -> Vec<u8> {
    let mut head = header.encode().to_vec();
    if let Some(body) = &*hold(&shared.preamble) {
        head.resize(SEGMENT_HEADER + FRAME_HEADER, 0);
        head.extend_from_slice(body);
        let frame = &mut head[SEGMENT_HEADER..];
        frame::seal(frame, header.seed(), PREAMBLE, header.first, 0);
    }
    head
}

/// How much to allocate: a whole segment, or what the limit leaves.
fn allocation(shared: &Shared) -> u64 {
    let segment = shared.options.effective_segment_bytes();
    match shared.options.max_bytes {
        0 => segment,
        limit => {
            let segments = shared.segments();
            let used = segments.iter().map(|segment| segment.bytes).sum();
            segment.min((limit + RESERVE_BYTES).saturating_sub(used))
        }
    }
}
