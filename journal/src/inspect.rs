//! Looks at a journal without a lock and without changing a byte: what a tool sees, also beside a running writer.
//!
//! In: a directory. Out: every record, every range of numbers that is missing and every run of bytes that is no frame, in
//! order. Beside a running writer it may see records that are not synced yet, and a record half written looks like a torn
//! tail; segments that are released meanwhile are passed over.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::error::ReadError;
use crate::frame::{HeaderFault, PREAMBLE, SEGMENT_HEADER, SegmentHeader};
use crate::identity;
use crate::salvage;
use crate::scanner::{Found, Scanner};
use crate::seed::Seed;
use crate::segment;
use crate::storage::{File, Storage};

/// What an [`Inspector`] comes across.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A segment begins here.
    Segment {
        /// Number of its first record, and its name.
        first: u64,
        /// Length of the file: what it holds, and room that is not used yet.
        bytes: u64,
    },
    /// A record whose checksum is right.
    Record {
        /// Its number.
        number: u64,
        /// Its body.
        body: Bytes,
    },
    /// The unnumbered frame at the head of a segment.
    Preamble {
        /// Its body.
        body: Bytes,
    },
    /// Numbers that should be here and are not.
    Missing {
        /// First number missing.
        from: u64,
        /// Last number missing.
        through: u64,
    },
    /// Bytes that are no frame, or cannot be read.
    Damage {
        /// The segment's first number.
        segment: u64,
        /// Offset of the first of them.
        from: u64,
        /// Offset behind the last.
        to: u64,
        /// Whether nothing follows in the whole journal: a record being written, one that never was whole, or damage.
        tail: bool,
    },
}

/// See the module.
pub struct Inspector {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    id: Option<[u8; 16]>,
    segments: VecDeque<u64>,
    place: Option<Place>,
    /// Number of the next record; 0 while nothing says which it should be.
    next: u64,
    found: VecDeque<Finding>,
}

struct Place {
    first: u64,
    file: Arc<dyn File>,
    length: u64,
    seed: Seed,
    scanner: Scanner,
}

impl Inspector {
    /// Lists the segments of a directory; what is added to it later is not seen.
    pub fn new(storage: Arc<dyn Storage>, dir: &Path) -> io::Result<Inspector> {
        let names = storage.list(dir)?;
        let mut segments: Vec<u64> = names
            .iter()
            .filter_map(|name| segment::first_of(name))
            .collect();
        segments.sort_unstable();
        let id = match identity::read(storage.as_ref(), dir)? {
            Some(Ok(id)) => Some(id),
            _ => None,
        };
        Ok(Inspector {
            storage,
            dir: dir.to_owned(),
            id,
            segments: segments.into(),
            place: None,
            next: 0,
            found: VecDeque::new(),
        })
    }

    /// The journal's id, where its file is whole.
    pub fn id(&self) -> Option<[u8; 16]> {
        self.id
    }

    /// The next finding; `None` at the end.
    #[expect(
        clippy::should_implement_trait,
        reason = "like the reader's, and it can fail"
    )]
    pub fn next(&mut self) -> Result<Option<Finding>, ReadError> {
        loop {
            if let Some(found) = self.found.pop_front() {
                return Ok(Some(found));
            }
            let Some(mut place) = self.place.take() else {
                let Some(first) = self.segments.pop_front() else {
                    return Ok(None);
                };
                self.enter(first)
                    .map_err(|source| self.failed(first, source))?;
                continue;
            };
            let first = place.first;
            let goes_on = self
                .look(&mut place)
                .map_err(|source| self.failed(first, source))?;
            self.place = goes_on.then_some(place);
        }
    }

    fn enter(&mut self, first: u64) -> io::Result<()> {
        let file = match self.storage.open_to_read(&segment::path(&self.dir, first)) {
            // Released since the directory was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.next = 0;
                return Ok(());
            }
            other => other?,
        };
        let length = file.length()?;
        self.found.push_back(Finding::Segment {
            first,
            bytes: length,
        });
        self.expect(first);
        let mut bytes = [0; SEGMENT_HEADER];
        let read = file.read_at(&mut bytes, 0).unwrap_or(0);
        let seed = match SegmentHeader::decode(&bytes[..read]) {
            Ok(header)
                if header.first == first && self.id.is_none_or(|id| id == header.journal) =>
            {
                Some(header.seed())
            }
            Ok(_) => None,
            Err(HeaderFault::Newer(version)) => {
                let text = format!("it has format version {version}: use the newer program");
                return Err(io::Error::new(io::ErrorKind::Unsupported, text));
            }
            Err(HeaderFault::Damaged) => {
                let seed = salvage::find_seed(&file, &bytes[..read], length, true)?;
                if seed.is_some() {
                    self.damage(first, 0, SEGMENT_HEADER as u64, false);
                }
                seed
            }
        };
        let Some(seed) = seed else {
            self.damage(first, 0, length, self.segments.is_empty());
            return Ok(());
        };
        let start = (SEGMENT_HEADER as u64).min(length);
        let mut scanner = Scanner::new(Arc::clone(&file), seed, start, length);
        scanner.set_lenient(true);
        self.place = Some(Place {
            first,
            file,
            length,
            seed,
            scanner,
        });
        Ok(())
    }

    /// Notes what stands at a place; false at the end of its segment.
    fn look(&mut self, place: &mut Place) -> io::Result<bool> {
        let at = place.scanner.at();
        match place.scanner.next()? {
            Found::Frame(frame) if frame.kind == PREAMBLE => {
                self.found.push_back(Finding::Preamble { body: frame.body });
            }
            Found::Frame(frame) if frame.number < self.next => {
                self.damage(place.first, at, place.scanner.at(), false);
            }
            Found::Frame(frame) => {
                self.expect(frame.number);
                self.next = frame.number + 1;
                self.found.push_back(Finding::Record {
                    number: frame.number,
                    body: frame.body,
                });
            }
            Found::Bad if place.scanner.resync(self.next)? => {
                self.damage(place.first, at, place.scanner.at(), false);
            }
            Found::Bad => {
                let file = Arc::clone(&place.file);
                let mut rest = Scanner::new(file, place.seed, at, place.length);
                rest.set_lenient(true);
                let end = rest.end_of_content()?;
                self.damage(place.first, at, end, self.segments.is_empty());
                return Ok(false);
            }
            Found::End => return Ok(false),
        }
        Ok(true)
    }

    /// What comes next has this number.
    fn expect(&mut self, number: u64) {
        if self.next != 0 && number > self.next {
            self.found.push_back(Finding::Missing {
                from: self.next,
                through: number - 1,
            });
        }
        self.next = self.next.max(number);
    }

    fn damage(&mut self, segment: u64, from: u64, to: u64, tail: bool) {
        if from < to {
            self.found.push_back(Finding::Damage {
                segment,
                from,
                to,
                tail,
            });
        }
    }

    fn failed(&self, first: u64, source: io::Error) -> ReadError {
        ReadError {
            path: segment::path(&self.dir, first),
            source,
        }
    }
}

impl fmt::Debug for Inspector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Inspector")
            .field("dir", &self.dir)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
