//! What happens at the limit: which segment goes, and how what was lost gets its place in the books.
//!
//! Dropping is provisional. A dropped segment is a hole in the stream that the sender closes with a
//! Skip when it comes to it, trimmed to what the sink does not have; a dropped batch is counted in
//! memory and becomes a Skip record with a sequence of its own, one for all that were lost in a
//! second. What is on the wire over a live connection is never dropped: the appender asks the sender
//! to let it drain first.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use weir_journal::AppendError;
use weir_journal::watch;
use weir_proto::v1;

use super::append::LOOK_AGAIN;
use super::directory::{hex, remove_segments};
use super::recover::segment_bytes;
use super::{Draft, Inner, Spool, SpoolError, Stream};

/// Losses of this long become one Skip record: a little less than from one look of the spool's own task to the next.
const COALESCE: Duration = Duration::from_millis(900);
/// While there is no room, losses become a Skip this often all the same: a record of some 60 bytes.
const COALESCE_FULL: Duration = Duration::from_secs(10);

impl Spool {
    /// Drops the oldest segment, or waits until that is possible or no longer needed.
    pub(super) async fn make_room(&self, room: &mut watch::Receiver<u64>) {
        let live = self.lock().live();
        let mut progress = live.as_ref().map(|live| live.progress());
        if !self.drop_oldest() {
            let _asking = DropWanted::ask(self);
            return self.wait_for_room(room).await;
        }
        // On a full disk only the writer knows whether that was enough: one segment at a time.
        if let Some(progress) = &mut progress
            && live.is_some_and(|live| live.is_held_up())
        {
            let _ = tokio::time::timeout(LOOK_AGAIN, progress.changed()).await;
        }
    }

    /// Gives up the oldest segment of the oldest stream that has one. False when that stream has
    /// records on the wire, or nothing but the segment being written is left. What the disk refuses of
    /// one stream holds up neither the others nor the program: it is asked again.
    fn drop_oldest(&self) -> bool {
        let inner = self.lock();
        for stream in &inner.streams {
            match self.drop_oldest_of(&inner, stream) {
                Ok(Some(made_room)) => return made_room,
                Ok(None) => {}
                Err(error) => self.trouble(stream, &error),
            }
        }
        false
    }

    /// Whether that made room; `None` where the next stream is to be asked.
    fn drop_oldest_of(&self, inner: &Inner, stream: &Stream) -> Result<Option<bool>, SpoolError> {
        if stream.release(1)? && stream_shrank(inner, self) {
            return Ok(Some(true));
        }
        if stream.is_given_up() {
            return Ok(None);
        }
        if inner.in_flight.contains(&stream.id) {
            return Ok(Some(false));
        }
        let mut dropped = stream.drop_oldest()?;
        if dropped.is_none() && stream.is_ended() {
            dropped = Some(stream.give_up()?);
            // It counts no longer: what is left of its files goes with the stream.
            if let Err(error) = remove_segments(self.shared.storage.as_ref(), &stream.dir) {
                self.trouble(stream, &error);
            }
        }
        let Some((from, through)) = dropped else {
            return Ok(None);
        };
        if from <= through {
            self.shared.pressure.dropped(through - from + 1);
            tracing::debug!(stream = %hex(&stream.id), from, through, "dropped the oldest batches");
        }
        Ok(Some(true))
    }

    /// Gives back what is acknowledged and was not worth a sync until now.
    pub(super) fn reclaim(&self) {
        let inner = self.lock();
        let mut gave_back = false;
        for stream in &inner.streams {
            match stream.release(1) {
                Ok(released) => gave_back |= released,
                Err(error) => self.trouble(stream, &error),
            }
        }
        drop(inner);
        if gave_back {
            self.bump_room();
        }
    }

    pub(super) fn trouble(&self, stream: &Stream, error: &SpoolError) {
        let now = self.shared.clock.monotonic_ns();
        if let Some(held_back) = self.shared.trouble.permit(now) {
            tracing::warn!(stream = %hex(&stream.id), %error, held_back, "cannot make room in this stream: the disk is asked again");
        }
    }

    /// Counts a batch that found no room. Its definitions go with the next batch.
    pub(crate) fn lose_newest(&self, draft: Draft) {
        let mut inner = self.lock();
        inner.undelivered.extend(draft.series_defined);
        drop(inner);
        self.lose(v1::DropReason::SpoolNewest, draft.encoded.readings);
    }

    pub(super) fn lose(&self, reason: v1::DropReason, readings: u64) {
        if readings == 0 {
            return;
        }
        let mut inner = self.lock();
        *inner.lost.entry(reason.into()).or_default() += readings;
        inner.lost_since.get_or_insert_with(Instant::now);
    }

    /// Turns losses into Skip records once they are due, or at once when `now`.
    pub(crate) fn flush_lost(&self, now: bool) -> Result<(), SpoolError> {
        let mut inner = self.lock();
        let Some(since) = inner.lost_since else {
            return Ok(());
        };
        let full =
            inner.bytes() + segment_bytes(&self.shared.config) > self.shared.config.max_bytes;
        let due = if full { COALESCE_FULL } else { COALESCE };
        let Some(live) = inner.live() else {
            return Ok(());
        };
        // Counted here they are one Skip once there is room, and not one a second.
        let no_room = full || live.is_held_up();
        let due_note = now || inner.noted.is_none_or(|at| at.elapsed() >= COALESCE);
        if no_room && !inner.finished && due_note {
            inner.noted = Some(Instant::now());
            let newest = i32::from(v1::DropReason::SpoolNewest);
            live.note_lost(inner.lost.get(&newest).copied().unwrap_or(0))?;
        }
        if inner.finished || (!now && (since.elapsed() < due || live.is_held_up())) {
            return Ok(());
        }
        while let Some((reason, readings)) = inner.lost.pop_first() {
            match live.append_skip(reason, readings) {
                Ok(_) => {}
                Err(error) => {
                    inner.lost.insert(reason, readings);
                    let passes = matches!(
                        error,
                        AppendError::Busy | AppendError::DiskFull | AppendError::Full
                    );
                    return if passes { Ok(()) } else { Err(error.into()) };
                }
            }
        }
        inner.lost_since = None;
        Ok(())
    }

    /// Whether an appender waits for what this stream has in flight to drain.
    pub(crate) fn wants_drop(&self, stream: &Stream) -> bool {
        if !self.shared.drop_wanted.load(Ordering::Acquire) {
            return false;
        }
        let inner = self.lock();
        let next = inner.streams.iter().find(|held| !held.is_given_up());
        next.is_some_and(|next| next.id == stream.id)
    }

    /// Whether an appender waits for room.
    pub(crate) fn is_starved(&self) -> bool {
        self.shared.starved.load(Ordering::Relaxed) > 0
    }

    /// Says whether a stream has records on the wire.
    pub(crate) fn set_in_flight(&self, stream: &Stream, in_flight: bool) {
        let mut inner = self.lock();
        let changed = if in_flight {
            inner.in_flight.insert(stream.id)
        } else {
            inner.in_flight.remove(&stream.id)
        };
        drop(inner);
        if changed {
            self.bump_room();
        }
    }
}

/// Whether releasing acknowledged segments was enough for a batch of ordinary size.
fn stream_shrank(inner: &Inner, spool: &Spool) -> bool {
    inner.bytes() + segment_bytes(&spool.shared.config) <= spool.shared.config.max_bytes
}

/// A standing wish to drop, withdrawn when the appender goes on or gives up.
struct DropWanted<'a>(&'a Spool);

impl<'a> DropWanted<'a> {
    fn ask(spool: &'a Spool) -> DropWanted<'a> {
        spool.shared.drop_wanted.store(true, Ordering::Release);
        spool.bump_news();
        DropWanted(spool)
    }
}

impl Drop for DropWanted<'_> {
    fn drop(&mut self) {
        self.0.shared.drop_wanted.store(false, Ordering::Release);
        self.0.bump_news();
    }
}
