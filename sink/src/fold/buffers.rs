//! Rows and changes that wait for the next flush, and whether a batch may join them.

use std::collections::BTreeSet;

use weir_proto::batch::{Readings, Slice};

use super::readings::Origin;
use super::rows::Rows;
use super::series::{OVER_LIMIT, SeriesTable};
use crate::catalog::{DeadLetter, JournalLoss};
use crate::refs::Refs;

/// What changed since the last freeze.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// By number of series.
    pub(crate) rows: Vec<Rows>,
    pub(crate) row_count: usize,
    pub(crate) bytes: usize,
    pub(crate) streams: BTreeSet<u32>,
    pub(crate) definitions: Vec<(u32, u32, u32)>,
    pub(crate) dead: Vec<DeadLetter>,
    pub(crate) losses: Vec<JournalLoss>,
}

impl Buffers {
    pub(crate) fn is_empty(&self) -> bool {
        self.row_count == 0
            && self.streams.is_empty()
            && self.dead.is_empty()
            && self.losses.is_empty()
    }

    pub(super) fn push(
        &mut self,
        series: u32,
        times: &[i64],
        values: Slice<'_>,
        ascending: bool,
        origin: Origin,
    ) {
        let index = series as usize;
        if index >= self.rows.len() {
            self.rows.resize_with(index + 1, Rows::default);
        }
        self.row_count += times.len();
        self.bytes += 32 + times.len() * 16;
        if let Slice::Texts(texts) = &values {
            self.bytes += texts.iter().map(|text| text.len() + 16).sum::<usize>();
        }
        self.rows[index].push(times, values, ascending, origin.into());
    }
}

/// What a ref stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    /// Number of the series.
    pub(crate) series: u32,
    /// Its values are texts.
    pub(crate) text: bool,
    /// It is beyond a limit on series: none of its readings is stored.
    pub(crate) unwanted: bool,
}

impl Target {
    pub(crate) fn new(series: u32, table: &SeriesTable) -> Self {
        let kind = &*table.key(series).kind;
        Self {
            series,
            text: kind == "text",
            unwanted: kind == OVER_LIMIT,
        }
    }
}

/// Whether every column can be stored as it is.
pub(super) fn check(readings: &Readings, refs: &Refs<Target>) -> Result<(), String> {
    for (reference, text) in readings.series() {
        let target = refs
            .get(reference)
            .ok_or_else(|| format!("series {reference} was never defined"))?;
        if target.text != text && !target.unwanted {
            return Err(format!("series {reference} has values of another kind"));
        }
    }
    Ok(())
}
