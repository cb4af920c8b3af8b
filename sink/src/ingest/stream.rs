//! What ingest knows of one stream, as a pure state machine: no clock, no I/O.
//!
//! In: records in the order in which the agent sent them, numbers the journal gave them, and how
//! far the journal is durable. Out: what to do with each record, and the acknowledgement.
//!
//! A record passes three questions, the first two without touching the state:
//!
//! 1. [`Stream::screen`]: is it the next one? (clear text only)
//! 2. [`super::check::read`]: can it be read at all? (decompression, counts, names)
//! 3. [`Stream::admit`]: does it fit this stream? (refs known, definitions unchanged)
//!
//! Then [`Stream::accept`] lets the next record follow it. The records of a request are appended to
//! the journal together, and [`Stream::appended`] says so; when they could not be, or nobody came to
//! it, [`Stream::retreat`] takes them back: nothing that was not appended has happened. What is
//! appended is ahead of `durable` by what waits in `pending`; an acknowledgement speaks only of
//! `durable`.

mod screen;

use std::collections::VecDeque;

use weir_proto::v1;

use super::check::{Readable, definitions, table_of};
use super::dictionary::{Definition, Dictionary};
use super::fault::Refusal;
use super::mark::Mark;
use crate::envelope::marked;
pub(super) use screen::Screened;

/// What a record does to the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Effect {
    /// Where the stream then stands.
    pub(super) mark: Mark,
    /// Definitions that are new.
    pub(super) defines: Vec<(u32, Definition)>,
    /// Nothing follows.
    pub(super) closes: bool,
    /// Readings the header counts beyond (or short of) where the stream stood: will be unexplained.
    pub(super) jump: i64,
}

/// Records that were appended together.
struct Pending {
    /// The journal's number of the last.
    number: u64,
    /// Where the stream stands after it.
    mark: Mark,
    bytes: u64,
}

/// One stream.
#[derive(Default)]
pub(super) struct Stream {
    /// Ahead of `appended` only while a request is taken.
    accepted: Mark,
    appended: Mark,
    durable: Mark,
    dictionary: Dictionary,
    /// The journal's number of the last record.
    last_number: u64,
    pending: VecDeque<Pending>,
    pending_bytes: u64,
    refused: Option<u64>,
    /// Its end is accepted.
    closing: bool,
    /// Its end is appended.
    closed: bool,
    jumped: bool,
}

impl Stream {
    /// A stream as the catalog remembers it.
    pub(super) fn restored(mark: Mark, closed: bool, dictionary: Dictionary) -> Self {
        Self {
            accepted: mark,
            appended: mark,
            durable: mark,
            dictionary,
            closing: closed,
            closed,
            ..Self::default()
        }
    }

    /// The third question: does a readable record fit this stream? Gives what it would change, and
    /// for a skip the record as it applies. Nothing when it changes nothing (definitions repeated).
    pub(super) fn admit(
        &self,
        record: &v1::record::Record,
        readable: &mut Readable,
    ) -> Result<Option<Effect>, Refusal> {
        let mut effect = Effect {
            mark: self.accepted,
            defines: self.dictionary.new_in(definitions(record))?,
            closes: false,
            jump: 0,
        };
        match readable {
            Readable::Batch { readings, .. } => {
                self.dictionary.check(readings, &effect.defines)?;
                if let v1::record::Record::Batch(v1::Batch {
                    header: Some(header),
                    ..
                }) = record
                {
                    effect.mark = self.accepted.after_batch(header);
                    effect.jump = jump(self.accepted.readings_through, header.readings_before);
                }
            }
            Readable::Skip(skip) => {
                *skip = self.trim(skip).map_err(|fault| {
                    Refusal::new(v1::RefusedCode::CountMismatch, fault.to_string())
                })?;
                effect.mark = self.accepted.after_skip(skip);
            }
            Readable::Definitions if effect.defines.is_empty() => return Ok(None),
            Readable::Definitions => {}
            Readable::Close => effect.closes = true,
        }
        Ok(Some(effect))
    }

    /// A record with this effect will be appended, unless [`Stream::retreat`] takes it back. Says whether
    /// this is the first time that the counts of this stream do not follow each other.
    pub(super) fn accept(&mut self, effect: Effect) -> bool {
        let first = effect.jump != 0 && !self.jumped;
        self.jumped |= effect.jump != 0;
        self.apply(effect.mark, effect.defines, effect.closes);
        first
    }

    /// The journal has all that is accepted; it gave `number` to the last record of it. Says whether that
    /// was the end.
    pub(super) fn appended(&mut self, number: u64, bytes: u64) -> bool {
        self.pending.push_back(Pending {
            number,
            mark: self.accepted,
            bytes,
        });
        self.pending_bytes += bytes;
        self.last_number = number;
        self.keep()
    }

    /// Takes back what is accepted and not appended. A refusal is kept: whoever resumes starts without it.
    pub(super) fn retreat(&mut self) {
        self.dictionary.retreat();
        self.accepted = self.appended;
        self.closing = self.closed;
    }

    /// What is accepted is appended. Says whether that was the end.
    fn keep(&mut self) -> bool {
        self.dictionary.keep();
        self.appended = self.accepted;
        let ended = self.closing && !self.closed;
        if ended {
            self.closed = true;
            self.dictionary = Dictionary::default();
        }
        ended
    }

    /// A record found in the journal at start: it passed all questions before it was written.
    pub(super) fn replay(&mut self, number: u64, record: &v1::record::Record, unwanted: &[u32]) {
        self.last_number = number;
        let defines = || {
            let series = definitions(record);
            let marks = marked(series, unwanted).map(|(_, is_unwanted)| is_unwanted);
            let all = table_of(series).zip(marks);
            let all = all.map(|((r#ref, definition), is_unwanted)| {
                let unwanted = definition.unwanted || is_unwanted;
                (
                    r#ref,
                    Definition {
                        unwanted,
                        ..definition
                    },
                )
            });
            all.collect()
        };
        match record {
            v1::record::Record::Batch(batch) => {
                let header = batch.header.clone().unwrap_or_default();
                let mark = self.accepted.after_batch(&header);
                if mark.sequence > self.accepted.sequence {
                    self.apply(mark, defines(), false);
                }
            }
            v1::record::Record::Skip(skip) if skip.through > self.accepted.sequence => {
                self.apply(self.accepted.after_skip(skip), Vec::new(), false);
            }
            v1::record::Record::Skip(_) => {}
            v1::record::Record::Definitions(_) => self.apply(self.accepted, defines(), false),
            v1::record::Record::Close(_) => self.apply(self.accepted, Vec::new(), true),
        }
        self.keep();
        self.durable = self.accepted;
    }

    fn apply(&mut self, mark: Mark, defines: Vec<(u32, Definition)>, closes: bool) {
        if mark.sequence > self.accepted.sequence {
            self.refused = None;
        }
        self.accepted = mark;
        self.dictionary.add(defines);
        self.closing |= closes;
    }

    /// The journal is durable through `number`.
    pub(super) fn settle(&mut self, number: u64) {
        while let Some(pending) = self
            .pending
            .pop_front_if(|pending| pending.number <= number)
        {
            self.durable = pending.mark;
            self.pending_bytes -= pending.bytes;
        }
        if self.closed && self.pending.is_empty() {
            self.pending = VecDeque::new();
        }
    }

    /// What its refs mean.
    pub(super) fn dictionary(&mut self) -> &mut Dictionary {
        &mut self.dictionary
    }

    /// Whether the catalog has all that is in memory of its definitions, once it stands at `position`.
    pub(super) fn is_defined_by(&self, position: u64) -> bool {
        !self.closed && self.pending.is_empty() && self.last_number <= position
    }

    /// Batch `sequence` was refused: until it is skipped or sent again, what follows is discarded.
    pub(super) fn refuse(&mut self, sequence: u64) {
        self.refused = Some(sequence);
    }

    /// A new connection starts without the memory of a refusal, or of what its former one did not bring
    /// into the journal: it resumes at Welcome.
    pub(super) fn reconnected(&mut self) {
        self.retreat();
        self.refused = None;
    }

    /// Through what an acknowledgement may speak.
    pub(super) fn durable(&self) -> Mark {
        self.durable
    }

    /// The journal's number of the last record that is not known to be durable.
    pub(super) fn last_pending(&self) -> Option<u64> {
        self.pending.back().map(|pending| pending.number)
    }

    /// Bytes of records that wait to be durable.
    pub(super) fn pending_bytes(&self) -> u64 {
        self.pending_bytes
    }

    /// Readings through the last record that the journal has, durable or not.
    pub(super) fn readings_appended(&self) -> u64 {
        self.appended.readings_through
    }

    /// Nothing follows.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// No memory but its own: for tests.
    #[cfg(test)]
    pub(super) fn holds_nothing(&self) -> bool {
        self.pending.capacity() == 0
    }

    /// Nothing was ever accepted: there is nothing to remember.
    pub(super) fn is_blank(&self) -> bool {
        self.accepted == Mark::default() && self.dictionary.is_blank() && !self.closed
    }
}

fn jump(expected: u64, found: u64) -> i64 {
    let jump = i128::from(found) - i128::from(expected);
    i64::try_from(jump).unwrap_or(if jump < 0 { i64::MIN } else { i64::MAX })
}
