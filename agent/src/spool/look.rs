//! Looking into a stream without changing it: single records, what is missing and why, how old the
//! oldest reading is.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;
use weir_journal::{Item, ReadError, Reader};
use weir_proto::v1;

use super::content::{Content, content};
use super::stream::{Ledger, Stream, preamble};
use super::survey::insist;
use super::{FULL_FOR, Spool, dropping};
use crate::ledger;

impl Stream {
    /// Why a sequence that cannot be read is missing.
    pub(crate) fn reason_of_hole(&self, sequence: u64) -> v1::DropReason {
        if self.ends_lost() == Some(sequence) {
            return v1::DropReason::SpoolNewest;
        }
        if sequence <= self.lock().state.account.peak().0 {
            return v1::DropReason::SinkRolledBack;
        }
        if self.is_given_up() || sequence <= self.lock().state.dropped_through {
            v1::DropReason::SpoolOldest
        } else {
            v1::DropReason::Damaged
        }
    }

    /// The last sequence of an earlier run, where it is no record but what was dropped for want of room.
    fn ends_lost(&self) -> Option<u64> {
        let ledger = self.lock();
        let is_lost = ledger.state.ends_lost && !self.is_live() && !self.is_given_up();
        is_lost.then_some(ledger.durable_through)
    }

    /// Sequences at which the reason of a hole may change, ascending, and the readings of the stream
    /// through each: the highest ever acknowledged, the last one dropped to make room.
    pub(crate) fn marks(&self) -> [(u64, u64); 2] {
        let ledger = self.lock();
        let state = &ledger.state;
        let mut marks = [
            state.account.peak(),
            (state.dropped_through, state.dropped_readings),
        ];
        marks.sort_unstable();
        marks
    }

    /// Every series of the stream, by ref.
    pub(crate) fn dictionary(&self) -> BTreeMap<u32, v1::Series> {
        self.lock().dictionary.clone()
    }

    /// The same as an encoded record.
    pub(crate) fn definitions(&self) -> Bytes {
        preamble(&self.lock().dictionary)
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

    /// Readings of the stream through the last of these sequences, by the counts of the records around
    /// it. `known` is their count before these, `end` the last durable sequence and its count.
    pub(super) fn readings_through(
        &self,
        (from, through): (u64, u64),
        known: u64,
        end: (u64, u64),
    ) -> Result<u64, ReadError> {
        if through >= end.0 {
            return Ok(end.1);
        }
        let mut readings = known;
        for start in [through + 1, from] {
            let mut reader = self.journal.reader(start);
            // What the disk refuses is given up after some tries: the counts around it say what it held.
            while let Some(item) = insist(&mut reader)? {
                let Item::Record { number, body, .. } = item else {
                    continue;
                };
                let Some((before, own)) = content(body).and_then(|found| found.counts()) else {
                    continue;
                };
                if number == through + 1 {
                    return Ok(before);
                }
                if number > through {
                    break;
                }
                readings = before + own;
            }
        }
        Ok(readings)
    }

    /// Observed time of the stream's last reading, where its last record is a batch that can be read.
    fn last_observed_ns(&self) -> Option<i64> {
        let last = self.journal.next().checked_sub(1)?;
        let body = self.read(last).ok()??;
        header(body).map(|header| header.last_ns)
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

impl Spool {
    /// Where every reading is now.
    pub fn ledger(&self) -> ledger::View {
        let inner = self.lock();
        let mut totals = inner.retired.clone();
        let mut streams = Vec::with_capacity(inner.streams.len());
        for stream in &inner.streams {
            let view = stream.view(None);
            totals.add(&view);
            streams.push(view);
        }
        for (reason, readings) in &inner.lost {
            dropping::add(&mut totals.dropping, *reason, *readings);
        }
        ledger::View {
            streams,
            totals,
            spool_bytes: inner.bytes(),
            spool_max_bytes: self.shared.config.max_bytes,
        }
    }

    /// Bytes until the spool is full; 0 where it was within the last minute: what is given up then is whole segments.
    pub(crate) fn room(&self) -> u64 {
        let inner = self.lock();
        match inner.full_at {
            Some(at) if at.elapsed() < FULL_FOR => 0,
            _ => self.shared.config.max_bytes.saturating_sub(inner.bytes()),
        }
    }

    /// Readings that are batched and not on the disk, and since when the oldest of them wait.
    pub(crate) fn in_memory(&self) -> (u64, Option<Instant>) {
        let inner = self.lock();
        let mut since = inner.waits.map(|(since, _)| since);
        let mut readings = inner.waits.map_or(0, |(_, readings)| readings);
        for stream in &inner.streams {
            let (own, oldest) = stream.uncommitted();
            readings += own;
            since = since.into_iter().chain(oldest).min();
        }
        (readings, since)
    }

    /// Reads the durable records of a stream that is held, from the first one that is left, and follows it as it grows: for
    /// those who watch a spool from beside it.
    pub fn reader(&self, stream: &[u8; 16]) -> Option<Reader> {
        let inner = self.lock();
        let held = inner.streams.iter().find(|held| held.id == *stream)?;
        (!held.is_given_up()).then(|| held.reader(1))
    }

    /// Observed time of the last reading that an earlier run left here and that can still be read.
    pub(crate) fn last_observed_ns(&self) -> Option<i64> {
        let earlier: Vec<Arc<Stream>> = {
            let inner = self.lock();
            let streams = inner.streams.iter().rev();
            streams
                .filter(|stream| !stream.is_live())
                .cloned()
                .collect()
        };
        earlier.iter().find_map(|stream| stream.last_observed_ns())
    }
}

/// The time of the next batch's first reading; 0 when there is none, or it cannot be read.
fn first_time(reader: &mut Reader) -> i64 {
    while let Ok(Some(item)) = reader.next() {
        let Item::Record { body, .. } = item else {
            continue;
        };
        if let Some(header) = header(body) {
            return header.first_ns;
        }
    }
    0
}

/// The header of an encoded record that is a batch.
pub(super) fn header(body: Bytes) -> Option<v1::BatchHeader> {
    match content(body)? {
        Content::Batch(header, _) => Some(header),
        _ => None,
    }
}
