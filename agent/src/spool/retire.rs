//! The sender's side of the spool: which stream is next, what an ack gives back, how a stream ends,
//! and what to do with one that has forked.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use weir_journal::{AppendError, Item};
use weir_proto::{record, v1};

use super::recover::{hex, retire_directory, segment_bytes};
use super::{Spool, SpoolError, Stream};
use crate::ledger::{Piece, Settled};

/// Acknowledged bytes are given back in pieces of half a segment: each costs a sync.
const RELEASE_PART: u64 = 2;

impl Spool {
    /// The oldest stream: the one to deliver. None once the spool is finished and all is delivered.
    pub(crate) fn next_stream(&self) -> Option<Arc<Stream>> {
        self.lock().streams.front().map(Arc::clone)
    }

    /// Ids of all streams held, for Hello.
    pub(crate) fn held_streams(&self) -> Vec<[u8; 16]> {
        self.lock().streams.iter().map(|stream| stream.id).collect()
    }

    /// Bytes on disk over all streams, and their limit.
    pub(crate) fn size(&self) -> (u64, u64) {
        (self.lock().bytes(), self.shared.config.max_bytes)
    }

    /// Where the agent keeps its data.
    pub(crate) fn data_dir(&self) -> &std::path::Path {
        &self.shared.config.data_dir
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

    /// Books an acknowledged piece.
    pub(crate) fn settle(&self, stream: &Stream, piece: &Piece, bytes: u64) -> Settled {
        stream.settle(piece, bytes)
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
    pub(crate) fn retire(&self, stream: &Arc<Stream>) -> Result<(), SpoolError> {
        let mut inner = self.lock();
        inner.retired.add(&stream.view(Some(0)));
        inner.streams.retain(|held| held.id != stream.id);
        retire_directory(self.shared.storage.as_ref(), &self.shared.dir, &stream.dir)?;
        drop(inner);
        tracing::info!(stream = %hex(&stream.id), "stream is delivered completely");
        self.bump_room();
        self.bump_news();
        Ok(())
    }

    /// A sink knows this stream with another content: the disk under it, or the machine, was restored
    /// or cloned. What is not proven to be stored moves to a new stream and is sent again; the
    /// readings that moved are counted. They may be stored twice, and the books say so.
    pub(crate) async fn fork(&self, stream: &Arc<Stream>) -> Result<u64, SpoolError> {
        if stream.is_live() {
            // The dictionary goes along, so the batcher's refs stay valid: its next batch defines them.
            let mut inner = self.lock();
            let dictionary = stream.dictionary();
            inner.undelivered = dictionary.into_values().collect();
            self.begin_stream(&mut inner, BTreeMap::new())?;
        }
        if stream.is_live() {
            stream.seal().await?;
        }
        let copy = self.begin_copy()?;
        let moved = self.copy_unproven(stream, &copy).await?;
        copy.seal().await?;
        let mut inner = self.lock();
        inner.streams.retain(|held| held.id != stream.id);
        // The copy is older than what is live: it goes first, and the live stream stays last.
        inner.streams.push_front(copy);
        retire_directory(self.shared.storage.as_ref(), &self.shared.dir, &stream.dir)?;
        Ok(moved)
    }

    /// A stream beside the held ones: it is entered only when it is whole.
    fn begin_copy(&self) -> Result<Arc<Stream>, SpoolError> {
        let mut inner = self.lock();
        let copy = self.begin_stream(&mut inner, BTreeMap::new())?;
        inner.streams.retain(|held| held.id != copy.id);
        Ok(copy)
    }

    /// Appends every batch beyond the proven ones to `copy`, whose first batch carries all definitions.
    async fn copy_unproven(&self, from: &Stream, copy: &Stream) -> Result<u64, SpoolError> {
        let proven = from.account().acked_through;
        let mut definitions: Vec<v1::Series> = from.dictionary().into_values().collect();
        let mut reader = from.reader(proven + 1);
        let mut moved = 0;
        while let Some(item) = reader.next()? {
            let Item::Record { body, .. } = item else {
                continue;
            };
            let record = record::decode(body).ok().and_then(|record| record.record);
            match record {
                Some(v1::record::Record::Batch(mut batch)) => {
                    if !definitions.is_empty() {
                        batch.series_defined = std::mem::take(&mut definitions);
                    }
                    moved += batch.header.as_ref().map_or(0, |header| header.readings);
                    append_waiting(copy, |copy| copy.append_again(batch.clone())).await?;
                }
                Some(v1::record::Record::Skip(skip)) => {
                    moved += skip.readings;
                    append_waiting(copy, |copy| copy.append_skip(skip.reason, skip.readings))
                        .await?;
                }
                _ => {}
            }
        }
        Ok(moved)
    }
}

/// Appends, waiting while the journal is busy.
async fn append_waiting(
    stream: &Stream,
    append: impl Fn(&Stream) -> Result<u64, AppendError>,
) -> Result<(), SpoolError> {
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
}
