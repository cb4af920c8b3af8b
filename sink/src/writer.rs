//! From rows in memory to Parquet files: one per day, sorted, readable by any engine.
//!
//! In: series with their rows, in order of arrival. Out: finished files as bytes, with what
//! the catalog has to know of each. Nothing here touches a disk or a clock.
//!
//! Each file is `samples/tenant=T/date=YYYY-MM-DD/<ulid>.parquet`:
//!
//! | what | how |
//! |---|---|
//! | columns | [`columns::schema`]; strings are plain UTF-8 for a reader that knows no Arrow |
//! | order | metric, device, attributes, time; also in `sorting_columns` |
//! | time | DELTA_BINARY_PACKED, never a dictionary |
//! | value | a sorted dictionary with keys of whole bytes ([`numbers`]); where values are too many for one, dictionary, byte stream split or plain: whichever is smallest on a part of the file |
//! | compression | zstd 1 |
//! | statistics | per page, so that a reader skips pages |
//! | row groups | about 1 M rows, a series is not split |
//! | `weir.format_version` | `1` |
//! | `weir.tenant` | the tenant |
//! | `weir.journal_id` | 32 hex digits |
//! | `weir.from`, `weir.through` | the journal records (from, through] its rows came from |
//! | `weir.streams` | `<stream id>=<watermark>` of the streams of the flush, separated by spaces |
//!
//! Rows observed outside [received - 2 days, received + 1 day] go to the day they were
//! received, so that a wrong clock cannot scatter files over the calendar.

mod chunk;
pub mod columns;
mod days;
mod encode;
mod numbers;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use ulid::Ulid;
use weir_fault::{Trap, trap};
use weir_process::random;

use crate::catalog::{DataFile, Extent};
use crate::fold::rows::SeriesRows;

pub(crate) use days::{date_of, in_order};

/// What stands in the footer of every file of one flush or merge.
#[derive(Debug, Clone)]
pub(crate) struct Provenance {
    pub(crate) journal_id: [u8; 16],
    pub(crate) from: u64,
    pub(crate) through: u64,
    /// Watermarks of the streams concerned.
    pub(crate) streams: Vec<(crate::model::StreamId, u64)>,
}

/// Which rows of a series go into a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Picked {
    /// These, already in order of time.
    Range(Range<usize>),
    /// These, in this order.
    List(Vec<u32>),
}

impl Picked {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Range(range) => range.len(),
            Self::List(list) => list.len(),
        }
    }

    pub(crate) fn iter(&self) -> Box<dyn Iterator<Item = usize> + '_> {
        match self {
            Self::Range(range) => Box::new(range.clone()),
            Self::List(list) => Box::new(list.iter().map(|row| *row as usize)),
        }
    }
}

/// One series' share of a file.
#[derive(Debug, Clone)]
pub(crate) struct Part<'a> {
    pub(crate) series: &'a SeriesRows,
    pub(crate) rows: Picked,
}

/// Why a file could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Parquet or Arrow refused.
    #[error("parquet: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// Arrow refused.
    #[error("arrow: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// A file does not look as ours do.
    #[error("{0}")]
    Foreign(String),
}

/// A name for a file written at this time, unix ms, that no other has: a ULID.
pub(crate) fn name(now_ms: u64) -> String {
    let chance = u128::from(random::number()) << 64 | u128::from(random::number());
    Ulid::from_parts(now_ms, chance).to_string()
}

/// Writes the rows of all `series`, one file per tenant and day. `name` gives each file its
/// own name.
pub(crate) fn write_by_day(
    series: &[&SeriesRows],
    provenance: &Provenance,
    mut name: impl FnMut() -> String,
) -> Result<Vec<(DataFile, Bytes)>, WriteError> {
    let mut files: BTreeMap<(&str, i64), Vec<Part<'_>>> = BTreeMap::new();
    for &one in series {
        for (day, rows) in days::split(&one.rows) {
            let part = Part { series: one, rows };
            files.entry((&one.key.tenant, day)).or_default().push(part);
        }
    }
    files
        .into_iter()
        .map(|((_, day), parts)| write_file(parts, &date_of(day), provenance, &name()))
        .collect()
}

/// Writes one file of one tenant and day; there is at least one row.
pub(crate) fn write_file(
    mut parts: Vec<Part<'_>>,
    date: &str,
    provenance: &Provenance,
    name: &str,
) -> Result<(DataFile, Bytes), WriteError> {
    parts.sort_by(|a, b| a.series.key.cmp(&b.series.key));
    for part in &parts {
        let device = &part.series.key.device;
        trap(Trap::WriterSeries, device);
        if parts.iter().any(|other| other.series.key.device != *device) {
            trap(Trap::WriterTogether, device);
        }
    }
    let tenant = Arc::clone(&parts.first().expect("a file has rows").series.key.tenant);
    let facts = facts(&parts);
    let bytes = encode::encode(&parts, &tenant, provenance, encode::GROUP_ROWS)?;
    let file = DataFile {
        path: format!("samples/tenant={tenant}/date={date}/{name}.parquet"),
        tenant,
        date: date.to_owned(),
        bytes: bytes.len() as u64,
        rows: facts.rows,
        min_ns: facts.min_ns,
        max_ns: facts.max_ns,
        max_received_ns: facts.max_received_ns,
        from: provenance.from,
        through: provenance.through,
        crc: Some(crc32c::crc32c(&bytes)),
        extent: Extent::of(parts.iter().map(|part| &*part.series.key)),
    };
    Ok((file, bytes))
}

struct Facts {
    rows: u64,
    min_ns: i64,
    max_ns: i64,
    max_received_ns: i64,
}

fn facts(parts: &[Part<'_>]) -> Facts {
    let mut facts = Facts {
        rows: 0,
        min_ns: i64::MAX,
        max_ns: i64::MIN,
        max_received_ns: i64::MIN,
    };
    for part in parts {
        let rows = &part.series.rows;
        facts.rows += part.rows.len() as u64;
        for row in part.rows.iter() {
            facts.min_ns = facts.min_ns.min(rows.times[row]);
            facts.max_ns = facts.max_ns.max(rows.times[row]);
        }
        // Of the whole series: never earlier than the truth, so nothing expires too early.
        let received = rows.marks.iter().map(|mark| mark.received.at_ns).max();
        facts.max_received_ns = facts.max_received_ns.max(received.unwrap_or(i64::MIN));
    }
    facts
}
