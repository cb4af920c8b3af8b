//! Looking into a stream without changing it: single records, what is missing and why, how old the
//! oldest reading is.

use std::collections::BTreeMap;

use bytes::Bytes;
use weir_journal::{Hole, Item, ReadError, Reader};
use weir_proto::{record, v1};

use super::stream::{Ledger, Stream};

impl Stream {
    /// Why a sequence that cannot be read is missing.
    pub(crate) fn reason_of_hole(&self, sequence: u64) -> v1::DropReason {
        if sequence <= self.lock().state.account.acked_through {
            return v1::DropReason::SinkRolledBack;
        }
        let damaged = |hole: &Hole| (hole.from..=hole.through).contains(&sequence);
        if self.damaged.iter().any(damaged) {
            v1::DropReason::Damaged
        } else {
            v1::DropReason::SpoolOldest
        }
    }

    /// Every series of the stream, by ref.
    pub(crate) fn dictionary(&self) -> BTreeMap<u32, v1::Series> {
        self.lock().dictionary.clone()
    }

    /// The record with this sequence, if it can be read.
    pub(crate) fn read(&self, sequence: u64) -> Result<Option<Bytes>, ReadError> {
        if self.is_given_up() {
            return Ok(None);
        }
        let mut reader = self.journal.reader(sequence);
        while let Some(item) = reader.next()? {
            match item {
                Item::Record { number, body, .. } => {
                    return Ok((number == sequence).then_some(body));
                }
                Item::Hole { through, .. } if through >= sequence => return Ok(None),
                Item::Hole { .. } | Item::Preamble { .. } => {}
            }
        }
        Ok(None)
    }

    /// Observed time of the first reading beyond the acknowledged ones; 0 when there is none to read.
    pub(super) fn oldest_unacked(&self, ledger: &mut Ledger) -> i64 {
        let acked_through = ledger.state.account.acked_through;
        if acked_through >= ledger.durable_through || self.is_given_up() {
            return 0;
        }
        if let Some((at, first_ns)) = ledger.oldest_unacked
            && at == acked_through
        {
            return first_ns;
        }
        let first_ns = first_time(&mut self.journal.reader(acked_through + 1));
        ledger.oldest_unacked = Some((acked_through, first_ns));
        first_ns
    }
}

/// The time of the next batch's first reading; 0 when there is none, or it cannot be read.
fn first_time(reader: &mut Reader) -> i64 {
    while let Ok(Some(item)) = reader.next() {
        let Item::Record { body, .. } = item else {
            continue;
        };
        if let Ok(v1::Record {
            record: Some(v1::record::Record::Batch(batch)),
        }) = record::decode(body)
        {
            return batch.header.map_or(0, |header| header.first_ns);
        }
    }
    0
}
