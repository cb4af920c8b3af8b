//! The latest value of every series, and its form in the catalog's snapshot.
//!
//! Latest is by observed time, as it was moved where it was; of two at the same moment, the one of
//! the later stream, and within a stream of the later sequence. A time more than a day later than it
//! was received comes from a clock that runs ahead: it counts as the earliest, so that it does not
//! hide everything until that day comes. Text or number, never both.
//!
//! An entry of the [`super::snapshot`] is one protobuf message:
//!
//! | field | type | what it holds |
//! |---|---|---|
//! | entry 1 `series` | uint32 | number in the catalog's `series` |
//! | entry 2 `time_ns` | sfixed64 | observed |
//! | entry 3 `value` | fixed64 | the bits of the number |
//! | entry 4 `text` | optional string | instead of the number |
//! | entry 5 `received_ns` | sfixed64 | by the sink's clock |
//! | entry 6 `quality` | string | as in `time_quality` |
//! | entry 7 `stream` | uint32 | number in the catalog's `streams` |
//! | entry 8 `sequence` | uint64 | of the batch it came in |
//! | entry 9 `shift_ns` | sint64 | as in `time_shift_ns`; 0 unless rebased |

use std::sync::Arc;

use prost::Message;
use weir_proto::batch::Slice;

use super::readings::Origin;
use super::rows::{DAY_NS, Quality};

/// One value and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Latest {
    pub(crate) time: i64,
    pub(crate) value: Value,
    pub(crate) received_ns: i64,
    pub(crate) quality: Quality,
    pub(crate) shift_ns: i64,
    pub(crate) stream: u32,
    pub(crate) sequence: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Number(f64),
    Text(Arc<str>),
}

/// Series whose changes are counted together.
const BLOCK: usize = 1024;

/// By number of series.
#[derive(Debug, Default)]
pub(crate) struct LatestTable {
    entries: Vec<Option<Latest>>,
    /// How often a value has changed, by block.
    changes: Vec<u64>,
}

impl LatestTable {
    /// Takes the latest of a column's readings if it is later than what is there.
    pub(crate) fn offer(
        &mut self,
        series: u32,
        times: &[i64],
        values: &Slice<'_>,
        ascending: bool,
        origin: Origin,
    ) {
        let newest = if ascending {
            times.len().checked_sub(1)
        } else {
            (0..times.len()).max_by_key(|i| (times[*i], *i))
        };
        let Some(newest) = newest else { return };
        let time = times[newest];
        let index = series as usize;
        if index >= self.entries.len() {
            self.entries.resize(index + 1, None);
            self.changes.resize(index / BLOCK + 1, 0);
        }
        let slot = &mut self.entries[index];
        if let Some(old) = slot
            && old.rank() > rank(time, origin.received_ns, (origin.stream, origin.sequence))
        {
            return;
        }
        let value = match values {
            Slice::Numbers(numbers) => Value::Number(numbers[newest]),
            Slice::Texts(texts) => Value::Text(texts[newest].as_str().into()),
        };
        *slot = Some(Latest {
            time,
            value,
            received_ns: origin.received_ns,
            quality: origin.verdict.quality,
            shift_ns: origin.verdict.shift_ns,
            stream: origin.stream,
            sequence: origin.sequence,
        });
        self.changes[index / BLOCK] += 1;
    }

    /// Every series that has a value.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Latest)> {
        (0u32..)
            .zip(&self.entries)
            .filter_map(|(number, entry)| entry.as_ref().map(|entry| (number, entry)))
    }

    /// Block by block, how often its values have changed, at least once where there is any, and those series that
    /// have one.
    pub(super) fn blocks(
        &self,
    ) -> impl Iterator<Item = (u64, impl Iterator<Item = (u32, &Latest)>)> {
        let blocks = self.entries.chunks(BLOCK).zip(&self.changes);
        blocks
            .zip((0u32..).step_by(BLOCK))
            .map(|((entries, changes), first)| {
                let entries = (first..).zip(entries);
                let entries = entries.filter_map(|(number, entry)| Some((number, entry.as_ref()?)));
                (*changes, entries)
            })
    }

    /// From entries over `series` series; an error names what is wrong with them.
    pub(super) fn from_entries(found: Vec<Entry>, series: usize) -> Result<Self, String> {
        let mut entries = vec![None; series];
        for entry in found {
            let slot = entries
                .get_mut(entry.series as usize)
                .ok_or_else(|| format!("snapshot names series {} of {series}", entry.series))?;
            *slot = Some(entry.into_latest());
        }
        let changes = vec![1; entries.len().div_ceil(BLOCK)];
        Ok(Self { entries, changes })
    }
}

impl Latest {
    fn rank(&self) -> (bool, i64, u32, u64) {
        rank(self.time, self.received_ns, (self.stream, self.sequence))
    }
}

fn rank(time: i64, received_ns: i64, place: (u32, u64)) -> (bool, i64, u32, u64) {
    let can_be = time <= received_ns.saturating_add(DAY_NS);
    (can_be, time, place.0, place.1)
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Entry {
    #[prost(uint32, tag = "1")]
    series: u32,
    #[prost(sfixed64, tag = "2")]
    time_ns: i64,
    #[prost(fixed64, tag = "3")]
    value: u64,
    #[prost(string, optional, tag = "4")]
    text: Option<String>,
    #[prost(sfixed64, tag = "5")]
    received_ns: i64,
    #[prost(string, tag = "6")]
    quality: String,
    #[prost(uint32, tag = "7")]
    stream: u32,
    #[prost(uint64, tag = "8")]
    sequence: u64,
    #[prost(sint64, tag = "9")]
    shift_ns: i64,
}

impl Entry {
    pub(super) fn new(series: u32, latest: &Latest) -> Self {
        let (value, text) = match &latest.value {
            Value::Number(number) => (number.to_bits(), None),
            Value::Text(text) => (0, Some(text.to_string())),
        };
        Self {
            series,
            time_ns: latest.time,
            value,
            text,
            received_ns: latest.received_ns,
            quality: latest.quality.name().into(),
            stream: latest.stream,
            sequence: latest.sequence,
            shift_ns: latest.shift_ns,
        }
    }

    fn into_latest(self) -> Latest {
        Latest {
            time: self.time_ns,
            value: match self.text {
                Some(text) => Value::Text(text.into()),
                None => Value::Number(f64::from_bits(self.value)),
            },
            received_ns: self.received_ns,
            quality: Quality::from_name(&self.quality),
            stream: self.stream,
            sequence: self.sequence,
            shift_ns: self.shift_ns,
        }
    }
}
