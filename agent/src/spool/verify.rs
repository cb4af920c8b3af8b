//! Is what a stream holds whole: every frame, every header, every payload; what is damaged is named exactly.
//!
//! In: a stream looked at from outside. Out: a [`Verdict`]. Nothing is changed, and no lock is taken.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use weir_journal::{ReadError, Storage};
use weir_proto::{batch, v1};

use super::hex;
use super::inspect::{Entry, Held};

/// What one stream turned out to be.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Verdict {
    /// Its id in hex.
    pub(crate) stream_id: String,
    /// Records whose frame, header and payload are right.
    pub(crate) records: u64,
    /// Readings in them.
    pub(crate) readings: u64,
    /// Readings that cannot be read, as far as a count tells.
    pub(crate) lost_readings: u64,
    /// Bytes at the very end that may be a record an agent is writing, or one that never was whole.
    pub(crate) tail_bytes: u64,
    /// In words, with sequences or offsets.
    pub(crate) faults: Vec<String>,
}

/// Reads all of a stream.
pub(crate) fn judge(storage: &Arc<dyn Storage>, held: &Held) -> Result<Verdict, ReadError> {
    // Definitions behind a damaged place are repeated later: all are known before the first payload is judged.
    let (_, _, dictionary) = held.survey(storage)?;
    let mut verdict = Verdict {
        stream_id: hex(&held.id),
        ..Verdict::default()
    };
    let mut walk = held.walk(storage)?;
    while let Some(entry) = walk.next()? {
        verdict.take(entry, &dictionary);
    }
    Ok(verdict)
}

impl Verdict {
    fn take(&mut self, entry: Entry, dictionary: &BTreeMap<u32, v1::Series>) {
        match entry {
            Entry::Segment { .. } => {}
            Entry::Batch { sequence, batch } => match check(sequence, &batch, dictionary) {
                Ok(readings) => {
                    self.records += 1;
                    self.readings += readings;
                }
                Err(fault) => {
                    let readings = batch.header.map_or(0, |header| header.readings);
                    self.lost_readings += readings;
                    self.faults
                        .push(format!("sequence {sequence}: {fault}: {readings} readings"));
                }
            },
            Entry::Skip { .. } => self.records += 1,
            Entry::Nonsense { sequence } => {
                self.faults
                    .push(format!("sequence {sequence}: no record of weir.v1"));
            }
            Entry::Lost(lost) if lost.given_up => {}
            Entry::Lost(lost) => {
                self.lost_readings += lost.readings.unwrap_or(0);
                let cost = lost
                    .readings
                    .map_or("readings unknown".to_owned(), |readings| {
                        format!("{readings} readings")
                    });
                self.faults.push(format!(
                    "sequences {} to {} are missing: {cost}",
                    lost.from, lost.through
                ));
            }
            Entry::Damage {
                from,
                to,
                tail: true,
                ..
            } => self.tail_bytes += to - from,
            Entry::Damage {
                segment, from, to, ..
            } => self.faults.push(format!(
                "segment {segment:020}.seg: bytes {from} to {} are no record",
                to - 1
            )),
        }
    }
}

/// Readings of the batch, if its payload is what its header says and every series is known.
fn check(
    sequence: u64,
    batch: &v1::Batch,
    dictionary: &BTreeMap<u32, v1::Series>,
) -> Result<u64, String> {
    let header = batch.header.clone().unwrap_or_default();
    if header.sequence != sequence {
        return Err(format!("its header says {}", header.sequence));
    }
    let blocks = batch::decode(&header, &batch.payload).map_err(|error| error.to_string())?;
    let mut columns = blocks.iter().flat_map(|block| &block.columns);
    match columns.find(|column| !dictionary.contains_key(&column.series)) {
        Some(column) => Err(format!("series {} is defined nowhere", column.series)),
        None => Ok(header.readings),
    }
}
