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

use std::collections::VecDeque;

use weir_fault::{Mutant, mutant};
use weir_proto::batch::Readings;
use weir_proto::v1;

use super::check::{Readable, definitions, table_of};
use super::fault::{Fault, Refusal};
use super::mark::Mark;
use crate::refs::Refs;

/// Series one stream may define; an agent that needs more begins a new stream.
pub(super) const MAX_STREAM_SERIES: usize = 1_000_000;

/// What a ref means, as far as ingest has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Definition {
    /// Of the whole definition: two that differ anywhere differ here.
    pub(super) digest: u64,
    /// Whether its values are texts.
    pub(super) text: bool,
}

/// The first question's answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Screened {
    /// The next record: read it.
    Wanted,
    /// Already accepted: acknowledge again, store nothing.
    Again,
    /// Follows a refused batch: the agent will send it again.
    Discard,
}

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
    series: Refs<Definition>,
    /// Refs that what is accepted and not appended has defined.
    defined: Vec<u32>,
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
    pub(super) fn restored(mark: Mark, closed: bool, series: Refs<Definition>) -> Self {
        Self {
            accepted: mark,
            appended: mark,
            durable: mark,
            series,
            closing: closed,
            closed,
            ..Self::default()
        }
    }

    /// The first question: is `record` the next one? Looks at nothing but counts in the clear.
    pub(super) fn screen(&self, record: &v1::record::Record) -> Result<Screened, Fault> {
        match record {
            v1::record::Record::Batch(batch) => self.screen_batch(batch),
            v1::record::Record::Skip(skip) => self.screen_skip(skip),
            v1::record::Record::Definitions(_) if self.closing => self.follows_close(u64::MAX),
            v1::record::Record::Definitions(_) => Ok(Screened::Wanted),
            v1::record::Record::Close(close) => self.screen_close(close),
        }
    }

    fn screen_batch(&self, batch: &v1::Batch) -> Result<Screened, Fault> {
        let Some(header) = &batch.header else {
            return Err(Fault::Invalid("batch without a header".into()));
        };
        let sequence = header.sequence;
        // Behind the last number there is none for the next record.
        if sequence == 0 || sequence == u64::MAX {
            return Err(Fault::Invalid(format!(
                "batch with sequence {sequence}: they start at 1 and never come to the last number"
            )));
        }
        self.screen_sequence(sequence)
    }

    fn screen_sequence(&self, sequence: u64) -> Result<Screened, Fault> {
        let expected = self.accepted.sequence + 1;
        if sequence < expected {
            let again = !mutant(Mutant::NoDedupe);
            return Ok(if again {
                Screened::Again
            } else {
                Screened::Wanted
            });
        }
        if self.closing {
            return self.follows_close(sequence);
        }
        if sequence == expected {
            return Ok(Screened::Wanted);
        }
        if self.refused.is_some() {
            return Ok(Screened::Discard);
        }
        Err(Fault::Gap {
            expected,
            got: sequence,
        })
    }

    fn follows_close(&self, sequence: u64) -> Result<Screened, Fault> {
        debug_assert!(
            sequence > self.accepted.sequence,
            "an older record is answered before"
        );
        Err(Fault::Closed(self.accepted.sequence))
    }

    fn screen_skip(&self, skip: &v1::Skip) -> Result<Screened, Fault> {
        let (from, through) = (skip.from, skip.through);
        if from == 0 || from > through || through == u64::MAX {
            return Err(Fault::Invalid(format!(
                "skip {from}..={through} is not a range"
            )));
        }
        if !matches!(v1::DropReason::try_from(skip.reason), Ok(reason) if reason != v1::DropReason::Unspecified)
        {
            return Err(Fault::Invalid(format!(
                "skip {from}..={through} gives no reason this sink knows ({}): upgrade the sink before its agents",
                skip.reason
            )));
        }
        if through <= self.accepted.sequence {
            return Ok(Screened::Again);
        }
        let screened = self.screen_sequence(from.max(self.accepted.sequence + 1))?;
        if screened == Screened::Wanted {
            self.trim(skip)?;
        }
        Ok(screened)
    }

    /// The part of `skip` that follows what is accepted.
    fn trim(&self, skip: &v1::Skip) -> Result<v1::Skip, Fault> {
        let here = self.accepted.readings_through;
        let disagrees = |got| Fault::SkipDisagrees {
            from: skip.from,
            through: skip.through,
            expected: here,
            got,
        };
        let end = skip.readings_before.checked_add(skip.readings);
        let end = end
            .filter(|end| *end <= i64::MAX as u64)
            .ok_or_else(|| disagrees(u64::MAX))?;
        if skip.from == self.accepted.sequence + 1 {
            if skip.readings_before != here {
                return Err(disagrees(skip.readings_before));
            }
            return Ok(*skip);
        }
        if skip.readings_before > here {
            return Err(disagrees(skip.readings_before));
        }
        let readings = end.checked_sub(here).ok_or_else(|| disagrees(end))?;
        Ok(v1::Skip {
            from: self.accepted.sequence + 1,
            through: skip.through,
            reason: skip.reason,
            readings_before: here,
            readings,
        })
    }

    fn screen_close(&self, close: &v1::Close) -> Result<Screened, Fault> {
        let last = self.accepted.sequence;
        if self.closing && close.last_sequence == last {
            return Ok(Screened::Again);
        }
        if self.refused.is_some() {
            return Ok(Screened::Discard);
        }
        if close.last_sequence != last {
            return Err(Fault::CloseDisagrees {
                named: close.last_sequence,
                last,
            });
        }
        Ok(Screened::Wanted)
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
            defines: self.new_definitions(definitions(record))?,
            closes: false,
            jump: 0,
        };
        match readable {
            Readable::Batch { readings, .. } => {
                self.check_refs(readings, &effect.defines)?;
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

    fn new_definitions(&self, series: &[v1::Series]) -> Result<Vec<(u32, Definition)>, Refusal> {
        let mut new = Vec::new();
        for (r#ref, definition) in table_of(series) {
            match self.series.get(r#ref) {
                None => new.push((r#ref, definition)),
                Some(known) if known == definition => {}
                Some(_) => {
                    return Err(Refusal::new(
                        v1::RefusedCode::Invalid,
                        format!("series {} was defined differently before", r#ref),
                    ));
                }
            }
        }
        if self.series.len() + new.len() > MAX_STREAM_SERIES {
            return Err(Refusal::new(
                v1::RefusedCode::TooLarge,
                format!("stream has more than {MAX_STREAM_SERIES} series: begin a new stream"),
            ));
        }
        Ok(new)
    }

    fn check_refs(&self, readings: &Readings, new: &[(u32, Definition)]) -> Result<(), Refusal> {
        // Rarely more than a handful beyond the first batch: then nothing is built.
        let new: Refs<Definition> = new.iter().copied().collect();
        for (r#ref, text) in readings.series() {
            let Some(definition) = self.series.get(r#ref).or_else(|| new.get(r#ref)) else {
                return Err(Refusal::new(
                    v1::RefusedCode::UnknownSeries,
                    format!("series {} was never defined in this stream", r#ref),
                ));
            };
            if definition.text != text {
                return Err(Refusal::new(
                    v1::RefusedCode::Invalid,
                    format!("values of series {} are not of its kind", r#ref),
                ));
            }
        }
        Ok(())
    }

    /// A record with this effect will be appended, unless [`Stream::retreat`] takes it back. Says whether
    /// this is the first time that the counts of this stream do not follow each other.
    pub(super) fn accept(&mut self, effect: Effect) -> bool {
        self.defined
            .extend(effect.defines.iter().map(|(r#ref, _)| *r#ref));
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
        self.keep()
    }

    /// Takes back what is accepted and not appended. A refusal is kept: whoever resumes starts without it.
    pub(super) fn retreat(&mut self) {
        for r#ref in std::mem::take(&mut self.defined) {
            self.series.remove(r#ref);
        }
        self.accepted = self.appended;
        self.closing = self.closed;
    }

    /// What is accepted is appended. Says whether that was the end.
    fn keep(&mut self) -> bool {
        self.defined.clear();
        self.appended = self.accepted;
        let ended = self.closing && !self.closed;
        if ended {
            self.closed = true;
            self.series = Refs::default();
        }
        ended
    }

    /// A record found in the journal at start: it passed all questions before it was written.
    pub(super) fn replay(&mut self, record: &v1::record::Record) {
        match record {
            v1::record::Record::Batch(batch) => {
                let header = batch.header.clone().unwrap_or_default();
                let mark = self.accepted.after_batch(&header);
                if mark.sequence > self.accepted.sequence {
                    self.apply(mark, table_of(&batch.series_defined).collect(), false);
                }
            }
            v1::record::Record::Skip(skip) if skip.through > self.accepted.sequence => {
                self.apply(self.accepted.after_skip(skip), Vec::new(), false);
            }
            v1::record::Record::Skip(_) => {}
            v1::record::Record::Definitions(definitions) => {
                self.apply(
                    self.accepted,
                    table_of(&definitions.series).collect(),
                    false,
                );
            }
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
        self.series.extend(defines);
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

    /// Nothing was ever accepted: there is nothing to remember.
    pub(super) fn is_blank(&self) -> bool {
        self.accepted == Mark::default() && self.series.len() == 0 && !self.closed
    }
}

fn jump(expected: u64, found: u64) -> i64 {
    let jump = i128::from(found) - i128::from(expected);
    i64::try_from(jump).unwrap_or(if jump < 0 { i64::MIN } else { i64::MAX })
}
