//! What queries see: files, fresh rows and latest values of one moment.
//!
//! Built only when asked for, and only from what came since it was last asked for: the fold is
//! held up for as long as it takes to copy the new rows, and, where they are wanted, new latest values.

mod blocks;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use arrow::array::RecordBatch;

use super::rows::SeriesRows;
use super::state::State;
use crate::catalog::{DataFile, SeriesKey};
use crate::writer::Picked;
use crate::writer::columns::Columns;
use blocks::Blocks;

/// So many tenants' views are kept up; that of another begins anew.
const TENANTS: usize = 8;

/// More fresh batches than this are put together into one.
const MAX_FRESH_BATCHES: usize = 16;

/// One consistent snapshot: a row is in the files or in `fresh`, never in both.
#[derive(Debug, Clone)]
pub struct View {
    /// Live files; the same list for as long as none comes or goes.
    pub files: Arc<Vec<DataFile>>,
    /// Durable rows that are not in files yet, as `samples`.
    pub fresh: Vec<RecordBatch>,
    /// One row per series; none where they were not wanted.
    pub latest: Vec<RecordBatch>,
    /// Everything through this journal number is in here.
    pub position: u64,
}

/// Fresh batches of one buffer, and how much of it they hold.
#[derive(Debug, Default)]
struct Fresh {
    batches: Vec<RecordBatch>,
    /// Rows taken, by number of series.
    taken: Vec<usize>,
}

/// A list of files that many views may share.
type Files = Arc<Vec<DataFile>>;

/// What the last views were built from.
#[derive(Debug, Default)]
pub(crate) struct Views {
    /// One for each tenant, the last asked for first.
    tenants: Mutex<VecDeque<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    tenant: Arc<str>,
    frozen: Fresh,
    current: Fresh,
    /// Files of all tenants, and those of this one.
    files: Option<(Files, Files)>,
    latest: Blocks,
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    version: u64,
    has_latest: bool,
    view: Arc<View>,
}

/// What is being written to files right now.
pub(crate) type FrozenRows = Arc<Vec<(u32, SeriesRows)>>;

impl Views {
    /// The current buffer becomes the frozen one; `freeze` does so in the state meanwhile.
    pub(crate) fn freeze<T>(&self, freeze: impl FnOnce() -> T) -> T {
        let mut tenants = self.lock();
        for inner in &mut *tenants {
            inner.frozen = std::mem::take(&mut inner.current);
        }
        freeze()
    }

    /// The frozen buffer is in files; `thaw` changes the state meanwhile.
    pub(crate) fn thaw<T>(&self, thaw: impl FnOnce() -> T) -> T {
        let mut tenants = self.lock();
        for inner in &mut *tenants {
            inner.frozen = Fresh::default();
        }
        thaw()
    }

    /// Nothing is fresh any more; `change` puts another state in place meanwhile.
    pub(crate) fn begin_anew<T>(&self, change: impl FnOnce() -> T) -> T {
        let mut tenants = self.lock();
        tenants.clear();
        change()
    }

    /// The last view of `tenant` where nothing has changed since and nobody is in the way: nothing is waited for.
    pub(crate) fn at_hand(
        &self,
        tenant: &str,
        with_latest: bool,
        state: &Mutex<State>,
    ) -> Option<Arc<View>> {
        let tenants = self.tenants.try_lock().ok()?;
        let inner = tenants.iter().find(|inner| *inner.tenant == *tenant)?;
        let version = state.try_lock().ok()?.version;
        inner.last_of(version, with_latest)
    }

    /// The view of `tenant` now.
    pub(crate) fn view(&self, tenant: &str, with_latest: bool, state: &Mutex<State>) -> Arc<View> {
        let mut tenants = self.lock();
        let inner = of(&mut tenants, tenant);
        let guard = state
            .lock()
            .expect("the fold does not panic while it holds its state");
        if let Some(view) = inner.last_of(guard.version, with_latest) {
            return view;
        }
        let (version, position) = (guard.version, guard.position);
        let files = Arc::clone(&guard.files);
        let current = (0u32..).zip(&guard.current.rows);
        let current = current.filter(|(_, rows)| !rows.is_empty());
        inner.current.take(
            current.map(|(number, rows)| (number, guard.series.key(number), rows)),
            tenant,
        );
        let changed = with_latest.then(|| {
            let (table, keys) = (&guard.latest, &guard.series);
            inner.latest.changed(tenant, table, keys)
        });
        let frozen = Arc::clone(&guard.frozen);
        drop(guard);
        let rows = frozen
            .iter()
            .map(|(number, one)| (*number, &one.key, &one.rows));
        inner.frozen.take(rows, tenant);
        let view = Arc::new(View {
            files: inner.files_of(files, tenant),
            fresh: [&inner.frozen, &inner.current]
                .iter()
                .flat_map(|f| f.batches.clone())
                .collect(),
            latest: changed.map_or_else(Vec::new, |changed| inner.latest.take(changed)),
            position,
        });
        inner.last = Some(Last {
            version,
            has_latest: with_latest,
            view: Arc::clone(&view),
        });
        view
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Inner>> {
        self.tenants.lock().expect("building a view does not panic")
    }
}

/// What is kept of this tenant, which becomes the last asked for.
fn of<'a>(tenants: &'a mut VecDeque<Inner>, tenant: &str) -> &'a mut Inner {
    let known = tenants.iter().position(|inner| *inner.tenant == *tenant);
    let inner = known.and_then(|at| tenants.remove(at));
    tenants.truncate(TENANTS - 1);
    tenants.push_front(inner.unwrap_or_else(|| Inner {
        tenant: tenant.into(),
        ..Inner::default()
    }));
    &mut tenants[0]
}

impl Inner {
    /// The last view, where it is of this version and has what is wanted.
    fn last_of(&self, version: u64, with_latest: bool) -> Option<Arc<View>> {
        let last = self.last.as_ref()?;
        let is_it = last.version == version && last.has_latest >= with_latest;
        is_it.then(|| Arc::clone(&last.view))
    }

    fn files_of(&mut self, all: Files, tenant: &str) -> Files {
        if let Some((of, files)) = &self.files
            && Arc::ptr_eq(of, &all)
        {
            return Arc::clone(files);
        }
        let files = all.iter().filter(|file| *file.tenant == *tenant);
        let files = Arc::new(files.cloned().collect());
        self.files = Some((all, Arc::clone(&files)));
        files
    }
}

impl Fresh {
    /// Adds what is new in `series` since the last time.
    fn take<'a>(
        &mut self,
        series: impl Iterator<Item = (u32, &'a Arc<SeriesKey>, &'a super::rows::Rows)>,
        tenant: &str,
    ) {
        if self.batches.len() >= MAX_FRESH_BATCHES {
            *self = Self::default();
        }
        let mut columns = Columns::default();
        for (number, key, rows) in series {
            if *key.tenant != *tenant {
                continue;
            }
            let index = number as usize;
            if index >= self.taken.len() {
                self.taken.resize(index + 1, 0);
            }
            let from = std::mem::replace(&mut self.taken[index], rows.len());
            if from < rows.len() {
                columns.push(key, rows, &Picked::Range(from..rows.len()));
            }
        }
        if columns.len() > 0 {
            self.batches.push(columns.finish());
        }
    }
}
