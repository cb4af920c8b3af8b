//! Merging the small files of a day: many small files make a day's query many times slower.
//!
//! In: the live files. Out: fewer sorted files in the place of several, or as many that do not
//! overlap, with the same rows. The inputs leave the catalog in the transaction that brings the
//! outputs in, and only if all of them are still live; their objects go later (see `retention`), because a query may still
//! read them.
//!
//! A file that is missing, unreadable or not what was written is never merged onward: it is left
//! out and named in the log, and the others are merged without it. Files of different journals are
//! not merged with each other ([`journals`]).
//!
//! Which files are merged when: [`choice`]. How: [`merge`].

mod choice;
mod faults;
mod journals;
mod merge;
mod read;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use weir_fault::{Point, point};
use weir_process::clock::Clock;
use weir_process::work;

pub(crate) use self::faults::Faults;
pub(crate) use self::journals::Journals;
use crate::catalog::{Catalog, CatalogError, DataFile};
use crate::fold::rows::DAY_NS;
use crate::fold::{FoldError, FoldHandle};
use crate::store::Store;
use crate::writer::{self, WriteError};
use choice::Rules;
use journals::JournalId;
use merge::Merged;

/// Rows of a file that is large enough: more make a question no faster.
const FULL_ROWS: u64 = 1 << 20;

/// Merges files.
pub(crate) struct Compactor {
    pub(crate) catalog: Catalog,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) fold: FoldHandle,
    pub(crate) lease_epoch: i64,
    /// So many small files of a day make a merge.
    pub(crate) min_files: usize,
    /// No merge takes more rows than this into memory, but for the last batch of each input.
    pub(crate) max_rows: u64,
    /// Files that are left out.
    pub(crate) faults: Faults,
    /// Files that are not of the journal at hand.
    pub(crate) journals: Journals,
    /// A merge of which it is not known whether the catalog has it. The next one waits for that.
    pub(crate) unsettled: Option<Replacement>,
}

/// Files in the place of others.
pub(crate) struct Replacement {
    inputs: Vec<DataFile>,
    outputs: Vec<DataFile>,
}

impl Compactor {
    /// Merges once, where it helps most, or finds files it leaves out, or leaves apart, from now on;
    /// answers whether it did either.
    pub(crate) async fn step(&mut self) -> Result<bool, FoldError> {
        if self.settle().await? {
            return Ok(true);
        }
        let live = self.faults.sound(&self.fold.files(), self.clock.wall_ns());
        let today = writer::date_of(self.clock.wall_ns().div_euclid(DAY_NS) - 2);
        let journals = self.journals.split(live, self.fold.journal_id());
        let rules = self.rules();
        let chosen = journals
            .iter()
            .filter_map(|files| rules.choose(files, &today));
        match chosen.max_by_key(Vec::len) {
            Some(inputs) => self.merge(inputs).await,
            None => Ok(false),
        }
    }

    fn rules(&self) -> Rules {
        Rules {
            min_files: self.min_files,
            max_rows: self.max_rows,
            // A series that is longer is divided at twice as many.
            full_rows: (self.max_rows / 2).clamp(1, FULL_ROWS),
        }
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
        let full_rows = self.rules().full_rows;
        let inputs = inputs.into_iter().zip(contents).collect();
        let merged = work::run(move || merge::merge_files(inputs, now_ns, full_rows));
        let merged = merged
            .await
            .map_err(|e| WriteError::Foreign(format!("merge: {e}")))?;
        let Merged { inputs, outputs } = match merged {
            Ok(merged) => merged,
            Err(Unmerged::Apart(found)) => {
                tracing::debug!(inputs = found.len(), "files of several journals stay apart");
                self.journals.learn(found);
                return Ok(true);
            }
            Err(Unmerged::Input(path, why)) => {
                self.faults.leave_out(&path, &why, now_ns);
                return Ok(true);
            }
            Err(Unmerged::Output(error)) => return Err(error.into()),
        };
        let expires_ns = now_ns.saturating_add(crate::fold::INTENT_NS);
        let paths: Vec<String> = outputs.iter().map(|(file, _)| file.path.clone()).collect();
        self.catalog
            .intend(&paths, self.lease_epoch, expires_ns)
            .await?;
        let mut written = Vec::with_capacity(outputs.len());
        for (output, bytes) in outputs {
            self.store.put(&output.path, bytes).await?;
            written.push(output);
        }
        point(Point::CompactionPut);
        self.commit(inputs, written, now_ns).await
    }

    async fn commit(
        &mut self,
        inputs: Vec<DataFile>,
        outputs: Vec<DataFile>,
        now_ns: i64,
    ) -> Result<bool, FoldError> {
        match self.catalog.replace_files(&inputs, &outputs, now_ns).await {
            Ok(()) => point(Point::CompactionCommitted),
            Err(CatalogError::NotLive(path)) => {
                tracing::info!(path, "merge given up, an input has expired meanwhile");
                self.give_up(&outputs).await?;
                self.forget_dead(inputs).await?;
                return Ok(false);
            }
            Err(error) => {
                // A commit that fails may have happened all the same.
                self.unsettled = Some(Replacement { inputs, outputs });
                return match self.settle().await {
                    Ok(true) => Ok(true),
                    Ok(false) | Err(_) => Err(error.into()),
                };
            }
        }
        self.show(Replacement { inputs, outputs });
        Ok(true)
    }

    /// Finds out whether the merge that is in doubt was committed, and shows it if so. Until then
    /// queries read its inputs, which are deleted some time after they left the catalog.
    async fn settle(&mut self) -> Result<bool, FoldError> {
        let Some(doubtful) = &self.unsettled else {
            return Ok(false);
        };
        let live = self.catalog.live_files().await?;
        let is_live = |output: &DataFile| live.iter().any(|file| file.path == output.path);
        let committed = doubtful.outputs.iter().any(is_live);
        // What was not committed is an orphan under the next lease.
        if let Some(replacement) = self.unsettled.take().filter(|_| committed) {
            self.show(replacement);
        }
        Ok(committed)
    }

    fn show(&self, Replacement { inputs, outputs }: Replacement) {
        tracing::debug!(
            inputs = inputs.len(),
            outputs = outputs.len(),
            rows = outputs.iter().map(|output| output.rows).sum::<u64>(),
            "files merged"
        );
        self.fold.replace_files(&inputs, outputs);
    }

    /// Takes those of the inputs out of the view that the catalog no longer has: they would be
    /// chosen again and again.
    async fn forget_dead(&self, mut inputs: Vec<DataFile>) -> Result<(), FoldError> {
        let live = self.catalog.live_files().await?;
        inputs.retain(|input| live.iter().all(|file| file.path != input.path));
        self.fold.replace_files(&inputs, Vec::new());
        Ok(())
    }

    async fn give_up(&self, outputs: &[DataFile]) -> Result<(), FoldError> {
        for output in outputs {
            self.store.delete(&output.path).await?;
        }
        let paths: Vec<String> = outputs.iter().map(|file| file.path.clone()).collect();
        self.catalog.forget_intents(&paths).await?;
        Ok(())
    }
}

/// Why there is no merged file.
enum Unmerged {
    /// The input of this path cannot be read.
    Input(String, WriteError),
    /// The output cannot be made.
    Output(WriteError),
    /// They are not of one journal: each with its own.
    Apart(Vec<(String, JournalId)>),
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
