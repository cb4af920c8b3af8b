//! What one segment file holds: which records, which holes between them, which bytes are no frames.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::error::OpenError;
use crate::frame::{FRAME_HEADER, HeaderFault, PREAMBLE, SEGMENT_HEADER, SegmentHeader, VERSION};
use crate::options::Hole;
use crate::recovery::{add_hole, failed};
use crate::salvage;
use crate::scanner::{Found, Scanner};
use crate::seed::Seed;
use crate::segment::{self, Segment};
use crate::storage::{File, Storage};

/// See the module.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) first: u64,
    pub(super) file: Arc<dyn File>,
    pub(super) length: u64,
    /// `None` when it is unreadable.
    pub(super) header: Option<SegmentHeader>,
    /// What its frames are checked with: from the header, or from the frames themselves.
    pub(super) seed: Option<Seed>,
    /// Number behind the last record. Without a seed it rests on numbers no checksum vouches for.
    pub(super) next: u64,
    /// Offsets of whole frames, in order.
    pub(super) runs: Vec<Range<u64>>,
    /// Offsets of what is no frame, before a frame.
    pub(super) bad: Vec<Range<u64>>,
    /// Offsets of what follows the last frame, without the zeros at its end.
    pub(super) tail: Range<u64>,
    holes: Vec<Hole>,
    /// For each hole, the offset behind the last whole frame before it.
    edges: Vec<u64>,
    /// What is numbered below this was synced before the last group that left a frame.
    synced: u64,
    /// What the disk refuses to read is damage like any other.
    pub(super) lenient: bool,
}

impl Survey {
    /// With `lenient`, what the disk refuses to read is damage like any other.
    pub(super) fn of(
        storage: &dyn Storage,
        dir: &Path,
        first: u64,
        lenient: bool,
    ) -> Result<Survey, OpenError> {
        let path = segment::path(dir, first);
        let fault = |source| failed("read", &path, source);
        let file = storage.open(&path).map_err(fault)?;
        let length = file.length().map_err(fault)?;
        let mut bytes = [0; SEGMENT_HEADER];
        let read = match file.read_at(&mut bytes, 0) {
            Err(_) if lenient => 0,
            other => other.map_err(fault)?,
        };
        let header = match SegmentHeader::decode(&bytes[..read]) {
            Ok(header) if header.first == first => Some(header),
            Ok(_) | Err(HeaderFault::Damaged) => None,
            Err(HeaderFault::Newer(found)) => {
                return Err(OpenError::NewerVersion {
                    path,
                    found,
                    supported: VERSION,
                });
            }
        };
        let mut survey = Survey {
            first,
            file,
            length,
            header,
            seed: None,
            next: first,
            runs: Vec::new(),
            bad: Vec::new(),
            tail: 0..0,
            holes: Vec::new(),
            edges: Vec::new(),
            synced: first,
            lenient,
        };
        survey.seed = match header {
            Some(header) => Some(header.seed()),
            None => {
                salvage::find_seed(&survey.file, &bytes[..read], length, lenient).map_err(fault)?
            }
        };
        match survey.seed {
            Some(seed) => survey.walk(seed),
            None => survey.guess(),
        }
        .map_err(fault)?;
        Ok(survey)
    }

    /// The journal its header names.
    pub(super) fn journal(&self) -> Option<[u8; 16]> {
        self.header.map(|header| header.journal)
    }

    /// A segment of another journal counts as unreadable.
    pub(super) fn owned_by(mut self, journal: [u8; 16]) -> Survey {
        if self.journal().is_some_and(|named| named != journal) {
            self.header = None;
            self.seed = None;
        }
        self
    }

    /// Neither header nor records.
    pub(super) fn is_void(&self) -> bool {
        self.seed.is_none() && self.next == self.first
    }

    /// What was guessed of an unreadable segment ends where the next one starts.
    pub(super) fn bound_guess(&mut self, end: u64) {
        if self.seed.is_none() {
            self.next = end;
        }
    }

    /// Numbers missing up to the last record.
    pub(super) fn holes(&self) -> Vec<Hole> {
        let mut holes = Vec::new();
        match self.seed {
            Some(_) => holes.clone_from(&self.holes),
            None => add_hole(&mut holes, self.first, self.next),
        }
        holes
    }

    /// Bytes that are no frames, without the tail.
    pub(super) fn damaged_bytes(&self) -> u64 {
        match self.seed {
            Some(_) => self.bad.iter().map(|range| range.end - range.start).sum(),
            None => self.length,
        }
    }

    /// Offset behind the last whole frame.
    pub(super) fn end(&self) -> u64 {
        self.runs
            .last()
            .map_or(SEGMENT_HEADER as u64, |run| run.end)
    }

    /// Cuts the last group, which may never have been synced, where records of it are missing: in front of what is left of
    /// it, as at its end. Only the last segment has such a group.
    pub(super) fn cut_unsynced(&mut self) -> io::Result<()> {
        let torn = self.holes.iter().position(|hole| hole.from >= self.synced);
        let (Some(seed), Some(torn)) = (self.seed, torn) else {
            return Ok(());
        };
        let edge = self.edges[torn];
        self.next = self.holes[torn].from;
        self.holes.truncate(torn);
        self.edges.truncate(torn);
        self.runs.retain(|run| run.start < edge);
        if let Some(last) = self.runs.last_mut() {
            last.end = last.end.min(edge);
        }
        self.bad.retain(|bad| bad.end <= edge);
        self.tail = edge..self.scanner(seed, edge).end_of_content()?;
        Ok(())
    }

    /// As a segment that is followed by the one that starts with `next`; room it did not use is given back.
    pub(super) fn into_sealed(self, next: u64) -> Segment {
        let mut bytes = self.length;
        let clean = self.header.is_some() && self.tail.is_empty();
        if clean && bytes > self.end() {
            bytes = self.end();
            if let Err(error) = self.file.set_len(bytes) {
                tracing::warn!(first = self.first, %error, "cannot cut a full segment to its length");
            }
        }
        Segment {
            first: self.first,
            next,
            seed: self.seed,
            bytes,
        }
    }

    fn walk(&mut self, seed: Seed) -> io::Result<()> {
        let start = (SEGMENT_HEADER as u64).min(self.length);
        if self.header.is_none() {
            self.bad.push(0..start);
        }
        let mut scanner = self.scanner(seed, start);
        loop {
            let at = scanner.at();
            match scanner.next()? {
                Found::Frame(frame) if frame.kind == PREAMBLE => self.add_run(at..scanner.at()),
                Found::Frame(frame) if frame.number < self.next => {
                    self.bad.push(at..scanner.at());
                }
                Found::Frame(frame) => {
                    if frame.number > self.next {
                        add_hole(&mut self.holes, self.next, frame.number);
                        self.edges.push(self.end());
                    }
                    let group = frame.number.saturating_sub(frame.behind.into());
                    self.synced = self.synced.max(group);
                    self.next = frame.number + 1;
                    self.add_run(at..scanner.at());
                }
                Found::Bad if scanner.resync(self.next)? => self.bad.push(at..scanner.at()),
                Found::Bad => {
                    let mut rest = self.scanner(seed, at);
                    self.tail = at..rest.end_of_content()?;
                    return Ok(());
                }
                Found::End => {
                    self.tail = at..at;
                    return Ok(());
                }
            }
        }
    }

    fn scanner(&self, seed: Seed, at: u64) -> Scanner {
        let mut scanner = Scanner::new(Arc::clone(&self.file), seed, at, self.length);
        scanner.set_lenient(self.lenient);
        scanner
    }

    fn add_run(&mut self, run: Range<u64>) {
        match self.runs.last_mut() {
            Some(last) if last.end == run.start => last.end = run.end,
            _ => self.runs.push(run),
        }
    }

    /// Without a seed no checksum can be verified: goes by numbers that could be right.
    fn guess(&mut self) -> io::Result<()> {
        let start = (SEGMENT_HEADER as u64).min(self.length);
        let mut scanner = self.scanner(Seed::of(0), start);
        let mut at = start;
        let most = self.first + self.length / FRAME_HEADER as u64;
        while let Some((head, found)) = scanner.head_from(at)? {
            let end = found + (FRAME_HEADER + head.length) as u64;
            let plausible = (self.next..most).contains(&head.number) && end <= self.length;
            if plausible && head.kind != PREAMBLE {
                self.next = head.number + 1;
            }
            at = if plausible { end } else { found + 1 };
        }
        if self.next == self.first {
            let mut whole = self.scanner(Seed::of(0), 0);
            self.tail = 0..whole.end_of_content()?;
        }
        Ok(())
    }
}
