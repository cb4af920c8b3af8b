//! The first question to a record, by what it says in the clear: is it the next one?

use weir_fault::{Mutant, mutant};
use weir_proto::v1;

use super::Stream;
use crate::ingest::fault::Fault;

/// The first question's answer.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::ingest) enum Screened {
    /// The next record: read it.
    Wanted,
    /// Already accepted: acknowledge again, store nothing.
    Again,
    /// Follows a refused batch: the agent will send it again.
    Discard,
}

impl Stream {
    /// The first question: is `record` the next one? Looks at nothing but counts in the clear.
    pub(in crate::ingest) fn screen(&self, record: &v1::record::Record) -> Result<Screened, Fault> {
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
    pub(super) fn trim(&self, skip: &v1::Skip) -> Result<v1::Skip, Fault> {
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
}
