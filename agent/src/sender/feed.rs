//! What goes over the wire next, in order: batches as they lie in the spool, a Skip over every hole,
//! and the definitions a reader needs after one.
//!
//! In: the stream's durable records from a sequence on. Out: [`Outgoing`] records, each with the
//! [`Piece`] its acknowledgement settles. Promises: sequences leave here without gap or overlap; the
//! readings of a hole are the next record's cumulative count minus ours; nothing that was sent once
//! is read again unless the sink asks for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use prost::Message;
use weir_fault::{Mutant, mutant};
use weir_journal::{Item, ReadError, Reader};
use weir_proto::{limits, record, v1};

use crate::ledger::{Fate, Piece};
use crate::spool::Stream;

/// Definitions travel in records of at most this many bytes.
const DEFINITIONS_BYTES: usize = 1 << 20;

/// One record on its way out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) record: v1::Record,
    /// Bytes of the encoded record.
    pub(crate) bytes: usize,
    /// None for definitions: they have no sequence.
    pub(crate) piece: Option<Piece>,
    pub(crate) is_batch: bool,
    /// Observed time of a batch's first reading.
    pub(crate) first_ns: i64,
}

/// The place in one stream up to which everything was handed out.
pub(crate) struct Feed {
    reader: Reader,
    /// The next sequence to hand out, and the readings of the stream before it.
    next: u64,
    readings: u64,
    /// What the sink may miss the definitions of.
    definitions_due: bool,
    /// The first batch that followed definitions.
    defined_at: Option<u64>,
    ready: VecDeque<Outgoing>,
}

impl Feed {
    /// From `next` on, where the stream has had `readings` before it.
    pub(crate) fn new(stream: &Stream, next: u64, readings: u64, definitions_due: bool) -> Feed {
        Feed {
            reader: stream.reader(next),
            next,
            readings,
            definitions_due,
            defined_at: None,
            ready: VecDeque::new(),
        }
    }

    /// The next record, without taking it.
    pub(crate) fn peek(
        &mut self,
        stream: &Stream,
        set_aside: &BTreeSet<u64>,
    ) -> Result<Option<&Outgoing>, ReadError> {
        while self.ready.is_empty() {
            if !self.fill(stream, set_aside)? {
                break;
            }
        }
        Ok(self.ready.front())
    }

    /// Takes what `peek` showed.
    pub(crate) fn take(&mut self) -> Option<Outgoing> {
        self.ready.pop_front()
    }

    /// The first batch that followed the definitions, once they were handed out.
    pub(crate) fn defined_at(&self) -> Option<u64> {
        self.defined_at
    }

    /// Whether everything through `sequence` was handed out.
    pub(crate) fn is_past(&self, sequence: u64) -> bool {
        self.ready.is_empty() && self.next > sequence
    }

    /// Reads one more item of the journal; false when there is nothing more for now.
    fn fill(&mut self, stream: &Stream, set_aside: &BTreeSet<u64>) -> Result<bool, ReadError> {
        // Asked before reading: what was durable then and cannot be read now is a hole.
        let (durable_through, durable_readings) = stream.durable();
        let item = if stream.is_given_up() {
            None
        } else {
            self.reader.next()?
        };
        match item {
            Some(Item::Record { number, body, .. }) => {
                self.take_record(stream, set_aside, number, body);
                Ok(true)
            }
            Some(Item::Hole { .. } | Item::Preamble { .. }) => Ok(true),
            None if self.next <= durable_through => {
                self.close_hole(stream, durable_through, durable_readings);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn take_record(
        &mut self,
        stream: &Stream,
        set_aside: &BTreeSet<u64>,
        number: u64,
        body: bytes::Bytes,
    ) {
        if number < self.next {
            return;
        }
        let bytes = body.len();
        let decoded = record::decode(body).ok().and_then(|record| record.record);
        match decoded {
            Some(v1::record::Record::Batch(batch)) => {
                let header = batch.header.clone().unwrap_or_default();
                self.close_hole(stream, number - 1, header.readings_before);
                if set_aside.contains(&number) {
                    self.skip(number, number, header.readings, v1::DropReason::Refused);
                } else {
                    self.batch(stream, batch, &header, bytes);
                }
            }
            Some(v1::record::Record::Skip(skip)) => {
                self.close_hole(stream, number - 1, skip.readings_before);
                self.skip(number, number, skip.readings, reason_of(&skip));
            }
            // Not what the spool writes: the next record closes the sequence as a hole.
            _ => tracing::error!(
                sequence = number,
                "cannot read a record of the spool: skipping it"
            ),
        }
    }

    fn batch(&mut self, stream: &Stream, batch: v1::Batch, header: &v1::BatchHeader, bytes: usize) {
        if self.definitions_due {
            if !mutant(Mutant::DefinitionsLost) {
                self.define(stream);
            }
            self.definitions_due = false;
            self.defined_at = Some(self.next);
        }
        let piece = Piece {
            from: self.next,
            through: self.next,
            readings_before: self.readings,
            readings: header.readings,
            fate: Fate::Stored { crc: header.crc },
        };
        self.ready.push_back(Outgoing {
            record: wrap(v1::record::Record::Batch(batch)),
            bytes,
            piece: Some(piece),
            is_batch: true,
            first_ns: header.first_ns,
        });
        self.next += 1;
        self.readings += header.readings;
    }

    /// Closes what is missing between the last record handed out and `through`, where the stream has
    /// had `readings_through`. What the sink had acknowledged and then lost is told from the rest.
    fn close_hole(&mut self, stream: &Stream, through: u64, readings_through: u64) {
        if through < self.next {
            return;
        }
        for (mark, mark_readings) in stream.marks() {
            if self.next <= mark && mark < through {
                let readings = mark_readings.saturating_sub(self.readings);
                self.skip_hole(stream, mark, readings);
            }
        }
        let readings = readings_through.saturating_sub(self.readings);
        self.skip_hole(stream, through, readings);
    }

    fn skip_hole(&mut self, stream: &Stream, through: u64, readings: u64) {
        let reason = stream.reason_of_hole(self.next);
        self.skip(self.next, through, readings, reason);
    }

    fn skip(&mut self, from: u64, through: u64, readings: u64, reason: v1::DropReason) {
        let skip = v1::Skip {
            from,
            through,
            reason: reason.into(),
            readings_before: self.readings,
            readings: if mutant(Mutant::SkipWithoutCount) {
                0
            } else {
                readings
            },
        };
        let piece = Piece {
            from,
            through,
            readings_before: self.readings,
            readings,
            fate: Fate::Dropped(reason),
        };
        let record = wrap(v1::record::Record::Skip(skip));
        self.ready.push_back(Outgoing {
            bytes: record.encoded_len(),
            record,
            piece: Some(piece),
            is_batch: false,
            first_ns: 0,
        });
        self.next = through + 1;
        self.readings += readings;
        self.definitions_due |= swallows_definitions(reason);
    }

    /// The whole dictionary, in records of bounded size.
    fn define(&mut self, stream: &Stream) {
        for series in in_parts(stream.dictionary()) {
            let record = wrap(v1::record::Record::Definitions(v1::Definitions { series }));
            self.ready.push_back(Outgoing {
                bytes: record.encoded_len(),
                record,
                piece: None,
                is_batch: false,
                first_ns: 0,
            });
        }
    }
}

fn in_parts(dictionary: BTreeMap<u32, v1::Series>) -> Vec<Vec<v1::Series>> {
    let mut parts: Vec<Vec<v1::Series>> = Vec::new();
    let mut room = 0;
    for series in dictionary.into_values() {
        let bytes = series.encoded_len() + 8;
        match parts.last_mut() {
            Some(part) if bytes <= room && part.len() < limits::MAX_NEW_SERIES => {
                room -= bytes;
                part.push(series);
            }
            _ => {
                room = DEFINITIONS_BYTES.saturating_sub(bytes);
                parts.push(vec![series]);
            }
        }
    }
    parts
}

fn wrap(record: v1::record::Record) -> v1::Record {
    v1::Record {
        record: Some(record),
    }
}

/// Only a hole or a refusal can have swallowed definitions: a drop by the spool's own policy carries them
/// on to the next batch. Sending them once too often costs bytes, not truth.
pub(crate) fn swallows_definitions(reason: v1::DropReason) -> bool {
    matches!(
        reason,
        v1::DropReason::Refused
            | v1::DropReason::SpoolOldest
            | v1::DropReason::Damaged
            | v1::DropReason::SinkRolledBack
    )
}

/// The reason of a Skip as the spool wrote it.
pub(crate) fn reason_of(skip: &v1::Skip) -> v1::DropReason {
    v1::DropReason::try_from(skip.reason).unwrap_or(v1::DropReason::Unspecified)
}
