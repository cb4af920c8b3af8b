//! The latest value of every series, and its form in the catalog's snapshot.
//!
//! Latest is by observed time; of two at the same moment, the one of the later stream, and
//! within a stream of the later sequence. Text or number, never both.
//!
//! Snapshot format 1 is one protobuf message:
//!
//! | field | type | what it holds |
//! |---|---|---|
//! | 1 `entries` | repeated message | one per series that has a value |
//! | entry 1 `series` | uint32 | number in the catalog's `series` |
//! | entry 2 `time_ns` | sfixed64 | observed |
//! | entry 3 `value` | fixed64 | the bits of the number |
//! | entry 4 `text` | optional string | instead of the number |
//! | entry 5 `received_ns` | sfixed64 | by the sink's clock |
//! | entry 6 `quality` | string | as in `time_quality` |
//! | entry 7 `stream` | uint32 | number in the catalog's `streams` |
//! | entry 8 `sequence` | uint64 | of the batch it came in |

use std::sync::Arc;

use prost::Message;
use weir_proto::batch::Values;

use super::rows::Quality;

pub(crate) const SNAPSHOT_FORMAT: i64 = 1;

/// One value and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Latest {
    pub(crate) time: i64,
    pub(crate) value: Value,
    pub(crate) received_ns: i64,
    pub(crate) quality: Quality,
    pub(crate) stream: u32,
    pub(crate) sequence: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Number(f64),
    Text(Arc<str>),
}

/// By number of series.
#[derive(Debug, Default)]
pub(crate) struct LatestTable {
    entries: Vec<Option<Latest>>,
}

impl LatestTable {
    /// Takes the latest of a column's readings if it is later than what is there.
    pub(crate) fn offer(
        &mut self,
        series: u32,
        times: &[i64],
        values: &Values,
        ascending: bool,
        from: (u32, u64, i64),
    ) {
        let (stream, sequence, received_ns) = from;
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
        }
        let slot = &mut self.entries[index];
        if let Some(old) = slot
            && (old.time, old.stream, old.sequence) > (time, stream, sequence)
        {
            return;
        }
        let value = match values {
            Values::Numbers(numbers) => Value::Number(numbers[newest]),
            Values::Texts(texts) => Value::Text(texts[newest].as_str().into()),
        };
        let quality = Quality::of(time, received_ns);
        *slot = Some(Latest {
            time,
            value,
            received_ns,
            quality,
            stream,
            sequence,
        });
    }

    /// Every series that has a value.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Latest)> {
        (0u32..)
            .zip(&self.entries)
            .filter_map(|(number, entry)| entry.as_ref().map(|entry| (number, entry)))
    }

    pub(crate) fn to_snapshot(&self) -> Vec<u8> {
        let entries = self
            .iter()
            .map(|(series, latest)| Entry::new(series, latest))
            .collect();
        Snapshot { entries }.encode_to_vec()
    }

    /// From a snapshot of the given format over `series` series; an error names what is wrong
    /// with it.
    pub(crate) fn from_snapshot(format: i64, body: &[u8], series: usize) -> Result<Self, String> {
        if format != SNAPSHOT_FORMAT {
            return Err(format!(
                "snapshot format {format} is not known, upgrade weir-sink"
            ));
        }
        let snapshot = Snapshot::decode(body).map_err(|e| e.to_string())?;
        let mut entries = vec![None; series];
        for entry in snapshot.entries {
            let slot = entries
                .get_mut(entry.series as usize)
                .ok_or_else(|| format!("snapshot names series {} of {series}", entry.series))?;
            *slot = Some(entry.into_latest());
        }
        Ok(Self { entries })
    }
}

#[derive(Clone, PartialEq, Message)]
struct Snapshot {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
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
}

impl Entry {
    fn new(series: u32, latest: &Latest) -> Self {
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
        }
    }
}
