//! Which files to merge next.
//!
//! Two things make a question slow: many small files, and many files that can each hold what it asks
//! for. So files of a day are merged first by size, each size eight times the one before, and then,
//! once they are no longer small, by where they overlap: several files that hold rows of the same
//! metric and device become as many files that follow each other. A row is rewritten with every
//! eightfold of its day, and a metric and device of a day stand in a handful of files however large
//! the day is.

use std::collections::BTreeMap;

#[cfg(test)]
mod tests;

use crate::catalog::{DataFile, Place};

/// So many files overlap at least, before they are put in order: with fewer it would go on for ever,
/// as two that follow each other may share a place.
const MIN_OVERLAP: usize = 3;

/// No more files than these at a time: each is held in memory as it is on disk.
const MAX_OVERLAP: usize = 8;

/// When files are worth a merge.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// So many files of a day that still gets more.
    pub(super) min_files: usize,
    /// Rows of small files that are put together.
    pub(super) max_rows: u64,
    /// Rows of a file that is large enough.
    pub(super) full_rows: u64,
}

impl Rules {
    /// Files with fewer rows are merged by size; there are two sizes.
    fn small_rows(&self) -> u64 {
        self.full_rows / 8
    }

    /// The files of one tenant and day to merge next. A day before `today` gets no more files of its
    /// own, so fewer are enough there.
    pub(super) fn choose(&self, live: &[DataFile], today: &str) -> Option<Vec<DataFile>> {
        let mut days: BTreeMap<(&str, &str), Vec<&DataFile>> = BTreeMap::new();
        for file in live {
            days.entry((&file.tenant, &file.date))
                .or_default()
                .push(file);
        }
        let mut best: Option<Vec<&DataFile>> = None;
        for ((_, date), files) in days {
            let is_over = date < today;
            let inputs = self.small(&files, is_over);
            let inputs = inputs.or_else(|| self.overlapping(&files, is_over));
            let Some(inputs) = inputs else { continue };
            if best.as_ref().is_none_or(|best| best.len() < inputs.len()) {
                best = Some(inputs);
            }
        }
        best.map(|files| files.into_iter().cloned().collect())
    }

    fn small<'a>(&self, files: &[&'a DataFile], is_over: bool) -> Option<Vec<&'a DataFile>> {
        let enough = if is_over { 2 } else { self.min_files.max(2) };
        [self.small_rows() / 8, self.small_rows()]
            .into_iter()
            .find_map(|size| {
                let mut rows = 0;
                let fitting = files
                    .iter()
                    .filter(|file| file.rows < size)
                    .take_while(|file| {
                        rows += file.rows;
                        rows <= self.max_rows
                    });
                let inputs: Vec<&DataFile> = fitting.copied().collect();
                (inputs.len() >= enough).then_some(inputs)
            })
    }

    /// Files at the place that most of them may hold rows of, the smallest first. Of a day that is
    /// over also two that fit into one.
    fn overlapping<'a>(&self, files: &[&'a DataFile], is_over: bool) -> Option<Vec<&'a DataFile>> {
        let enough = if is_over {
            MIN_OVERLAP
        } else {
            self.min_files.max(MIN_OVERLAP)
        };
        let mut deepest = deepest(
            files
                .iter()
                .copied()
                .filter(|file| file.rows >= self.small_rows()),
        );
        deepest.sort_by_key(|file| file.rows);
        deepest.truncate(MAX_OVERLAP);
        let rows: u64 = deepest.iter().map(|file| file.rows).sum();
        let fit_into_one = is_over && deepest.len() == 2 && rows < 2 * self.full_rows;
        (deepest.len() >= enough || fit_into_one).then_some(deepest)
    }
}

/// The most files that may all hold rows of one place. A file of one place alone counts for none.
fn deepest<'a>(files: impl Iterator<Item = &'a DataFile>) -> Vec<&'a DataFile> {
    let is_wide = |file: &&DataFile| file.extent.as_ref().is_none_or(|e| !e.is_one_place());
    let mut files: Vec<&DataFile> = files.filter(is_wide).collect();
    // One of which nothing is known begins before all others and never ends.
    files.sort_by_key(|file| first(file));
    let mut deepest = Vec::new();
    let mut at: Vec<&DataFile> = Vec::new();
    for file in files {
        if let Some(begin) = first(file) {
            at.retain(|before| last(before).is_none_or(|end| end >= begin));
        }
        at.push(file);
        if at.len() > deepest.len() {
            deepest.clone_from(&at);
        }
    }
    deepest
}

fn first(file: &DataFile) -> Option<&Place> {
    file.extent.as_ref().map(|extent| &extent.first)
}

fn last(file: &DataFile) -> Option<&Place> {
    file.extent.as_ref().map(|extent| &extent.last)
}
