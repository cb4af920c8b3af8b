//! The table `latest` of one tenant between two views, in blocks of series: only blocks in which a value has changed are
//! made anew, and of these the columns that name the series only where one has come.
//!
//! In: the fold's table, which counts the changes of each block. Out: one batch for each block that holds a series of the
//! tenant. What is kept is one row for each series, as long as views of the tenant are.

use std::sync::Arc;

use arrow::array::RecordBatch;

use super::super::latest::{Latest, LatestTable};
use super::super::series::SeriesTable;
use crate::catalog::SeriesKey;
use crate::writer::columns::Labels;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Blocks(Vec<Block>);

#[derive(Debug, Default)]
struct Block {
    /// As the table had counted them.
    changes: u64,
    /// The tenant's, by number.
    series: Vec<u32>,
    made: Option<(Labels, RecordBatch)>,
}

/// A block as it is now, copied while the fold waits.
pub(super) struct Changed {
    block: usize,
    series: Vec<u32>,
    values: Vec<Latest>,
    /// Absent where the series are those of before.
    keys: Option<Vec<Arc<SeriesKey>>>,
}

impl Blocks {
    /// What has changed since the last time; to be handed to [`Blocks::take`].
    pub(super) fn changed(
        &mut self,
        tenant: &str,
        table: &LatestTable,
        keys: &SeriesTable,
    ) -> Vec<Changed> {
        let mut found = Vec::new();
        for (block, (changes, entries)) in table.blocks().enumerate() {
            if block == self.0.len() {
                self.0.push(Block::default());
            }
            let known = &mut self.0[block];
            if known.changes == changes {
                continue;
            }
            known.changes = changes;
            let own = entries.filter(|(number, _)| *keys.key(*number).tenant == *tenant);
            let (series, values): (Vec<u32>, Vec<Latest>) =
                own.map(|(number, latest)| (number, latest.clone())).unzip();
            if series.is_empty() {
                continue;
            }
            let key = |number: &u32| Arc::clone(keys.key(*number));
            let is_new = known.series != series;
            found.push(Changed {
                block,
                keys: is_new.then(|| series.iter().map(key).collect()),
                series,
                values,
            });
        }
        found
    }

    /// The batches, with what has changed made anew.
    pub(super) fn take(&mut self, changed: Vec<Changed>) -> Vec<RecordBatch> {
        for Changed {
            block,
            series,
            values,
            keys,
        } in changed
        {
            let known = &mut self.0[block];
            let labels = match (keys, known.made.take()) {
                (None, Some((labels, _))) => labels,
                (keys, _) => Labels::of(keys.iter().flatten().map(|key| &**key)),
            };
            let rows = labels.with(&values);
            known.series = series;
            known.made = Some((labels, rows));
        }
        let made = self.0.iter().filter_map(|block| block.made.as_ref());
        made.map(|(_, rows)| rows.clone()).collect()
    }
}
