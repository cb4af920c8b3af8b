//! Runs statements: threads, turns, memory and time limits.
//!
//! Statements run on a small runtime of the engine's own: planning and decoding are CPU work, and on the caller's
//! runtime they would hold up whatever else it does. Twice as many statements as there are threads run at a time, the
//! others wait for their turn within their timeout. A caller that goes away or runs out of time aborts its statement.
//! It ends where it next yields, after the batch at hand, and keeps its turn until then so that it cannot be piled upon.
//!
//! `Limits::memory_bytes` bounds what sorts, joins, groups and kept answers hold, all statements together, and
//! `Limits::owner_bytes` those of one owner. Neither sees one value being computed (a text repeated a million times) nor the batch that an operator is working on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use datafusion::execution::session_state::SessionState;
use object_store::ObjectStore;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::answer::Answer;
use crate::error::{ErrorKind, QueryError};
use crate::samples::Checked;
use crate::statement::MAX_SQL_BYTES;
use crate::tables::Tables;
use share::Shares;

mod run;
mod session;
pub(crate) mod share;
mod yielding;

/// Bounds of one engine. Zero is taken as one for rows and threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most rows of an answer; the rest is cut and the answer says so.
    pub max_rows: usize,
    /// Longest time from the call to the answer, waiting for a turn included.
    pub timeout: Duration,
    /// Memory of all running statements and their answers together; one answer may use a quarter of it.
    pub memory_bytes: usize,
    /// Of it, the statements and answers of one owner together.
    pub owner_bytes: usize,
    /// Threads that compute.
    pub threads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            max_rows: 10_000,
            timeout: Duration::from_secs(30),
            memory_bytes: 256 << 20,
            owner_bytes: 192 << 20,
            threads: cores,
        }
    }
}

/// Answers statements; clones share one pool of threads and memory.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    limits: Limits,
    memory: Shares,
    turns: Arc<Semaphore>,
    /// What is built once: functions, rules, settings, and the footers of the store's files.
    base: Mutex<Option<Base>>,
    /// None only while dropping.
    threads: Option<Runtime>,
}

#[derive(Clone)]
struct Base {
    store: Arc<dyn ObjectStore>,
    state: SessionState,
    /// Files of it that are what was written.
    checked: Arc<Checked>,
}

/// Stack of the engine's threads. Only what is touched is paid for; see [`MAX_SQL_BYTES`].
const STACK_BYTES: usize = 64 << 20;

/// Threads that wait for files, for each thread that computes.
const BLOCKING_PER_THREAD: usize = 8;

impl Engine {
    /// Starts the threads; fails when the system gives none.
    pub fn new(limits: Limits) -> std::io::Result<Self> {
        let limits = Limits {
            max_rows: limits.max_rows.max(1),
            threads: limits.threads.max(1),
            ..limits
        };
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(limits.threads)
            .max_blocking_threads(limits.threads * BLOCKING_PER_THREAD)
            .thread_name("weir-query")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()?;
        let inner = Inner {
            memory: Shares::new(limits.memory_bytes, limits.owner_bytes),
            turns: Arc::new(Semaphore::new(limits.threads * 2)),
            base: Mutex::new(None),
            threads: Some(threads),
            limits,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Answers `sql` over `tables`. Needs a tokio runtime with time; dropping the future aborts the statement.
    pub async fn run(&self, sql: &str, tables: Tables) -> Result<Answer, QueryError> {
        self.run_as(sql, || tables, Ok).await
    }

    /// The same, with `tables` made and `finish` done by the thread that computes the answer: no other has to be woken
    /// for them, which counts where all are busy.
    pub async fn run_as<T: Send + 'static>(
        &self,
        sql: &str,
        tables: impl FnOnce() -> Tables + Send + 'static,
        finish: impl FnOnce(Answer) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, QueryError> {
        if sql.len() > MAX_SQL_BYTES {
            return Err(QueryError::new(
                ErrorKind::TooLarge,
                format!(
                    "the statement is {} bytes long, more than the {MAX_SQL_BYTES} it may be",
                    sql.len()
                ),
            ));
        }
        let limits = &self.inner.limits;
        let (sql, inner) = (sql.to_owned(), Arc::clone(&self.inner));
        let turns = Arc::clone(&self.inner.turns);
        let mut task = JoinSet::new();
        task.spawn_on(
            async move {
                // Closed never: the semaphore has no other owner that could.
                let _turn = turns.acquire_owned().await.ok();
                finish(inner.answer(sql, tables()).await?)
            },
            self.inner.threads().handle(),
        );
        match tokio::time::timeout(limits.timeout, task.join_next()).await {
            Ok(Some(Ok(answer))) => answer,
            Ok(Some(Err(error))) => Err(QueryError::internal("the statement crashed", &error)),
            Ok(None) => Err(QueryError::internal("the statement never ran", &"no task")),
            Err(_) => Err(QueryError::new(
                ErrorKind::Timeout,
                format!(
                    "the statement took longer than {:?}: narrow the time range or select less",
                    limits.timeout
                ),
            )),
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("limits", &self.inner.limits)
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn threads(&self) -> &Runtime {
        self.threads.as_ref().expect("present until dropped")
    }

    async fn answer(&self, sql: String, tables: Tables) -> Result<Answer, QueryError> {
        let base = self.base(&tables.store)?;
        let memory = self.memory.of(&tables.owner);
        run::answer(sql, tables, base, self.limits.clone(), memory).await
    }

    /// The state to plan with, without tables. Built anew only when the store is another one.
    fn base(&self, store: &Arc<dyn ObjectStore>) -> Result<Base, QueryError> {
        let mut base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(base) = base.as_ref()
            && Arc::ptr_eq(&base.store, store)
        {
            return Ok(base.clone());
        }
        let state = session::base(store, self.memory.all(), self.limits.threads)
            .map_err(|error| QueryError::internal("the engine could not be set up", &error))?;
        let built = Base {
            store: Arc::clone(store),
            state,
            checked: Arc::default(),
        };
        *base = Some(built.clone());
        Ok(built)
    }
}

impl Drop for Inner {
    /// A runtime may not be waited for within another one; what still runs is aborted.
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}
