//! The end: what is counted as lost becomes records, everything is committed, the stream is sealed.

use std::time::Duration;

use super::{Spool, SpoolError};

/// How long a full disk may hold up the last counts of a stop, and how often they are tried.
const LAST_WORDS: Duration = Duration::from_secs(2);
const TELL_AGAIN: Duration = Duration::from_millis(50);

impl Spool {
    /// [`Spool::finish_within`] a few seconds.
    ///
    /// # Errors
    /// See there.
    pub async fn finish(&self) -> Result<(), SpoolError> {
        self.finish_within(LAST_WORDS).await
    }

    /// No more comes: writes what is counted as lost, for which a full disk may take so long, commits
    /// everything, and seals the current stream. Appending is an error from here on; the sender goes
    /// on delivering.
    ///
    /// # Errors
    /// The last commit failed.
    pub async fn finish_within(&self, patience: Duration) -> Result<(), SpoolError> {
        let told = tokio::time::timeout(patience, self.tell_losses()).await;
        let (lost, open) = {
            let mut inner = self.lock();
            inner.finished = true;
            let streams = inner.streams.iter();
            let open = streams.filter(|stream| stream.is_open()).cloned();
            let open = open.collect::<Vec<_>>();
            let waiting = open.iter().map(|stream| stream.uncommitted().0);
            (
                inner
                    .lost
                    .values()
                    .chain(&waiting.collect::<Vec<_>>())
                    .sum::<u64>(),
                open,
            )
        };
        self.bump_room();
        if lost > 0 {
            tracing::error!(
                readings = lost,
                "no room on the disk to the end: these readings are lost, and the ledger does not say so"
            );
        }
        let mut sealed = told.unwrap_or(Ok(()));
        for stream in open {
            sealed = sealed.and(stream.seal().await);
        }
        self.bump_news();
        sealed
    }

    /// Writes what is counted as lost and has all committed, waiting for the room that takes: a writer
    /// that is told to end on a full disk gives up what waits.
    async fn tell_losses(&self) -> Result<(), SpoolError> {
        loop {
            self.flush_lost(true)?;
            let (live, told) = {
                let mut inner = self.lock();
                let told = inner.lost.is_empty() || inner.finished;
                let live = match inner.live() {
                    None if !told => self.live_or_begin(&mut inner)?,
                    live => live,
                };
                (live, told)
            };
            let Some(live) = live else {
                if told {
                    return Ok(());
                }
                tokio::time::sleep(TELL_AGAIN).await;
                continue;
            };
            live.journal.flush();
            let committed = live.journal.committed(live.journal.next() - 1);
            match tokio::time::timeout(TELL_AGAIN, committed).await {
                Ok(committed) if told => return Ok(committed.map(drop)?),
                Ok(Err(error)) => return Err(error.into()),
                Ok(Ok(_)) | Err(_) => {}
            }
        }
    }
}
