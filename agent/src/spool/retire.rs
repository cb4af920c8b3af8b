//! The sender's side of the spool: which stream is next, what an ack gives back, how a stream ends,
//! and what to do with one that has forked.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use weir_fault::{Point, point};
use weir_journal::watch;
use weir_journal::{AppendError, Item};
use weir_proto::v1;

use super::content::{Content, content};
use super::directory::{hex, parse_name, retire_directory};
use super::origin::retire_origin;
use super::recover::segment_bytes;
use super::{Spool, SpoolError, Stream};
use crate::dead_letter::DeadLetters;
use crate::ledger::{Piece, Settled};

/// For how long a record that is copied waits for room on the disk.
const PATIENCE: Duration = Duration::from_secs(20);

/// Acknowledged bytes are given back in pieces of half a segment: each costs a sync.
const RELEASE_PART: u64 = 2;

impl Spool {
    /// The oldest stream. None once the spool is finished and all is delivered.
    #[cfg(test)]
    pub(crate) fn next_stream(&self) -> Option<Arc<Stream>> {
        self.lock().streams.front().map(Arc::clone)
    }

    /// All streams, oldest first.
    pub(crate) fn streams(&self) -> Vec<Arc<Stream>> {
        self.lock().streams.iter().map(Arc::clone).collect()
    }

    /// Ids of all streams held, for Hello.
    pub fn held_streams(&self) -> Vec<[u8; 16]> {
        self.lock().streams.iter().map(|stream| stream.id).collect()
    }

    /// Bytes on disk over all streams, and their limit.
    pub(crate) fn size(&self) -> (u64, u64) {
        (self.lock().bytes(), self.shared.config.max_bytes)
    }

    /// Where refused batches are kept: beside the spool, on the same disk.
    pub(crate) fn dead_letters(&self) -> DeadLetters {
        self.shared.letters.clone()
    }

    /// The wall clock.
    pub(crate) fn wall_ns(&self) -> i64 {
        self.shared.clock.wall_ns()
    }

    /// Whether no more comes.
    pub(crate) fn is_finished(&self) -> bool {
        self.lock().finished
    }

    /// Rises when the sender should look again.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.shared.news.subscribe()
    }

    /// Books an acknowledged piece. A refused one is noted at once: only then may its letter be put back,
    /// also by a later run.
    pub(crate) fn settle(&self, stream: &Stream, piece: &Piece, bytes: u64) -> Settled {
        let settled = stream.settle(piece, bytes);
        if matches!(settled, Settled::Dropped(v1::DropReason::Refused, _))
            && let Err(error) = stream.checkpoint()
        {
            tracing::warn!(%error, "cannot note yet that a refused batch is settled");
        }
        settled
    }

    /// Gives acknowledged space back where it is worth a sync, or where someone waits for it.
    pub(crate) fn release(&self, stream: &Stream) -> Result<(), SpoolError> {
        let part = segment_bytes(&self.shared.config) / RELEASE_PART;
        let at_least = if self.is_starved() { 1 } else { part };
        if stream.release(at_least)? {
            self.bump_room();
        }
        Ok(())
    }

    /// Forgets a stream that was delivered completely and closed at the sink.
    pub(crate) async fn retire(&self, stream: &Arc<Stream>) -> Result<(), SpoolError> {
        stream.let_go().await;
        let mut inner = self.lock();
        inner.retired.add(&stream.view(Some(0)));
        inner.streams.retain(|held| held.id != stream.id);
        point(Point::AgentRetire);
        // Without its copy the origin would go out again at the next start.
        if !self.keeps_its_origin(stream) {
            retire_directory(self.shared.storage.as_ref(), &self.shared.dir, &stream.dir)?;
        }
        drop(inner);
        tracing::info!(stream = %hex(&stream.id), "stream is delivered completely");
        self.bump_room();
        self.bump_news();
        Ok(())
    }

    /// Whether the stream is a copy whose origin still lies on disk and cannot be removed now either.
    fn keeps_its_origin(&self, stream: &Stream) -> bool {
        let shared = &self.shared;
        let name = stream.dir.file_name().and_then(|name| name.to_str());
        let place = name.and_then(parse_name);
        let (Some(origin), Some((order, _))) = (stream.copied_from(), place) else {
            return false;
        };
        let removed = retire_origin(shared.storage.as_ref(), &shared.dir, (origin, order));
        removed
            .inspect_err(|error| tracing::error!(%error, "cannot remove a forked stream: its copy stays too"))
            .is_err()
    }

    /// A sink knows this stream with another content: the disk under it, or the machine, was restored
    /// or cloned. What is not proven to be stored moves to a new stream and is sent again; the
    /// readings that moved are counted. They may be stored twice, and the books say so. Until the copy
    /// is whole it does not count, here or after a restart; from then on the other does not. On a full disk
    /// it fails, and leaves all as it was: what room the copy took is given back.
    pub(crate) async fn fork(&self, stream: &Arc<Stream>) -> Result<u64, SpoolError> {
        if stream.is_live() {
            self.begin_next(&mut self.lock(), stream)?;
        }
        if stream.is_open() {
            within_patience(stream, stream.complete()).await?;
        }
        let copy = self.begin_copy()?;
        let moved = match self.fill_copy(stream, &copy).await {
            Ok(moved) => moved,
            Err(error) => {
                self.discard_copy(&copy).await;
                return Err(error);
            }
        };
        stream.let_go().await;
        let mut inner = self.lock();
        inner.retired.add(&stream.proven());
        inner.streams.retain(|held| held.id != stream.id);
        inner.forget_copy(&copy);
        // The copy is older than what is live: it goes first, and the live stream stays last.
        inner.streams.push_front(copy);
        let shared = &self.shared;
        let retired = match self.keeps_its_origin(stream) {
            true => Ok(()),
            false => retire_directory(shared.storage.as_ref(), &shared.dir, &stream.dir),
        };
        if let Err(error) = retired {
            // The copy is whole and goes out: what moved counts all the same.
            tracing::error!(%error, "cannot remove the forked stream: the next start does");
        }
        drop(inner);
        self.bump_news();
        Ok(moved)
    }

    /// Makes `copy` hold what is not proven of `from`, durably; answers the readings that moved.
    async fn fill_copy(&self, from: &Stream, copy: &Stream) -> Result<u64, SpoolError> {
        copy.begin_copy(Some(from.id))?;
        let letters = self.dead_letters().sequences(&hex(&from.id));
        let letters = letters.map_err(|source| self.letter_fault(source))?;
        let moved = copy_unproven(from, copy, &letters).await?;
        within_patience(copy, copy.complete()).await?;
        copy.end_copy()?;
        Ok(moved)
    }

    /// A stream beside the held ones: it is entered only when it is whole.
    pub(super) fn begin_copy(&self) -> Result<Arc<Stream>, SpoolError> {
        let mut inner = self.lock();
        let copy = self.begin_stream(&mut inner, BTreeMap::new())?;
        inner.streams.retain(|held| held.id != copy.id);
        inner.copies.push(Arc::clone(&copy));
        Ok(copy)
    }

    /// Removes a copy that did not become whole, once its writer has let go of the files.
    pub(super) async fn discard_copy(&self, copy: &Stream) {
        copy.journal.close();
        let mut progress = copy.progress();
        let _ = progress.wait_for(|progress| progress.closed).await;
        self.lock().forget_copy(copy);
        let retired = retire_directory(self.shared.storage.as_ref(), &self.shared.dir, &copy.dir);
        if let Err(error) = retired {
            tracing::warn!(%error, "cannot remove a half copy: the next start does");
        }
    }
}

/// Appends every record beyond the proven ones to `copy`, whose first batch carries all definitions,
/// and a Skip for the readings of every hole. A batch of which there is a letter goes as a Skip, too: from
/// here on the letter alone has it.
async fn copy_unproven(
    from: &Stream,
    copy: &Stream,
    letters: &BTreeSet<u64>,
) -> Result<u64, SpoolError> {
    let proven = from.account();
    let mut definitions: Vec<v1::Series> = from.dictionary().into_values().collect();
    let mut reader = from.reader(proven.acked_through + 1);
    let (mut next, mut readings) = (proven.acked_through + 1, proven.readings_through);
    while !from.is_given_up() {
        let Some(item) = reader.next()? else { break };
        let Item::Record { number, body, .. } = item else {
            continue;
        };
        match content(body) {
            Some(Content::Batch(header, mut batch)) => {
                copy_hole(from, copy, next, header.readings_before, &mut readings).await?;
                readings += header.readings;
                next = number + 1;
                if letters.contains(&number) {
                    let refused = v1::DropReason::Refused.into();
                    append_waiting(copy, |copy| copy.append_skip(refused, header.readings)).await?;
                    continue;
                }
                if !definitions.is_empty() {
                    batch.series_defined = std::mem::take(&mut definitions);
                }
                batch.header = Some(header);
                append_waiting(copy, |copy| copy.append_again(batch.clone())).await?;
            }
            Some(Content::Skip(skip)) => {
                copy_hole(from, copy, next, skip.readings_before, &mut readings).await?;
                append_waiting(copy, |copy| copy.append_skip(skip.reason, skip.readings)).await?;
                readings += skip.readings;
                next = number + 1;
            }
            // Not what the spool writes: the next record's count closes it as a hole.
            _ => {}
        }
    }
    let (_, total) = from.durable();
    copy_hole(from, copy, next, total, &mut readings).await?;
    Ok(readings - proven.readings_through)
}

/// Closes the hole at sequence `at`, if there is one: the stream has had `readings` before it and
/// `readings_after` behind it.
async fn copy_hole(
    from: &Stream,
    copy: &Stream,
    at: u64,
    readings_after: u64,
    readings: &mut u64,
) -> Result<(), SpoolError> {
    let missing = readings_after.saturating_sub(*readings);
    if missing > 0 {
        let reason = from.reason_of_hole(at);
        append_waiting(copy, |copy| copy.append_skip(reason.into(), missing)).await?;
        *readings += missing;
    }
    Ok(())
}

/// Appends, waiting while the journal is busy or the disk is full, though not for ever.
pub(super) async fn append_waiting(
    stream: &Stream,
    append: impl Fn(&Stream) -> Result<u64, AppendError>,
) -> Result<(), SpoolError> {
    let appended = async {
        let mut progress = stream.progress();
        loop {
            progress.mark_unchanged();
            match append(stream) {
                Ok(_) => return Ok(()),
                Err(AppendError::Busy | AppendError::DiskFull | AppendError::Full) => {
                    if progress.changed().await.is_err() {
                        return Err(SpoolError::Closed);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    };
    within_patience(stream, appended).await
}

/// Waits for a disk that is full for so long only: whoever copies a stream holds up a lane.
async fn within_patience<T>(
    stream: &Stream,
    waits: impl Future<Output = Result<T, SpoolError>>,
) -> Result<T, SpoolError> {
    let waited = tokio::time::timeout(PATIENCE, waits).await;
    waited.unwrap_or_else(|_| {
        Err(SpoolError::Io {
            doing: "copy a stream: no room in",
            path: stream.dir.clone(),
            source: io::ErrorKind::StorageFull.into(),
        })
    })
}
