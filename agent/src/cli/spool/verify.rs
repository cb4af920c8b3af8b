//! `spool verify`: every frame, every header, every payload; what is damaged is named exactly.

use std::collections::BTreeMap;

use clap::ArgMatches;
use serde::Serialize;
use weir_process::exit::Exit;
use weir_process::output;
use weir_proto::{batch, v1};

use super::Place;
use crate::spool::hex;
use crate::spool::inspect::{Entry, Held};

/// What one stream turned out to be.
#[derive(Debug, Default, Serialize)]
struct Verdict {
    stream_id: String,
    /// Records whose frame, header and payload are right.
    records: u64,
    /// Readings in them.
    readings: u64,
    /// Readings that cannot be read, as far as a count tells.
    lost_readings: u64,
    /// Bytes at the very end that may be a record an agent is writing, or one that never was whole.
    tail_bytes: u64,
    /// In words, with sequences or offsets.
    faults: Vec<String>,
}

pub(super) fn verify(place: &Place, matches: &ArgMatches) -> anyhow::Result<Exit> {
    let Some(streams) = place.chosen(matches.get_one("stream")) else {
        return Ok(Exit::Usage);
    };
    let mut verdicts = Vec::new();
    for held in streams {
        verdicts.push(judge(place, held)?);
    }
    let whole = verdicts.iter().all(|verdict| verdict.faults.is_empty());
    if matches.get_flag("json") {
        output::json(&verdicts)?;
    } else {
        for verdict in &verdicts {
            output::text(&verdict.to_text())?;
        }
        output::line(if whole {
            "everything can be read"
        } else {
            "damage was found"
        })?;
    }
    Ok(if whole { Exit::Ok } else { Exit::Failure })
}

fn judge(place: &Place, held: &Held) -> anyhow::Result<Verdict> {
    // Definitions behind a damaged place are repeated later: all are known before the first payload is judged.
    let (_, _, dictionary) = held.survey(&place.storage)?;
    let mut verdict = Verdict {
        stream_id: hex(&held.id),
        ..Verdict::default()
    };
    let mut walk = held.walk(&place.storage)?;
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

    fn to_text(&self) -> String {
        let mut text = format!(
            "stream {}: {} records and {} readings are whole",
            self.stream_id, self.records, self.readings
        );
        if self.lost_readings > 0 {
            text.push_str(&format!(", {} readings are lost", self.lost_readings));
        }
        text.push('\n');
        for fault in &self.faults {
            text.push_str(&format!("  {fault}\n"));
        }
        if self.tail_bytes > 0 {
            let bytes = self.tail_bytes;
            text.push_str(&format!(
                "  {bytes} bytes at the end are no whole record: one being written, or one that never was committed\n"
            ));
        }
        text
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
