//! Rows and changes that wait for the next flush, and whether a batch may join them.

use std::collections::{BTreeSet, HashMap};

use weir_proto::batch::{Block, Column, Values};

use super::readings::Origin;
use super::rows::Rows;
use super::series::SeriesTable;
use crate::catalog::{DeadLetter, JournalLoss};

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
        values: Values,
        ascending: bool,
        origin: Origin,
    ) {
        let index = series as usize;
        if index >= self.rows.len() {
            self.rows.resize_with(index + 1, Rows::default);
        }
        self.row_count += times.len();
        self.bytes += 32 + times.len() * 16;
        if let Values::Texts(texts) = &values {
            self.bytes += texts.iter().map(|text| text.len() + 16).sum::<usize>();
        }
        self.rows[index].push(times, values, ascending, origin.into());
    }
}

/// Whether every column can be stored as it is.
pub(super) fn check(
    blocks: &[Block],
    refs: &HashMap<u32, u32>,
    series: &SeriesTable,
) -> Result<(), String> {
    for block in blocks {
        for column in &block.columns {
            let reference = column.series;
            let number = refs
                .get(&reference)
                .ok_or_else(|| format!("series {reference} was never defined"))?;
            let text = &*series.key(*number).kind == "text";
            if text != matches!(column.values, Values::Texts(_)) {
                return Err(format!("series {reference} has values of another kind"));
            }
            if count(column, block.times.len()) != Some(column.values.len()) {
                return Err(format!(
                    "series {reference} has more or fewer values than moments"
                ));
            }
        }
    }
    Ok(())
}

fn count(column: &Column, moments: usize) -> Option<usize> {
    match &column.present {
        None => Some(moments),
        Some(present) if present.len() == moments => {
            Some(present.iter().filter(|there| **there).count())
        }
        Some(_) => None,
    }
}
