//! Many files in, few files out, with the same rows.
//!
//! All inputs are sorted by metric, device and attributes, so they are read side by side, and a file
//! is written as soon as it has enough rows: the outputs follow each other without overlapping, and
//! what is in memory is one of them, and a batch of each input.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::read::{self, Run, Source};
use super::{Unmerged, reading};
use crate::catalog::{DataFile, SeriesKey};
use crate::fold::rows::{Rows, SeriesRows};
use crate::writer::{self, Part, Provenance, WriteError};

/// What comes of a merge.
pub(super) struct Merged {
    pub(super) inputs: Vec<DataFile>,
    pub(super) outputs: Vec<(DataFile, Bytes)>,
}

/// A file and what it holds.
pub(super) type Input = (DataFile, Bytes);

/// Reads the inputs and writes them in files of at least `full_rows` rows, as far as there are so
/// many. Only files of one journal have positions that can be put together.
pub(super) fn merge_files(
    inputs: Vec<Input>,
    now_ns: i64,
    full_rows: u64,
) -> Result<Merged, Unmerged> {
    let provenance = of_one_journal(&inputs)?;
    let expected: u64 = inputs.iter().map(|(input, _)| input.rows).sum();
    let mut merge = Merge {
        outputs: Outputs {
            date: &inputs[0].0.date,
            provenance: &provenance,
            now_ms: u64::try_from(now_ns / 1_000_000).unwrap_or(0),
            full_rows,
            left: expected,
            rows: 0,
            series: HashMap::new(),
            files: Vec::new(),
        },
        sources: Vec::with_capacity(inputs.len()),
    };
    for (input, bytes) in &inputs {
        let source = reading(input, || Source::open(bytes, input))?;
        merge.sources.push((source, input));
    }
    let outputs = merge.run()?;
    let written: u64 = outputs.iter().map(|(output, _)| output.rows).sum();
    if written != expected {
        let text = format!("merge would turn {expected} rows into {written}");
        return Err(WriteError::Foreign(text).into());
    }
    Ok(Merged {
        inputs: inputs.into_iter().map(|(input, _)| input).collect(),
        outputs,
    })
}

/// Where the rows of the inputs came from together.
fn of_one_journal(inputs: &[Input]) -> Result<Provenance, Unmerged> {
    let mut found = Vec::with_capacity(inputs.len());
    for (input, bytes) in inputs {
        found.push(reading(input, || read::provenance(bytes, &input.path))?);
    }
    let journal_id = found.first().expect("there are inputs").journal_id;
    if found.iter().any(|one| one.journal_id != journal_id) {
        let each = inputs.iter().zip(&found);
        let each = each.map(|((input, _), one)| (input.path.clone(), one.journal_id));
        return Err(Unmerged::Apart(each.collect()));
    }
    let mut watermarks = BTreeMap::new();
    for (stream, watermark) in found.iter().flat_map(|one| &one.streams) {
        let slot = watermarks.entry(*stream).or_insert(0);
        *slot = (*watermark).max(*slot);
    }
    Ok(Provenance {
        journal_id,
        from: found.iter().map(|one| one.from).min().unwrap_or(0),
        through: found.iter().map(|one| one.through).max().unwrap_or(0),
        streams: watermarks.into_iter().collect(),
    })
}

/// What rows are sorted by before their times.
type Order = (Arc<str>, Arc<str>, Arc<str>);

fn order(key: &SeriesKey) -> Order {
    let part = Arc::clone;
    (part(&key.metric), part(&key.device), part(&key.attributes))
}

struct Merge<'a> {
    sources: Vec<(Source, &'a DataFile)>,
    outputs: Outputs<'a>,
}

impl Merge<'_> {
    fn run(mut self) -> Result<Vec<Input>, Unmerged> {
        // Of one order the input that comes first is first: rows of one moment stay in order of arrival.
        let mut heads = BinaryHeap::new();
        for at in 0..self.sources.len() {
            if let Some(run) = self.next(at)? {
                heads.push(Reverse((order(&run.key), at)));
                self.sources[at].0.head = Some(run);
            }
        }
        let mut last: Option<Order> = None;
        while let Some(Reverse((here, at))) = heads.pop() {
            let is_new = last.as_ref() != Some(&here);
            if is_new && self.outputs.are_due(1) {
                self.outputs.write()?;
            }
            while let Some(run) = self.sources[at].0.head.take() {
                if order(&run.key) != here {
                    heads.push(Reverse((order(&run.key), at)));
                    self.sources[at].0.head = Some(run);
                    break;
                }
                // One series may have more rows than a file should.
                if self.outputs.are_due(2) {
                    self.outputs.write()?;
                }
                self.take(run, at)?;
                self.sources[at].0.head = self.next(at)?;
            }
            last = Some(here);
        }
        if self.outputs.rows > 0 {
            self.outputs.write()?;
        }
        Ok(self.outputs.files)
    }

    fn next(&mut self, at: usize) -> Result<Option<Run>, Unmerged> {
        let (source, input) = &mut self.sources[at];
        reading(input, || source.next(input))
    }

    fn take(&mut self, run: Run, at: usize) -> Result<(), Unmerged> {
        let (source, input) = &self.sources[at];
        self.outputs.rows += run.rows.len() as u64;
        let rows = self.outputs.series.entry(run.key.clone()).or_default();
        reading(input, || {
            source.copy(&run, rows);
            Ok(())
        })
    }
}

struct Outputs<'a> {
    date: &'a str,
    provenance: &'a Provenance,
    now_ms: u64,
    full_rows: u64,
    /// Rows that are in no output yet, those in `series` included.
    left: u64,
    /// Rows in `series`.
    rows: u64,
    series: HashMap<SeriesKey, Rows>,
    files: Vec<Input>,
}

impl Outputs<'_> {
    /// What is in memory would make so many files, and what is left afterwards another.
    fn are_due(&self, files: u64) -> bool {
        let full = self.full_rows;
        self.rows >= full.saturating_mul(files) && self.left.saturating_sub(self.rows) >= full
    }

    fn write(&mut self) -> Result<(), WriteError> {
        let series = std::mem::take(&mut self.series).into_iter();
        let series: Vec<SeriesRows> = series
            .map(|(key, rows)| SeriesRows {
                key: Arc::new(key),
                rows,
            })
            .collect();
        let parts = series.iter().map(|one| Part {
            series: one,
            rows: writer::in_order(&one.rows),
        });
        let name = writer::name(self.now_ms);
        let file = writer::write_file(parts.collect(), self.date, self.provenance, &name)?;
        self.files.push(file);
        self.left = self.left.saturating_sub(self.rows);
        self.rows = 0;
        Ok(())
    }
}
