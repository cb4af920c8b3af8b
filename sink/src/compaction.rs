//! Merging the small files of a day: many small files make a day's query many times slower.
//!
//! In: the live files. Out: one sorted file in the place of several, with the same rows. The
//! inputs leave the catalog in the transaction that brings the output in, and only if all of
//! them are still live; their objects go later (see `retention`), because a query may still
//! read them.
//!
//! A file that is missing, unreadable or not what was written is never merged onward: it is left
//! out and named in the log, and the others are merged without it.
//!
//! Files are merged with files of their own size or smaller, each size eight times the one
//! before, so that a row is rewritten a few times and not with every flush.

mod faults;
mod read;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use weir_fault::{Point, point};
use weir_process::clock::Clock;
use weir_process::work;

pub(crate) use self::faults::Faults;
use crate::catalog::{Catalog, CatalogError, DataFile};
use crate::fold::rows::{DAY_NS, SeriesRows};
use crate::fold::{FoldError, FoldHandle};
use crate::store::Store;
use crate::writer::{self, Part, Provenance, WriteError};

/// Files with fewer rows are worth merging.
pub(crate) const SMALL_ROWS: u64 = 1 << 20;

/// Rows of the smallest size; each next size has eight times as many.
const FIRST_SIZE_ROWS: u64 = 16 << 10;

/// Merges files.
pub(crate) struct Compactor {
    pub(crate) catalog: Catalog,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) fold: FoldHandle,
    pub(crate) lease_epoch: i64,
    /// So many small files of a day make a merge.
    pub(crate) min_files: usize,
    /// No merge takes more rows than this into memory.
    pub(crate) max_rows: u64,
    /// Files that are left out.
    pub(crate) faults: Faults,
    /// A merge of which it is not known whether the catalog has it. The next one waits for that.
    pub(crate) unsettled: Option<Replacement>,
}

/// One file in the place of others.
pub(crate) struct Replacement {
    inputs: Vec<DataFile>,
    output: DataFile,
}

impl Compactor {
    /// Merges once, where it helps most, or finds a file it leaves out from now on; answers whether
    /// it did either.
    pub(crate) async fn step(&mut self) -> Result<bool, FoldError> {
        if self.settle().await? {
            return Ok(true);
        }
        let live = self.faults.sound(&self.fold.files(), self.clock.wall_ns());
        let today = writer::date_of(self.clock.wall_ns().div_euclid(DAY_NS) - 2);
        let Some(inputs) = choose(&live, self.min_files, self.max_rows, &today) else {
            return Ok(false);
        };
        self.merge(inputs).await
    }

    async fn merge(&mut self, inputs: Vec<DataFile>) -> Result<bool, FoldError> {
        let now_ns = self.clock.wall_ns();
        let mut contents = Vec::with_capacity(inputs.len());
        for input in &inputs {
            match self.store.whole(input).await {
                Ok(bytes) => contents.push(bytes),
                Err(why) => self.faults.leave_out(&input.path, &why, now_ns),
            }
        }
        if contents.len() < inputs.len() {
            return Ok(true);
        }
        let merged = work::run(move || merge_files(inputs, &contents, now_ns));
        let merged = merged
            .await
            .map_err(|e| WriteError::Foreign(format!("merge: {e}")))?;
        let (inputs, output, bytes) = match merged {
            Ok(Some(merged)) => merged,
            Ok(None) => return Ok(false),
            Err(Unmerged::Input(path, why)) => {
                self.faults.leave_out(&path, &why, now_ns);
                return Ok(true);
            }
            Err(Unmerged::Output(error)) => return Err(error.into()),
        };
        let expires_ns = now_ns.saturating_add(crate::fold::INTENT_NS);
        let path = std::slice::from_ref(&output.path);
        self.catalog
            .intend(path, self.lease_epoch, expires_ns)
            .await?;
        self.store.put(&output.path, bytes).await?;
        point(Point::CompactionPut);
        match self.catalog.replace_files(&inputs, &output, now_ns).await {
            Ok(()) => point(Point::CompactionCommitted),
            Err(CatalogError::NotLive(path)) => {
                tracing::info!(path, "merge given up, an input has expired meanwhile");
                self.give_up(&output.path).await?;
                self.forget_dead(inputs).await?;
                return Ok(false);
            }
            Err(error) => {
                // A commit that fails may have happened all the same.
                self.unsettled = Some(Replacement { inputs, output });
                return match self.settle().await {
                    Ok(true) => Ok(true),
                    Ok(false) | Err(_) => Err(error.into()),
                };
            }
        }
        self.show(Replacement { inputs, output });
        Ok(true)
    }

    /// Finds out whether the merge that is in doubt was committed, and shows it if so. Until then
    /// queries read its inputs, which are deleted some time after they left the catalog.
    async fn settle(&mut self) -> Result<bool, FoldError> {
        let Some(doubtful) = &self.unsettled else {
            return Ok(false);
        };
        let live = self.catalog.live_files().await?;
        let committed = live.iter().any(|file| file.path == doubtful.output.path);
        // What was not committed is an orphan under the next lease.
        if let Some(replacement) = self.unsettled.take().filter(|_| committed) {
            self.show(replacement);
        }
        Ok(committed)
    }

    fn show(&self, Replacement { inputs, output }: Replacement) {
        tracing::debug!(
            inputs = inputs.len(),
            rows = output.rows,
            path = output.path,
            "files merged"
        );
        self.fold.replace_files(&inputs, Some(output));
    }

    /// Takes those of the inputs out of the view that the catalog no longer has: they would be
    /// chosen again and again.
    async fn forget_dead(&self, mut inputs: Vec<DataFile>) -> Result<(), FoldError> {
        let live = self.catalog.live_files().await?;
        inputs.retain(|input| live.iter().all(|file| file.path != input.path));
        self.fold.replace_files(&inputs, None);
        Ok(())
    }

    async fn give_up(&self, path: &str) -> Result<(), FoldError> {
        self.store.delete(path).await?;
        self.catalog.forget_intents(&[path.to_owned()]).await?;
        Ok(())
    }
}

/// The files of one tenant and day to merge next. A day before `today` gets no more files of
/// its own, so two are enough there.
fn choose(
    live: &[DataFile],
    min_files: usize,
    max_rows: u64,
    today: &str,
) -> Option<Vec<DataFile>> {
    let mut days: BTreeMap<(&str, &str), Vec<&DataFile>> = BTreeMap::new();
    for file in live.iter().filter(|file| file.rows < SMALL_ROWS) {
        days.entry((&file.tenant, &file.date))
            .or_default()
            .push(file);
    }
    let mut best: Option<Vec<&DataFile>> = None;
    for ((_, date), files) in days {
        let enough = if date < today { 2 } else { min_files.max(2) };
        let Some(inputs) = choose_of_day(&files, enough, max_rows) else {
            continue;
        };
        if best.as_ref().is_none_or(|best| best.len() < inputs.len()) {
            best = Some(inputs);
        }
    }
    best.map(|files| files.into_iter().cloned().collect())
}

fn choose_of_day<'a>(
    files: &[&'a DataFile],
    enough: usize,
    max_rows: u64,
) -> Option<Vec<&'a DataFile>> {
    let mut size = FIRST_SIZE_ROWS;
    loop {
        let mut rows = 0;
        let fitting = files
            .iter()
            .filter(|file| file.rows <= size)
            .take_while(|file| {
                rows += file.rows;
                rows <= max_rows
            });
        let inputs: Vec<&DataFile> = fitting.copied().collect();
        if inputs.len() >= enough {
            return Some(inputs);
        }
        if size >= SMALL_ROWS {
            return None;
        }
        size *= 8;
    }
}

type Merged = (Vec<DataFile>, DataFile, Bytes);

/// Why there is no merged file.
enum Unmerged {
    /// The input of this path cannot be read.
    Input(String, WriteError),
    /// The output cannot be made.
    Output(WriteError),
}

impl From<WriteError> for Unmerged {
    fn from(error: WriteError) -> Self {
        Self::Output(error)
    }
}

/// Reads one input. Damage that no checksum has caught may also make the Parquet reader panic.
fn reading<T>(
    input: &DataFile,
    read: impl FnOnce() -> Result<T, WriteError>,
) -> Result<T, Unmerged> {
    let read = catch_unwind(AssertUnwindSafe(read));
    read.unwrap_or_else(|_| Err(WriteError::Foreign("reading it has panicked".into())))
        .map_err(|why| Unmerged::Input(input.path.clone(), why))
}

/// Reads the inputs and writes them as one. Only files of one journal have positions that can
/// be put together; inputs of another journal than most are left out.
fn merge_files(
    inputs: Vec<DataFile>,
    contents: &[Bytes],
    now_ns: i64,
) -> Result<Option<Merged>, Unmerged> {
    let mut read = Vec::with_capacity(inputs.len());
    for (input, bytes) in inputs.into_iter().zip(contents) {
        let found = reading(&input, || read::provenance(bytes, &input.path))?;
        read.push((input, found, bytes));
    }
    let mut journals: HashMap<[u8; 16], usize> = HashMap::new();
    for (_, found, _) in &read {
        *journals.entry(found.journal_id).or_default() += 1;
    }
    let (journal_id, count) = journals
        .into_iter()
        .max_by_key(|(id, count)| (*count, *id))
        .expect("there are inputs");
    if count < 2 {
        return Ok(None);
    }
    read.retain(|(_, found, _)| found.journal_id == journal_id);
    let mut provenance = Provenance {
        journal_id,
        from: u64::MAX,
        through: 0,
        streams: Vec::new(),
    };
    let mut watermarks = BTreeMap::new();
    let mut series = read::Gathered::new(Arc::clone(&read[0].0.tenant));
    for (input, found, bytes) in &read {
        provenance.from = provenance.from.min(found.from);
        provenance.through = provenance.through.max(found.through);
        for (stream, watermark) in &found.streams {
            let slot = watermarks.entry(*stream).or_insert(0);
            *slot = (*watermark).max(*slot);
        }
        reading(input, || series.add(bytes, input))?;
    }
    provenance.streams = watermarks.into_iter().collect();
    let series: Vec<SeriesRows> = series.finish();
    let parts = series.iter().map(|one| Part {
        series: one,
        rows: writer::in_order(&one.rows),
    });
    let now_ms = u64::try_from(now_ns / 1_000_000).unwrap_or(0);
    let name = writer::name(now_ms);
    let (output, bytes) = writer::write_file(parts.collect(), &read[0].0.date, &provenance, &name)?;
    let inputs: Vec<DataFile> = read.into_iter().map(|(input, _, _)| input).collect();
    let expected: u64 = inputs.iter().map(|input| input.rows).sum();
    if output.rows != expected {
        let text = format!("merge would turn {expected} rows into {}", output.rows);
        return Err(WriteError::Foreign(text).into());
    }
    Ok(Some((inputs, output, bytes)))
}
