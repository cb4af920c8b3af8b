//! Taking a batch: into the journal, or what the policy says where there is no room.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use weir_journal::AppendError;
use weir_journal::watch;
use weir_proto::v1;

use super::{Appended, Draft, Overflow, Spool, SpoolError};

/// How long an appender that waits for room sleeps at most before it looks itself: room that others
/// make on a full disk announces itself to nobody.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(1);

enum Attempt {
    Stored(u64),
    Busy,
    Full,
    /// More than half of the limit: waiting for room could wait for ever.
    Never,
}

impl Spool {
    /// Takes a batch. Waits while the journal is busy, and while the spool is full where the policy
    /// says so. Dropping the future before it returns leaves the batch out, or in: never in twice.
    ///
    /// # Errors
    /// The spool is closed or broken, or the batch can never fit.
    pub async fn append(&self, draft: Draft) -> Result<Appended, SpoolError> {
        let mut waits = None;
        loop {
            let mut room = self.shared.room.subscribe();
            let attempt = self.try_append(&draft)?;
            match attempt {
                Attempt::Stored(sequence) => return Ok(Appended::Stored { sequence }),
                Attempt::Busy => {
                    waits.get_or_insert_with(|| Waits::begin(self, &draft));
                    self.wait_for_commit().await;
                }
                Attempt::Never => {
                    tracing::error!(
                        bytes = draft.encoded.payload.len(),
                        "batch is too large for spool.max_bytes: dropped"
                    );
                    self.lose_newest(draft);
                    return Ok(Appended::Dropped);
                }
                Attempt::Full => {
                    self.lock().full_at = Some(Instant::now());
                    self.found_no_room();
                    match self.shared.config.overflow {
                        Overflow::DropNewest => {
                            self.lose_newest(draft);
                            return Ok(Appended::Dropped);
                        }
                        Overflow::DropOldest => {
                            waits.get_or_insert_with(|| Waits::begin(self, &draft));
                            self.make_room(&mut room).await;
                        }
                        Overflow::Block => {
                            waits.get_or_insert_with(|| Waits::begin(self, &draft));
                            self.wait_for_room(&mut room).await;
                        }
                    }
                }
            }
        }
    }

    /// Counts readings that were lost before they were batched; they become a `Skip` within a second.
    pub async fn record_drop(&self, reason: v1::DropReason, readings: u64) {
        self.lose(reason, readings);
    }

    fn try_append(&self, draft: &Draft) -> Result<Attempt, SpoolError> {
        let mut inner = self.lock();
        if inner.finished {
            return Err(SpoolError::Closed);
        }
        let max_bytes = self.shared.config.max_bytes;
        if draft.encoded.payload.len() as u64 + 256 > max_bytes / 2 {
            return Ok(Attempt::Never);
        }
        let Some(live) = self.live_or_begin(&mut inner)? else {
            return Ok(Attempt::Full);
        };
        let needs = live.room_for(draft, &inner.undelivered);
        if live.is_held_up() || inner.bytes() + needs > max_bytes {
            return Ok(Attempt::Full);
        }
        let mut series_defined = inner.undelivered.clone();
        series_defined.extend_from_slice(&draft.series_defined);
        let boot_id = self.shared.clock.boot_id();
        match live.append_batch(draft, series_defined, boot_id) {
            Ok(sequence) => {
                inner.undelivered.clear();
                Ok(Attempt::Stored(sequence))
            }
            Err(AppendError::Busy) => Ok(Attempt::Busy),
            Err(AppendError::Full | AppendError::DiskFull) => Ok(Attempt::Full),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the live journal has committed something, or a moment has passed.
    async fn wait_for_commit(&self) {
        let Some(live) = self.lock().live() else {
            return;
        };
        let mut progress = live.progress();
        drop(live);
        let _ = tokio::time::timeout(LOOK_AGAIN, progress.changed()).await;
    }

    /// Waits until space may have been given back.
    pub(super) async fn wait_for_room(&self, room: &mut watch::Receiver<u64>) {
        self.shared.starved.fetch_add(1, Ordering::Relaxed);
        let _waiting = Starved(&self.shared.starved);
        self.reclaim();
        let _ = tokio::time::timeout(LOOK_AGAIN, room.changed()).await;
    }
}

/// A batch that waits to be taken, shown for as long as it does: it is in memory only.
struct Waits<'a>(&'a Spool);

impl<'a> Waits<'a> {
    fn begin(spool: &'a Spool, draft: &Draft) -> Waits<'a> {
        spool.lock().waits = Some((Instant::now(), draft.encoded.readings));
        Waits(spool)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.lock().waits = None;
    }
}

/// One waiting appender, counted for as long as it waits.
struct Starved<'a>(&'a AtomicUsize);

impl Drop for Starved<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
