//! The handle callers hold: append, wait for the commit, read, release, close.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::watch;
use bytes::Bytes;

use crate::committer::Committer;
use crate::error::{AppendError, OpenError};
use crate::frame::{FRAME_HEADER, MAX_BODY_BYTES, SEGMENT_HEADER};
use crate::frames::Sealed;
use crate::options::{Options, Progress, RESERVE_BYTES, Recovery, Stats};
use crate::reader::Reader;
use crate::recovery;
use crate::segment;
use crate::shared::{Shared, hold};
use crate::storage::Storage;

/// An open journal. Clones are cheap and share it; when the last one is dropped it closes.
#[derive(Clone)]
pub struct Journal {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.handover.close();
    }
}

impl Journal {
    /// Opens the journal of a directory, or creates it. Reads every segment; blocks for as long as that takes. Nothing is
    /// written until the [`Committer`] runs.
    pub fn open(
        storage: Arc<dyn Storage>,
        dir: &Path,
        options: Options,
    ) -> Result<(Journal, Committer), OpenError> {
        let (shared, live) = recovery::open(storage, dir, options)?;
        let shared = Arc::new(shared);
        let committer = Committer::new(Arc::clone(&shared), live);
        let handle = Arc::new(Handle { shared });
        Ok((Journal { handle }, committer))
    }

    /// The journal's random id: another id is another journal, whatever its numbers.
    pub fn id(&self) -> [u8; 16] {
        self.shared().id
    }

    /// What opening found.
    pub fn recovery(&self) -> &Recovery {
        &self.shared().recovery
    }

    /// Queues a record made of these parts and gives it its number at once; it is durable when [`Journal::committed`]
    /// says so. `kind` is the caller's, 1 to 15. Does not wait.
    pub fn try_append(&self, kind: u8, body: &[&[u8]]) -> Result<u64, AppendError> {
        self.push(kind, body, 0)
    }

    /// Queues records together, all or none, under numbers in a row; answers the first of them. At least one. Otherwise
    /// like [`Journal::try_append`].
    pub fn try_append_all(&self, kind: u8, records: &Sealed) -> Result<u64, AppendError> {
        assert!((1..=15).contains(&kind), "kinds 1 to 15 are the caller's");
        let max = self.max_body();
        let mut total = 0;
        for frame in records.frames() {
            let bytes = frame.len() - FRAME_HEADER;
            if bytes > max {
                return Err(AppendError::TooLarge { bytes, max });
            }
            total += frame.len();
        }
        let handover = &self.shared().handover;
        Ok(handover.push_all(kind, total, records.frames(), 0)?)
    }

    /// Like [`Journal::try_append`], but may go [`RESERVE_BYTES`] beyond `max_bytes`: for the small records that say
    /// what a full journal had to leave out.
    pub fn append_reserved(&self, kind: u8, body: &[&[u8]]) -> Result<u64, AppendError> {
        self.push(kind, body, RESERVE_BYTES)
    }

    /// Like [`Journal::try_append`], but waits while the journal is busy or the disk is full. A journal that has reached
    /// its limit answers [`AppendError::Full`] at once: what to do then is the caller's policy.
    pub async fn append(&self, kind: u8, body: &[&[u8]]) -> Result<u64, AppendError> {
        let mut progress = self.progress();
        loop {
            progress.mark_unchanged();
            match self.try_append(kind, body) {
                Err(AppendError::Busy | AppendError::DiskFull) => {}
                other => return other,
            }
            progress.changed().await.map_err(|_| AppendError::Closed)?;
        }
    }

    /// How far the writer is, now and on every change.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.shared().progress.subscribe()
    }

    /// Waits until a record is durable; answers through which number all are.
    pub async fn committed(&self, number: u64) -> Result<u64, AppendError> {
        let mut receiver = self.progress();
        let progress = receiver
            .wait_for(|progress| {
                progress.durable_through >= number || progress.poisoned.is_some() || progress.closed
            })
            .await
            .map_err(|_| AppendError::Closed)?;
        if progress.durable_through >= number {
            return Ok(progress.durable_through);
        }
        match &progress.poisoned {
            Some(reason) => Err(AppendError::Poisoned(reason.to_string())),
            None => Err(AppendError::Closed),
        }
    }

    /// Asks the writer not to wait for `commit_interval`.
    pub fn flush(&self) {
        self.shared().handover.flush();
    }

    /// Changes how long the first waiting record may wait for company, also for what waits already.
    pub fn set_commit_interval(&self, interval: Duration) {
        self.shared().set_commit_interval(interval);
    }

    /// From now on every segment starts with this unnumbered frame. One of more than [`MAX_BODY_BYTES`] is left out,
    /// which is logged as an error: callers bound what they put there.
    pub fn set_preamble(&self, body: Option<Bytes>) {
        let body = body.filter(|body| {
            let fits = body.len() <= MAX_BODY_BYTES;
            if !fits {
                tracing::error!(bytes = body.len(), "preamble is too large and is left out");
            }
            fits
        });
        *hold(&self.shared().preamble) = body;
    }

    /// Reads durable records from a number on and follows the journal as it grows.
    pub fn reader(&self, from: u64) -> Reader {
        Reader::new(Arc::clone(self.shared()), from)
    }

    /// Removes whole segments whose last record is at most `through`. The segment being written follows when it is fully
    /// released and holds enough to matter, or when an append was refused for want of space.
    pub fn release(&self, through: u64) -> io::Result<()> {
        self.shared().release(through)
    }

    /// Removes the oldest segment unless it is being written to; says which numbers went.
    ///
    /// # Errors
    /// It is still there.
    pub fn drop_oldest(&self) -> io::Result<Option<(u64, u64)>> {
        self.shared().remove_oldest(None)
    }

    /// The numbers [`Journal::drop_oldest`] would remove now.
    pub fn droppable(&self) -> Option<(u64, u64)> {
        let segments = self.shared().segments();
        let oldest = segments.front().filter(|_| segments.len() > 1)?;
        Some((oldest.first, oldest.next - 1))
    }

    /// First number the journal still answers for.
    pub fn oldest(&self) -> u64 {
        self.shared().oldest.load(Ordering::Acquire)
    }

    /// Number the next record will get.
    pub fn next(&self) -> u64 {
        self.shared().handover.next()
    }

    /// Whether the segment that is written to still has its name: a file that somebody removed takes writes and keeps
    /// none. What cannot be told is taken for yes.
    pub fn is_in_place(&self) -> bool {
        let Some(first) = self.shared().segments().back().map(|last| last.first) else {
            return true;
        };
        let path = segment::path(&self.shared().dir, first);
        let found = self.shared().storage.open_to_read(&path);
        !found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// Bytes on disk and waiting to be.
    pub fn bytes(&self) -> u64 {
        self.shared().handover.used()
    }

    /// Counters since it was opened.
    pub fn stats(&self) -> Stats {
        self.shared().stats()
    }

    /// Accepts nothing more; the writer commits what waits, seals the last segment and ends. Does not wait for that:
    /// join the writer, or watch [`Progress::closed`].
    pub fn close(&self) {
        self.shared().handover.close();
    }

    fn push(&self, kind: u8, body: &[&[u8]], beyond: u64) -> Result<u64, AppendError> {
        assert!((1..=15).contains(&kind), "kinds 1 to 15 are the caller's");
        let bytes: usize = body.iter().map(|part| part.len()).sum();
        let max = self.max_body();
        if bytes > max {
            return Err(AppendError::TooLarge { bytes, max });
        }
        let mut frame = Vec::with_capacity(FRAME_HEADER + bytes);
        frame.resize(FRAME_HEADER, 0);
        for part in body {
            frame.extend_from_slice(part);
        }
        Ok(self.shared().handover.push(kind, frame, beyond)?)
    }

    /// A record that alone would exceed the limit can never be taken.
    fn max_body(&self) -> usize {
        match self.shared().options.max_bytes {
            0 => MAX_BODY_BYTES,
            limit => {
                let overhead = (2 * SEGMENT_HEADER + FRAME_HEADER) as u64;
                MAX_BODY_BYTES.min(limit.saturating_sub(overhead) as usize)
            }
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Journal")
            .field("dir", &self.shared().dir)
            .field("next", &self.next())
            .finish_non_exhaustive()
    }
}
