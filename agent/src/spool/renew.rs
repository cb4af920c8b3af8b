//! A new stream in place of the one being written: what waits stays where it is, complete, and what
//! comes from now on need not wait behind it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use weir_journal::Item;

use super::look::header;
use super::{Inner, Spool, SpoolError, Stream};
use crate::ledger::StreamView;

impl Spool {
    /// Ends the stream being written and begins another. It is then an older stream like any other.
    /// False where `stream` is not the one being written, or the spool is finished.
    ///
    /// # Errors
    /// The new stream cannot be made; nothing has changed then.
    pub(crate) fn renew(&self, stream: &Arc<Stream>) -> Result<bool, SpoolError> {
        let mut inner = self.lock();
        let live = inner.live().filter(|live| live.id == stream.id);
        if live.is_none() || inner.finished {
            return Ok(false);
        }
        self.begin_next(&mut inner, stream)?;
        drop(inner);
        self.bump_news();
        Ok(true)
    }

    /// Begins the stream that follows a live one. The dictionary goes along, so the batcher's refs
    /// stay valid: its next batch defines them.
    pub(super) fn begin_next(&self, inner: &mut Inner, live: &Stream) -> Result<(), SpoolError> {
        let mut dictionary = live.dictionary();
        self.begin_stream(inner, BTreeMap::new())?;
        // What is dropped and in no record yet becomes one of the new stream.
        if let Err(error) = live.note_lost(0) {
            tracing::warn!(%error, "cannot take back a note of what was dropped");
        }
        for series in std::mem::take(&mut inner.undelivered) {
            dictionary.entry(series.r#ref).or_insert(series);
        }
        inner.undelivered = dictionary.into_values().collect();
        live.supersede();
        Ok(())
    }

    /// For how long the first durable batch that is not acknowledged has waited, where what waits with
    /// it is more than `bytes`. Only of a stream of this boot: it goes by the monotonic clock.
    pub(crate) fn waits(
        &self,
        stream: &Stream,
        bytes: u64,
    ) -> Result<Option<Duration>, SpoolError> {
        let mut reader = stream.reader(stream.account().acked_through + 1);
        let (mut first, mut seen) = (None, 0);
        while let Some(item) = reader.next()? {
            let Item::Record { body, .. } = item else {
                continue;
            };
            seen += body.len() as u64;
            if first.is_none() {
                first = header(body).map(|header| header.monotonic_start_ns);
            }
            if let Some(first_ns) = first.filter(|_| seen > bytes) {
                let now_ns = self.shared.clock.monotonic_ns();
                return Ok(Some(Duration::from_nanos(now_ns.saturating_sub(first_ns))));
            }
        }
        Ok(None)
    }

    /// Readings produced, and of those that wait for the sink their number and, nearly, their bytes.
    pub(crate) fn waiting(&self) -> (u64, (u64, u64)) {
        let inner = self.lock();
        let mut produced = inner.retired.produced;
        let (mut readings, mut bytes) = (0, 0);
        for stream in &inner.streams {
            let view = stream.view(Some(0));
            produced += view.produced;
            readings += view.spooled;
            bytes += stream.waiting_bytes();
        }
        (produced, (readings, bytes))
    }
}

impl Stream {
    /// Nothing is appended from now on: the caller holds the spool's lock, under which appends go.
    /// The writer stays, idle, so that segments can still be given back one by one.
    pub(crate) fn supersede(&self) {
        self.live.store(false, Ordering::Release);
        self.journal.flush();
    }

    /// [`Stream::supersede`], once all of it is durable. Its last sequence is known then.
    pub(super) async fn complete(&self) -> Result<(), SpoolError> {
        self.journal.flush();
        self.journal.committed(self.journal.next() - 1).await?;
        self.supersede();
        self.checkpoint()
    }

    /// Its line of the ledger without what is not proven to be stored: that is another stream's now.
    pub(super) fn proven(&self) -> StreamView {
        let view = self.view(Some(0));
        StreamView {
            produced: view.produced - view.spooled,
            spooled: 0,
            ..view
        }
    }

    /// Ends the writer, so that the files can go.
    pub(crate) async fn let_go(&self) {
        if !self.is_open() {
            return;
        }
        self.sealed.store(true, Ordering::Release);
        self.journal.close();
        let mut progress = self.progress();
        let _ = progress.wait_for(|progress| progress.closed).await;
    }

    /// The part of the bytes on disk whose records are not acknowledged.
    fn waiting_bytes(&self) -> u64 {
        let (durable_through, _) = self.durable();
        let before = self.oldest_sequence() - 1;
        let held = durable_through.saturating_sub(before);
        let acked_through = self.account().acked_through.max(before);
        let waits = durable_through.saturating_sub(acked_through);
        // Batches of one stream are of much the same size.
        let bytes = u128::from(self.bytes()) * u128::from(waits) / u128::from(held.max(1));
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}
