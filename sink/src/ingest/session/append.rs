//! What a session accepted goes into the journal and on to the fold.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use weir_fault::{Point, point};
use weir_journal::{AppendError, Sealed};
use weir_proto::v1;

use super::Session;
use crate::envelope::{self, Envelope};
use crate::ingest::fault::Fault;
use crate::ingest::hold;
use crate::ingest::load::Load;

/// How long an append waits while the journal's queue is full.
pub(super) const BUSY: Duration = Duration::from_secs(20);

impl Session {
    /// Appends what was accepted since the last time. What cannot be appended has not happened.
    pub(super) async fn append(
        &mut self,
        load: Load,
        received_ns: i64,
        report: Option<v1::Report>,
    ) -> Result<(), Fault> {
        if load.is_empty() {
            return Ok(());
        }
        let (batches, readings) = (load.batches, load.readings);
        let packed = load.pack(self.envelope(received_ns, report));
        let count = packed.frames.len() as u64;
        point(Point::SinkChecked);
        let number = match self.journal(&packed.frames).await {
            Ok(number) => number,
            Err(fault) => {
                self.slot.stream().retreat();
                return Err(fault);
            }
        };
        point(Point::SinkAppended);
        let last = number + count - 1;
        if self.slot.stream().appended(last, packed.bytes) {
            // Once per stream: a Close that comes again is not appended.
            self.ingest.inner.resting.fetch_add(1, Ordering::Relaxed);
            self.tell_what_is_lost();
        }
        self.requests.push_back(last);
        self.ingest.inner.metrics.batches.inc_by(batches);
        self.ingest.inner.metrics.readings.inc_by(readings);
        (self.ingest.inner.offer)(packed.parcel(number));
        Ok(())
    }

    /// The agent says that the sink had acknowledged what it does not have.
    pub(super) fn tell_of_a_rollback(&self, skip: &v1::Skip) {
        if skip.reason() == v1::DropReason::SinkRolledBack {
            tracing::error!(
                stream = %self.slot.key, readings = skip.readings,
                "this sink has lost what it had acknowledged and the agent has let go of: it was restored from an older \
                 copy, or its journal was damaged. Of streams that ended since that copy it knows nothing"
            );
        }
    }

    /// A stream that ends before what its agent once said it produced.
    fn tell_what_is_lost(&self) {
        let through = self.slot.stream().readings_appended();
        let seen = hold(&self.slot.seen);
        let produced = seen.report.map_or(0, |(report, _)| report.produced);
        if produced > through {
            tracing::error!(
                stream = %self.slot.key, agent = seen.agent, readings = produced - through,
                "the agent closed this stream without readings that it had reported: they count as dropped, spool_lost"
            );
        }
    }

    /// Of all records of a load.
    fn envelope(&self, received_ns: i64, report: Option<v1::Report>) -> Envelope {
        let mut seen = hold(&self.slot.seen);
        Envelope {
            received_ns,
            tenant: self.slot.key.tenant.to_string(),
            agent: seen.agent.clone(),
            stream_id: Bytes::copy_from_slice(&self.slot.key.id.0),
            clock_offset_ns: seen.clock_offset_ns,
            report: report.and(seen.report).map(|(report, _)| report),
            record: Bytes::new(),
            // A load that cannot be appended ends the call: nothing is lost that counts.
            clock: seen.sample.take(),
            lost: None,
            unwanted: Vec::new(),
        }
    }

    /// Appends, waiting while the journal's queue is full.
    async fn journal(&self, frames: &Sealed) -> Result<u64, Fault> {
        let inner = &self.ingest.inner;
        let deadline = tokio::time::Instant::now() + BUSY;
        let mut progress = inner.journal.progress();
        loop {
            inner.gate.check()?;
            progress.mark_unchanged();
            match inner.journal.try_append_all(envelope::KIND, frames) {
                Err(AppendError::Busy) => {}
                other => return Ok(other?),
            }
            tokio::select! {
                biased;
                fault = self.ends.fault(&self.slot) => return Err(fault),
                () = tokio::time::sleep_until(deadline) => return Err(AppendError::Busy.into()),
                _ = progress.changed() => {}
            }
        }
    }
}
