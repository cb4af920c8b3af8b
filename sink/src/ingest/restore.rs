//! What ingest knows after a restart: the catalog at its position, then every record behind it.
//!
//! Reads headers in the clear and definitions only; nothing is decompressed, so that a sink with a
//! full journal is ready within seconds.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use weir_journal::{Item, Journal, ReadError};
use weir_proto::v1;

use super::check::{definitions, table_of};
use super::dictionary::Dictionary;
use super::mark::{Mark, REASONS};
use super::stream::Stream;
use super::{Ingest, Seen, Slot, hold};
use crate::catalog::{Catalog, CatalogError, StreamLedger};
use crate::envelope::{self, Envelope, marked};
use crate::model::{StreamKey, drop_reason_name};
use crate::refs::KEPT;

/// Why the state could not be rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// From the catalog.
    #[error("cannot read the streams: {0}")]
    Catalog(#[from] CatalogError),
    /// From the journal.
    #[error("cannot read the journal: {0}")]
    Journal(#[from] ReadError),
}

impl Ingest {
    /// Rebuilds the state of every stream as it was at the journal's end. `position` is the last
    /// number the catalog covers.
    pub async fn restore(&self, catalog: &Catalog, position: u64) -> Result<(), RestoreError> {
        let now = (self.inner.clock.wall_ns(), self.inner.clock.monotonic_ns());
        for ledger in catalog.streams().await? {
            let key = StreamKey {
                tenant: Arc::clone(&ledger.tenant),
                id: ledger.stream_id,
            };
            let silent_ns = i128::from(now.0) - i128::from(ledger.last_seen_ns);
            let is_silent = silent_ns > KEPT.as_nanos().cast_signed();
            let dictionary = if ledger.closed {
                Dictionary::default()
            } else if ledger.lost_at_ns != 0 || is_silent {
                Dictionary::forgotten()
            } else {
                Dictionary::whole(table_of(&catalog.series_of(&key).await?).collect())
            };
            let slot = Slot::new(key.clone());
            slot.begun_by(&ledger.agent);
            *hold(&slot.stream) = Stream::restored(mark_of(&ledger), ledger.closed, dictionary);
            *hold(&slot.seen) = Seen {
                agent: ledger.agent.to_string(),
                report: ledger.report.map(|report| (report, ledger.report_at_ns)),
                clock_offset_ns: ledger.clock_offset_ns,
                lost: (ledger.lost_at_ns != 0).then_some(0),
                connected_at: now.1,
                ..Seen::default()
            };
            hold(&self.inner.streams).insert(key, Arc::new(slot));
        }
        let _ = self.inner.catalog.set(catalog.clone());
        let scanned = self.scan(&self.inner.journal, position)?;
        let (streams, resting) = {
            let streams = hold(&self.inner.streams);
            let is_lost = |slot: &Slot| hold(&slot.seen).lost.is_some();
            let resting = streams
                .values()
                .filter(|slot| slot.stream().is_closed() || is_lost(slot));
            (streams.len(), resting.count())
        };
        self.inner.resting.store(resting, Ordering::Relaxed);
        tracing::info!(streams, resting, scanned, position, "streams restored");
        Ok(())
    }

    /// Applies every record behind `position`; answers how many there were.
    fn scan(&self, journal: &Journal, position: u64) -> Result<u64, ReadError> {
        let mut reader = journal.reader(position + 1);
        let mut scanned = 0;
        while let Some(item) = reader.next()? {
            let Item::Record { number, kind, body } = item else {
                continue;
            };
            scanned += 1;
            if kind != envelope::KIND {
                tracing::warn!(number, kind, "journal record of an unknown kind");
                continue;
            }
            if let Err(error) = self.replay(number, body) {
                // The fold sets it aside and counts it.
                tracing::warn!(number, error, "journal record cannot be read");
            }
        }
        Ok(scanned)
    }

    fn replay(&self, number: u64, body: bytes::Bytes) -> Result<(), String> {
        let envelope = Envelope::parse(body).map_err(|e| e.to_string())?;
        let key = envelope.stream().ok_or("stream_id is not 16 bytes")?;
        let record = match envelope.lost {
            None => Some(read_record(&envelope)?),
            Some(_) => None,
        };
        let mut streams = hold(&self.inner.streams);
        let slot = streams
            .entry(key.clone())
            .or_insert_with(|| Arc::new(Slot::new(key)));
        let mut seen = hold(&slot.seen);
        seen.connected_at = self.inner.clock.monotonic_ns();
        seen.lost = (envelope.lost == Some(true)).then_some(0);
        let Some(record) = record else { return Ok(()) };
        let (tenant, agent) = (&envelope.tenant, &envelope.agent);
        let defined = marked(definitions(&record), &envelope.unwanted);
        for (series, _) in defined.filter(|(_, is_unwanted)| !is_unwanted) {
            self.inner.cardinality.know_defined(tenant, agent, series);
        }
        slot.begun_by(agent);
        slot.stream().replay(number, &record, &envelope.unwanted);
        seen.agent = envelope.agent;
        seen.clock_offset_ns = envelope.clock_offset_ns;
        if let Some(report) = envelope.report {
            seen.note(report, envelope.received_ns);
        }
        Ok(())
    }
}

fn read_record(envelope: &Envelope) -> Result<v1::record::Record, String> {
    let record = envelope.parse_record().map_err(|e| e.to_string())?;
    record.ok_or_else(|| "empty record".to_owned())
}

fn mark_of(ledger: &StreamLedger) -> Mark {
    let mut dropped = [0; REASONS];
    for (number, count) in dropped.iter_mut().enumerate() {
        let reason = i32::try_from(number)
            .ok()
            .and_then(|n| v1::DropReason::try_from(n).ok());
        let name = drop_reason_name(reason.unwrap_or_default());
        *count = ledger.dropped.get(name).copied().unwrap_or(0);
    }
    Mark {
        sequence: ledger.watermark,
        readings_through: ledger.readings_through,
        crc: ledger.last_crc,
        dropped,
    }
}
