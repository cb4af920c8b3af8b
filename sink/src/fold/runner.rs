//! The loop around the state: what waits for what.
//!
//! One helping of records at a time on a blocking thread; at most one flush at a time beside
//! it, so that folding goes on while files are written; a stop ends both and flushes once more.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_fault::{Point, point};
use weir_process::work;

use super::caution::Caution;
use super::flush::{Flush, Flushed, Frozen};
use super::pull::{Pulled, Puller};
use super::state::State;
use super::{Fold, FoldError, FoldParts, Shared};
use crate::catalog::Position;
use crate::model::StreamKey;
use crate::writer::WriteError;

/// How long the fold waits before it reads a journal again that could not be read.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// The loop and what it waits for.
pub(super) struct Runner {
    parts: FoldParts,
    shared: Arc<Shared>,
    committed: Position,
    token: CancellationToken,
    /// `None` while a blocking thread has it.
    puller: Option<Puller>,
    flushing: Option<JoinHandle<Result<Flushed, FoldError>>>,
    /// The last record of the flush that runs, or ran last.
    flushing_through: u64,
    caution: Caution,
    dirty_since: Option<Instant>,
    asked: bool,
    /// The journal, or what a stream has defined, could not be read the last time.
    unreadable: bool,
    /// A flush ended without its commit: what it held is in no file, so nothing behind it may be
    /// committed either. Only the next start, from the journal, goes on.
    stopped: bool,
}

impl Runner {
    pub(super) fn new(fold: Fold, token: CancellationToken) -> Self {
        let Fold {
            parts,
            shared,
            committed,
        } = fold;
        let puller = Puller::new(parts.journal.clone(), Arc::clone(&shared), &parts.config);
        Self {
            parts,
            shared,
            committed,
            token,
            puller: Some(puller),
            flushing: None,
            flushing_through: 0,
            caution: Caution::default(),
            dirty_since: None,
            asked: false,
            unreadable: false,
            stopped: false,
        }
    }

    pub(super) async fn run(mut self) -> Result<(), FoldError> {
        let mut progress = self.parts.journal.progress();
        self.parts.stage.ok();
        while !self.token.is_cancelled() && !self.stopped {
            progress.borrow_and_update();
            let more = self.pull().await?;
            let began = self.begin_flush_if_due();
            if self.flushing.as_ref().is_some_and(JoinHandle::is_finished) {
                self.end_flush().await?;
            }
            if more || began {
                continue;
            }
            let due = self.due_at();
            let shared = Arc::clone(&self.shared);
            let flushing = self.flushing.is_some();
            tokio::select! {
                biased;
                () = self.token.cancelled() => {}
                _ = progress.changed() => {}
                () = shared.flush_now.notified() => self.asked = true,
                () = tokio::time::sleep_until(due), if !flushing => {}
                () = tokio::time::sleep(READ_AGAIN), if self.unreadable => {}
                result = join(&mut self.flushing), if flushing => self.finish(result).await?,
            }
        }
        self.drain().await
    }

    /// What is durable and folded goes into files; what is left the next start will fold.
    ///
    /// A flush that was stopped in its pause has committed nothing. Another one after it would move
    /// the position past the rows of the first, which the journal would then let go.
    async fn drain(mut self) -> Result<(), FoldError> {
        self.pull().await?;
        self.end_flush().await?;
        if !self.stopped && !self.shared.state().current.is_empty() {
            self.begin_flush();
            self.end_flush().await?;
        }
        if self.stopped {
            tracing::warn!("stopped with rows that are not in files, the journal has them");
        }
        Ok(())
    }

    /// Folds what is there, at most one helping; answers whether more may be there at once.
    async fn pull(&mut self) -> Result<bool, FoldError> {
        if self.shared.state().position >= self.durable_through() {
            return Ok(false);
        }
        let mut puller = self.puller.take().expect("only this function takes it");
        let (puller, pulled) = work::run(move || {
            let pulled = puller.pull();
            (puller, pulled)
        })
        .await
        .expect("the fold catches what records can cause");
        self.puller = Some(puller);
        if let Pulled::Panicked(number, error) = pulled {
            self.set_poison_aside(number, error).await?;
            return Ok(true);
        }
        point(Point::SinkFolded);
        let pulled = match pulled {
            Pulled::Missing(stream) => self.remember(stream).await,
            pulled => pulled,
        };
        if !self.shared.state().current.is_empty() {
            self.dirty_since.get_or_insert_with(Instant::now);
        }
        self.note_reading(&pulled);
        Ok(pulled == Pulled::More)
    }

    /// Reads what a stream has defined back from the catalog.
    async fn remember(&self, stream: StreamKey) -> Pulled {
        match self.parts.catalog.series_of(&stream).await {
            Ok(defined) => {
                self.shared.state().remember(&stream, &defined);
                Pulled::More
            }
            Err(error) => Pulled::Failed(format!("cannot read definitions: {error}")),
        }
    }

    /// A record has panicked: what runs beside the fold is ended, then it begins anew.
    async fn set_poison_aside(&mut self, number: u64, error: String) -> Result<(), FoldError> {
        tracing::error!(
            number,
            error,
            "a record makes the fold panic, it will be set aside: report this as a bug"
        );
        if !self.caution.poison(number, error.clone()) {
            let text = format!("journal record {number} cannot even be set aside: {error}");
            return Err(WriteError::Foreign(text).into());
        }
        self.end_flush().await?;
        self.begin_anew().await
    }

    /// A flush cannot be done, now or ever: its records are taken with care.
    async fn refuse_flush(&mut self, error: WriteError) -> Result<(), FoldError> {
        let through = self.flushing_through;
        tracing::error!(through, %error, "readings cannot be written to a file, their records will be tried one by one: report this as a bug");
        if !self.caution.refuse_flush(through) {
            return Err(error.into());
        }
        self.begin_anew().await
    }

    /// Goes back to what is committed; the journal has everything behind it.
    async fn begin_anew(&mut self) -> Result<(), FoldError> {
        let Position {
            journal_id, number, ..
        } = self.committed;
        let loaded = self.parts.catalog.load().await?;
        let mut new = State::load(journal_id, number, loaded).map_err(FoldError::Damaged)?;
        new.caution = self.caution.clone();
        let shared = &self.shared;
        shared.views.begin_anew(|| shared.state().begin_anew(new));
        self.dirty_since = None;
        Ok(())
    }

    /// Says so when something begins to be unreadable, and when it is readable again.
    fn note_reading(&mut self, pulled: &Pulled) {
        match pulled {
            Pulled::Failed(error) if !self.unreadable => {
                tracing::error!(error, "the fold waits and tries again");
                self.parts.stage.failing(error);
                self.unreadable = true;
            }
            Pulled::More | Pulled::Done if self.unreadable => {
                self.parts.stage.ok();
                self.unreadable = false;
            }
            _ => {}
        }
    }

    fn durable_through(&self) -> u64 {
        self.parts.journal.progress().borrow().durable_through
    }

    fn is_full(&self) -> bool {
        self.shared
            .state()
            .is_full(self.parts.config.max_buffer_bytes)
    }

    fn due_at(&self) -> Instant {
        let far = Duration::from_secs(3600);
        match self.dirty_since {
            Some(since) => since + self.parts.config.flush_interval,
            None => Instant::now() + far,
        }
    }

    fn begin_flush_if_due(&mut self) -> bool {
        if self.flushing.is_some() || self.dirty_since.is_none() || self.stopped {
            return false;
        }
        let rows = self.shared.state().current.row_count;
        let alone = self.caution.is_alone(self.committed.number);
        let full = alone || rows >= self.parts.config.flush_rows || self.is_full();
        let due = full || self.asked || self.due_at() <= Instant::now();
        if due {
            self.begin_flush();
        }
        due
    }

    fn begin_flush(&mut self) {
        self.dirty_since = None;
        self.asked = false;
        let now_ns = self.parts.clock.wall_ns();
        let expected = self.committed;
        let shared = &self.shared;
        let frozen: Frozen = shared
            .views
            .freeze(|| shared.state().freeze(expected, now_ns));
        self.flushing_through = frozen.commit.through;
        let flush = Flush {
            catalog: self.parts.catalog.clone(),
            store: self.parts.store.clone(),
            clock: Arc::clone(&self.parts.clock),
            stage: self.parts.stage.clone(),
            shared: Arc::clone(&self.shared),
            retry: self.parts.config.retry,
            token: self.token.clone(),
        };
        self.flushing = Some(tokio::spawn(flush.run(frozen)));
    }

    async fn end_flush(&mut self) -> Result<(), FoldError> {
        if self.flushing.is_some() {
            let result = join(&mut self.flushing).await;
            self.finish(result).await?;
        }
        Ok(())
    }

    async fn finish(&mut self, result: Result<Flushed, FoldError>) -> Result<(), FoldError> {
        self.flushing = None;
        let Flushed { through, files } = match result {
            Err(FoldError::Stopped) => {
                self.stopped = true;
                return Ok(());
            }
            // Another try, now or after a restart, would end in the same.
            Err(FoldError::Write(error)) => return Box::pin(self.refuse_flush(error)).await,
            result => result?,
        };
        self.committed.number = through;
        let shared = &self.shared;
        shared.views.thaw(|| shared.state().thaw(files));
        self.parts.stage.ok();
        let journal = self.parts.journal.clone();
        let released = work::run(move || journal.release(through)).await;
        if let Ok(Err(error)) = released {
            tracing::warn!(through, %error, "cannot release the journal, will try with the next flush");
        }
        Ok(())
    }
}

/// The end of the flush that is running; waits for ever when none is.
async fn join(
    flushing: &mut Option<JoinHandle<Result<Flushed, FoldError>>>,
) -> Result<Flushed, FoldError> {
    match flushing {
        Some(handle) => match handle.await {
            Ok(result) => result,
            Err(error) => Err(FoldError::Write(WriteError::Foreign(format!(
                "flush has panicked: {error}"
            )))),
        },
        None => std::future::pending().await,
    }
}
