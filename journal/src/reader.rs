//! Reads durable records in order, over segments, past damage, behind the live tail, while old segments are released.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::error::ReadError;
use crate::frame::{PREAMBLE, SEGMENT_HEADER};
use crate::scanner::{Found, Scanner};
use crate::segment::{self, Segment};
use crate::shared::Shared;

/// What a reader comes across.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A durable record.
    Record {
        /// Its number.
        number: u64,
        /// The caller's kind.
        kind: u8,
        /// Its body: a slice of a read of up to 256 KiB, which it keeps alive.
        body: Bytes,
    },
    /// Numbers that cannot be read: damaged, missing, or released before the reader came to them.
    Hole {
        /// First number missing.
        from: u64,
        /// Last number missing.
        through: u64,
    },
    /// What a segment's records need to be understood.
    Preamble {
        /// As it was set when the segment was started.
        body: Bytes,
    },
}

/// A place in a journal. Independent of other readers; keeps the journal's files open, not the journal.
pub struct Reader {
    shared: Arc<Shared>,
    next: u64,
    place: Option<Place>,
}

struct Place {
    segment: Segment,
    followed: bool,
    /// `None` where no record of the segment can be told.
    scanner: Option<Scanner>,
}

impl Place {
    fn found(&mut self) -> io::Result<Found> {
        match &mut self.scanner {
            Some(scanner) => scanner.next(),
            None => Ok(Found::End),
        }
    }

    fn resync(&mut self, floor: u64) -> io::Result<()> {
        match &mut self.scanner {
            Some(scanner) => scanner.resync(floor).map(drop),
            None => Ok(()),
        }
    }
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, from: u64) -> Reader {
        Reader {
            shared,
            next: from.max(1),
            place: None,
        }
    }

    /// Number of the next record it would return.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The next item; `None` when nothing durable lies beyond: wait for [`crate::Journal::progress`] to change. Reads
    /// files, so it blocks the thread for as long as the disk takes.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator that ends cannot follow a live tail"
    )]
    pub fn next(&mut self) -> Result<Option<Item>, ReadError> {
        loop {
            let oldest = self.shared.oldest.load(Ordering::Acquire);
            if oldest > self.next {
                self.place = None;
                return Ok(Some(self.skip_to(oldest)));
            }
            let Some(mut place) = self.place.take() else {
                if !self.enter_segment()? {
                    return Ok(None);
                }
                continue;
            };
            let found = match place.found() {
                Ok(found) => found,
                Err(source) => {
                    self.refused(place, source)?;
                    continue;
                }
            };
            match found {
                Found::Frame(frame) => {
                    self.place = Some(place);
                    if frame.kind == PREAMBLE {
                        return Ok(Some(Item::Preamble { body: frame.body }));
                    }
                    if frame.number > self.next {
                        // Read it again behind the hole.
                        self.step_back(frame.at);
                        return Ok(Some(self.skip_to(frame.number)));
                    }
                    if frame.number < self.next {
                        continue;
                    }
                    self.next += 1;
                    return Ok(Some(Item::Record {
                        number: frame.number,
                        kind: frame.kind,
                        body: frame.body,
                    }));
                }
                Found::Bad => match place.resync(self.next) {
                    Ok(()) => self.place = Some(place),
                    Err(source) => self.refused(place, source)?,
                },
                Found::End => match self.leave_segment(place) {
                    Next::Continue => {}
                    Next::Hole(hole) => return Ok(Some(hole)),
                    Next::Wait => return Ok(None),
                },
            }
        }
    }

    /// Opens the segment of the next number; false when there is none yet.
    fn enter_segment(&mut self) -> Result<bool, ReadError> {
        loop {
            let Some((segment, followed)) = self.shared.segment_of(self.next) else {
                return Ok(false);
            };
            let Some(seed) = segment.seed else {
                self.place = Some(Place {
                    segment,
                    followed,
                    scanner: None,
                });
                return Ok(true);
            };
            let path = segment::path(&self.shared.dir, segment.first);
            match self.shared.storage.open(&path) {
                Ok(file) => {
                    let at = (SEGMENT_HEADER as u64).min(segment.bytes);
                    let mut scanner = Scanner::new(file, seed, at, segment.bytes);
                    scanner.set_lenient(self.shared.is_given_up(segment.first));
                    self.place = Some(Place {
                        segment,
                        followed,
                        scanner: Some(scanner),
                    });
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.is_gone(&segment) => {
                }
                Err(source) => {
                    let place = Place {
                        segment,
                        followed,
                        scanner: None,
                    };
                    if !self.shared.refused(place.segment.first, &source) {
                        return Err(self.failed(&place.segment, source));
                    }
                    // Nothing of it is left to read: its numbers are a hole.
                    self.place = Some(place);
                    return Ok(true);
                }
            }
        }
    }

    /// The disk refused: an error, or, when that was said often enough, the same place again and past
    /// what cannot be read.
    fn refused(&mut self, mut place: Place, source: io::Error) -> Result<(), ReadError> {
        if !self.shared.refused(place.segment.first, &source) {
            return Err(self.failed(&place.segment, source));
        }
        if let Some(scanner) = &mut place.scanner {
            scanner.set_lenient(true);
        }
        self.place = Some(place);
        Ok(())
    }

    /// At the end of what was durable: go on in the same segment, name what is missing at its end, or go to the next.
    fn leave_segment(&mut self, mut place: Place) -> Next {
        let Some((segment, followed)) = self.shared.segment_of(place.segment.first) else {
            return Next::Continue;
        };
        if segment.first != place.segment.first || segment.seed != place.segment.seed {
            return Next::Continue;
        }
        if segment.bytes > place.segment.bytes
            || (segment.next, followed) != (place.segment.next, place.followed)
        {
            if let Some(scanner) = &mut place.scanner {
                scanner.extend(segment.bytes);
            }
            place.segment = segment;
            place.followed = followed;
            self.place = Some(place);
            return Next::Continue;
        }
        if self.next < segment.next {
            let hole = self.skip_to(segment.next);
            if !followed {
                self.place = Some(place);
            }
            return Next::Hole(hole);
        }
        if followed
            && self
                .shared
                .segment_of(self.next)
                .is_some_and(|(next, _)| next.first != segment.first)
        {
            return Next::Continue;
        }
        self.place = Some(place);
        Next::Wait
    }

    fn skip_to(&mut self, number: u64) -> Item {
        let hole = Item::Hole {
            from: self.next,
            through: number - 1,
        };
        self.next = number;
        hole
    }

    fn step_back(&mut self, at: u64) {
        if let Some(scanner) = self.place.as_mut().and_then(|place| place.scanner.as_mut()) {
            scanner.back_to(at);
        }
    }

    fn is_gone(&self, segment: &Segment) -> bool {
        self.shared
            .segment_of(segment.first)
            .is_none_or(|(found, _)| found.first != segment.first)
    }

    fn failed(&self, segment: &Segment, source: io::Error) -> ReadError {
        ReadError {
            path: segment::path(&self.shared.dir, segment.first),
            source,
        }
    }
}

enum Next {
    Continue,
    Hole(Item),
    Wait,
}

impl fmt::Debug for Reader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Reader")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
