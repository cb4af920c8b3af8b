//! What one segment file holds: which records, which holes between them, which bytes are no frames.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::error::OpenError;
use crate::frame::{FRAME_HEADER, HeaderFault, PREAMBLE, SEGMENT_HEADER, SegmentHeader, VERSION};
use crate::options::Hole;
use crate::recovery::{add_hole, failed};
use crate::scanner::{Found, Scanner};
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
    /// Number behind the last record. Behind an unreadable header it rests on numbers no checksum vouches for.
    pub(super) next: u64,
    /// Offsets of whole frames, in order.
    pub(super) runs: Vec<Range<u64>>,
    /// Offsets of what is no frame, before a frame.
    pub(super) bad: Vec<Range<u64>>,
    /// Offsets of what follows the last frame, without the zeros at its end.
    pub(super) tail: Range<u64>,
    holes: Vec<Hole>,
}

impl Survey {
    pub(super) fn of(storage: &dyn Storage, dir: &Path, first: u64) -> Result<Survey, OpenError> {
        let path = segment::path(dir, first);
        let fault = |source| failed("read", &path, source);
        let file = storage.open(&path).map_err(fault)?;
        let length = file.length().map_err(fault)?;
        let mut bytes = [0; SEGMENT_HEADER];
        let read = file.read_at(&mut bytes, 0).map_err(fault)?;
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
            next: first,
            runs: Vec::new(),
            bad: Vec::new(),
            tail: 0..0,
            holes: Vec::new(),
        };
        match header {
            Some(header) => survey.walk(header.segment),
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
        }
        self
    }

    /// Neither header nor records.
    pub(super) fn is_void(&self) -> bool {
        self.header.is_none() && self.next == self.first
    }

    /// What was guessed of an unreadable segment ends where the next one starts.
    pub(super) fn bound_guess(&mut self, end: u64) {
        if self.header.is_none() {
            self.next = end;
        }
    }

    /// Numbers missing up to the last record.
    pub(super) fn holes(&self) -> Vec<Hole> {
        let mut holes = Vec::new();
        match self.header {
            Some(_) => holes.clone_from(&self.holes),
            None => add_hole(&mut holes, self.first, self.next),
        }
        holes
    }

    /// Bytes that are no frames, without the tail.
    pub(super) fn damaged_bytes(&self) -> u64 {
        match self.header {
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
            id: self.header.map(|header| header.segment),
            bytes,
        }
    }

    fn walk(&mut self, segment: u64) -> io::Result<()> {
        let start = (SEGMENT_HEADER as u64).min(self.length);
        let mut scanner = Scanner::new(Arc::clone(&self.file), segment, start, self.length);
        loop {
            let at = scanner.at();
            match scanner.next()? {
                Found::Frame(frame) if frame.kind == PREAMBLE => self.add_run(at..scanner.at()),
                Found::Frame(frame) if frame.number < self.next => {
                    self.bad.push(at..scanner.at());
                }
                Found::Frame(frame) => {
                    add_hole(&mut self.holes, self.next, frame.number);
                    self.next = frame.number + 1;
                    self.add_run(at..scanner.at());
                }
                Found::Bad if scanner.resync(self.next)? => self.bad.push(at..scanner.at()),
                Found::Bad => {
                    let mut rest = Scanner::new(Arc::clone(&self.file), segment, at, self.length);
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

    fn add_run(&mut self, run: Range<u64>) {
        match self.runs.last_mut() {
            Some(last) if last.end == run.start => last.end = run.end,
            _ => self.runs.push(run),
        }
    }

    /// Without the segment id no checksum can be verified: goes by numbers that could be right.
    fn guess(&mut self) -> io::Result<()> {
        let start = (SEGMENT_HEADER as u64).min(self.length);
        let mut scanner = Scanner::new(Arc::clone(&self.file), 0, start, self.length);
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
            let mut whole = Scanner::new(Arc::clone(&self.file), 0, 0, self.length);
            self.tail = 0..whole.end_of_content()?;
        }
        Ok(())
    }
}
