//! What the spool of one agent reported committed: read from its journals as they grow, a step at a time.
//!
//! In: a running spool. Out: per stream and sequence the scrapes a batch holds, or the readings a Skip gives up. A record is
//! seen here only once a finished sync covers it, and stays although the spool forgets it.

use std::collections::BTreeMap;

use bytes::Bytes;
use weir_agent::spool::Spool;
use weir_journal::{Item, Reader};
use weir_proto::batch::{self, Values};
use weir_proto::{record, v1};

use crate::record::{number_of, place};

pub(crate) type StreamId = [u8; 16];

/// One record of a stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    /// Scrapes, by sensor and number.
    Batch {
        scrapes: Vec<(usize, usize)>,
        readings: u64,
    },
    /// Readings given up before they were batched, with the reason.
    Skip { reason: i32, readings: u64 },
    /// A batch that no sink takes.
    Poison { readings: u64 },
}

impl Entry {
    pub(crate) fn readings(&self) -> u64 {
        match self {
            Entry::Batch { readings, .. }
            | Entry::Skip { readings, .. }
            | Entry::Poison { readings } => *readings,
        }
    }
}

/// What is known of one stream.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// The life of the agent in which it was begun.
    pub(crate) life: usize,
    pub(crate) entries: BTreeMap<u64, Entry>,
    refs: BTreeMap<u32, (usize, usize)>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Committed {
    pub(crate) streams: BTreeMap<StreamId, Stream>,
    readers: BTreeMap<StreamId, Reader>,
}

impl Committed {
    /// The program is gone, and with it the files it had open.
    pub(crate) fn close(&mut self) {
        self.readers.clear();
    }

    /// Takes in what was committed since the last time.
    pub(crate) fn look(
        &mut self,
        spool: &Spool,
        life: usize,
        metrics: usize,
    ) -> Result<(), String> {
        for id in spool.held_streams() {
            let stream = self.streams.entry(id).or_insert_with(|| Stream {
                life,
                ..Stream::default()
            });
            let reader = match self.readers.entry(id) {
                std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => {
                    let Some(reader) = spool.reader(&id) else {
                        continue;
                    };
                    place.insert(reader)
                }
            };
            while let Some(item) = reader.next().map_err(|error| error.to_string())? {
                stream.take(item, metrics)?;
            }
        }
        Ok(())
    }
}

impl Stream {
    fn take(&mut self, item: Item, metrics: usize) -> Result<(), String> {
        match item {
            // Damaged or dropped, which is counted elsewhere, or seen before.
            Item::Hole { .. } => Ok(()),
            Item::Preamble { body } => {
                self.parse(body, metrics)?;
                Ok(())
            }
            Item::Record { number, body, .. } => {
                let Some(entry) = self.parse(body, metrics)? else {
                    return Err(format!("record {number} is neither batch nor skip"));
                };
                match self.entries.get(&number) {
                    Some(known) if *known != entry => {
                        Err(format!("record {number} was {known:?} and is {entry:?}"))
                    }
                    Some(_) => Ok(()),
                    None => {
                        self.entries.insert(number, entry);
                        Ok(())
                    }
                }
            }
        }
    }

    fn parse(&mut self, body: Bytes, metrics: usize) -> Result<Option<Entry>, String> {
        let decoded = record::decode(body).map_err(|error| error.to_string())?;
        Ok(match decoded.record {
            Some(v1::record::Record::Batch(batch)) => {
                self.define(&batch.series_defined);
                Some(self.batch(&batch, metrics)?)
            }
            Some(v1::record::Record::Skip(skip)) => Some(Entry::Skip {
                reason: skip.reason,
                readings: skip.readings,
            }),
            Some(v1::record::Record::Definitions(definitions)) => {
                self.define(&definitions.series);
                None
            }
            Some(v1::record::Record::Close(_)) | None => None,
        })
    }

    fn define(&mut self, series: &[v1::Series]) {
        for one in series {
            if let (Some(sensor), Some(metric)) = (place(&one.source), place(&one.metric)) {
                self.refs.insert(one.r#ref, (sensor, metric));
            }
        }
    }

    fn batch(&self, batch: &v1::Batch, metrics: usize) -> Result<Entry, String> {
        let header = batch.header.clone().unwrap_or_default();
        let Ok(blocks) = batch::decode(&header, &batch.payload) else {
            let readings = header.readings;
            return Ok(Entry::Poison { readings });
        };
        let mut seen: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for column in blocks.iter().flat_map(|block| &block.columns) {
            let Values::Numbers(numbers) = &column.values else {
                return Err("a text where numbers are".to_owned());
            };
            let place = self.refs.get(&column.series);
            let (sensor, metric) = *place.ok_or("a batch uses a series that was never defined")?;
            for said in numbers {
                let number = number_of(*said, metric);
                let number = number.ok_or_else(|| format!("no sensor said {said}"))?;
                *seen.entry((sensor, number)).or_default() += 1;
            }
        }
        if let Some((scrape, count)) = seen.iter().find(|(_, count)| **count != metrics) {
            return Err(format!(
                "{count} readings of {metrics} of scrape {scrape:?}"
            ));
        }
        let readings = (seen.len() * metrics) as u64;
        if readings != header.readings {
            return Err(format!(
                "header says {} readings, there are {readings}",
                header.readings
            ));
        }
        let scrapes = seen.into_keys().collect();
        Ok(Entry::Batch { scrapes, readings })
    }
}
