//! One owner of one stream: takes requests one after the other, appends what is accepted, and
//! says what may be acknowledged. Does not wait for commits; whoever drives it does.

mod append;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit};
use tokio_util::sync::CancellationToken;
use weir_fault::{Mutant, Point, mutant, point};
use weir_proto::{codec, limits, v1};

use append::BUSY;

use super::check::{Unreadable, definitions, read};
use super::fault::{Fault, Refusal, refused_code_name};
use super::load::Load;
use super::quota::{Account, Over};
use super::stream::Screened;
use super::turns::{Done, Turn};
use super::unwanted::Unwanted;
use super::{HANDOVER, Ingest, LEAST_WINDOW_BYTES, Slot, hold};

/// The right to append to one stream. Dropping it lets the next connection of the stream in.
pub struct Session {
    ingest: Ingest,
    slot: Arc<Slot>,
    /// The agent's boot, as Hello named it.
    boot_id: Bytes,
    /// What it may send, where that is limited.
    account: Arc<Account>,
    /// Series of this call that are beyond a limit.
    unwanted: Unwanted,
    ends: Ends,
    _held: (OwnedMutexGuard<()>, OwnedSemaphorePermit),
    /// Last journal number of each request that waits for its acknowledgement.
    requests: VecDeque<u64>,
    /// Something came again that is durable: say so once more.
    again: bool,
}

/// What a session that waits gives up for.
pub(super) struct Ends {
    /// A newer connection wants the stream.
    pub(super) displaced: CancellationToken,
    /// The sink stops.
    pub(super) draining: CancellationToken,
}

impl Ends {
    async fn fault(&self, slot: &Slot) -> Fault {
        tokio::select! {
            biased;
            () = self.displaced.cancelled() => slot.displaced(),
            () = self.draining.cancelled() => Fault::Draining,
        }
    }
}

/// What came of a request.
#[derive(Debug, Default)]
pub struct Taken {
    /// Batches that can never be stored.
    pub refused: Vec<v1::Refused>,
    /// Why the call must end; what was accepted before it still counts.
    pub fault: Option<Fault>,
    /// The stream is closed: the call ends well once that is durable.
    pub closed: bool,
}

/// What came of one record.
enum Outcome {
    Accepted,
    Again,
    Nothing,
    Refused(v1::Refused),
}

impl Session {
    pub(super) fn new(
        ingest: Ingest,
        slot: Arc<Slot>,
        boot_id: Bytes,
        account: Arc<Account>,
        ends: Ends,
        held: (OwnedMutexGuard<()>, OwnedSemaphorePermit),
    ) -> Self {
        Self {
            ingest,
            slot,
            boot_id,
            account,
            unwanted: Unwanted::default(),
            ends,
            _held: held,
            requests: VecDeque::new(),
            again: false,
        }
    }

    /// Where the stream stands, once everything a former owner appended is durable.
    pub(super) async fn welcome(&self) -> Result<v1::Welcome, Fault> {
        let last_pending = self.slot.stream().last_pending();
        if let Some(number) = last_pending {
            let through = tokio::select! {
                biased;
                through = self.ingest.inner.journal.committed(number) => through?,
                fault = self.ends.fault(&self.slot) => return Err(fault),
                () = tokio::time::sleep(HANDOVER) => {
                    return Err(Fault::Overloaded(
                        "what the former connection of this stream sent is not durable yet".into(),
                    ));
                }
            };
            self.slot.stream().settle(through);
        }
        let mut stream = self.slot.stream();
        stream.reconnected();
        let mark = stream.durable();
        Ok(v1::Welcome {
            durable_through: mark.sequence,
            durable_crc: mark.crc,
            window_bytes: self.window_bytes(),
            max_batch_bytes: limits::MAX_BATCH_BYTES as u64,
            protocol: limits::PROTOCOL_VERSION,
            readings_through: mark.readings_through,
            books: Some(mark.books()),
            closed: stream.is_closed(),
        })
    }

    /// Cancelled when a newer connection wants this stream.
    pub fn displaced(&self) -> &CancellationToken {
        &self.ends.displaced
    }

    /// Why it ends then.
    pub fn displacement(&self) -> Fault {
        self.slot.displaced()
    }

    /// Whether the window lets another request in. One may always be outstanding.
    pub fn has_room(&self) -> bool {
        let bytes = self.slot.stream().pending_bytes();
        bytes == 0 || bytes < self.window_bytes()
    }

    /// What may be on its way: beyond a second of what it may send, it would only be sent again.
    fn window_bytes(&self) -> u64 {
        let least = self.account.second_bytes().max(LEAST_WINDOW_BYTES);
        self.ingest.window_bytes().min(least)
    }

    /// A request of so many bytes has come. Who is over a limit by it has to wait.
    pub fn book(&self, bytes: usize) -> Option<Over> {
        let account = &self.account;
        let now_ns = self.ingest.inner.clock.monotonic_ns();
        account.book(bytes as u64, now_ns);
        let over = account.over(now_ns)?;
        self.ingest.inner.metrics.over_quota(&over);
        Some(over)
    }

    /// Whether something waits to become durable.
    pub fn is_pending(&self) -> bool {
        !self.requests.is_empty()
    }

    /// The journal is durable through `number`: the acknowledgement to send, if any is due.
    pub fn settle(&mut self, number: u64) -> Option<v1::Ack> {
        let number = if mutant(Mutant::AckBeforeSync) {
            u64::MAX
        } else {
            number
        };
        let window_bytes = self.window_bytes();
        let mut stream = self.slot.stream();
        stream.settle(number);
        let mut due = std::mem::take(&mut self.again);
        while self.requests.pop_front_if(|last| *last <= number).is_some() {
            due = true;
        }
        due.then(|| {
            point(Point::SinkAck);
            self.ingest.inner.metrics.acks.inc();
            v1::Ack {
                durable_through: stream.durable().sequence,
                window_bytes,
                notice: self.unwanted.notice.take().unwrap_or_default(),
            }
        })
    }

    /// The right to take a request that costs so much, see [`codec::effort`]. A large one waits for it, though no longer than
    /// for the journal, and not once the call has to end.
    pub async fn turn(&self, effort: u64) -> Result<Turn, Fault> {
        tokio::select! {
            biased;
            turn = self.ingest.inner.turns.take(effort) => Ok(turn),
            fault = self.ends.fault(&self.slot) => Err(fault),
            () = tokio::time::sleep(BUSY) => Err(Fault::Overloaded(
                "large requests of others are being taken in; try again".into(),
            )),
        }
    }

    /// Takes one request: validates, appends and hands on every record of it that is next. Waits
    /// while the journal's queue is full, and gives way to others within a large one; dropped then, what it has not
    /// appended has not happened.
    pub async fn take(&mut self, request: v1::DeliverRequest) -> Taken {
        let mut taken = Taken::default();
        if request.hello.is_some() {
            taken.fault = Some(Fault::Invalid(
                "hello may stand on the first request only".into(),
            ));
            return taken;
        }
        self.ingest.inner.metrics.requests.inc();
        let received_ns = self.ingest.inner.clock.wall_ns();
        if let Some(report) = &request.report {
            hold(&self.slot.seen).note(*report, received_ns);
        }
        if let Some(clock) = &request.clock {
            self.ingest
                .hear(&self.slot, &self.boot_id, clock, received_ns);
        }
        let _underway = Underway(Arc::clone(&self.slot));
        let (mut load, mut done) = (Load::default(), Done::default());
        for record in request.records {
            done.give_way().await;
            done.add(record.record.as_ref().map_or(0, codec::effort));
            if load.is_full() {
                let full = std::mem::take(&mut load);
                if let Err(fault) = self.append(full, received_ns, None).await {
                    taken.fault = Some(fault);
                    return taken;
                }
            }
            match self.take_record(record.record, &mut load) {
                Ok(Outcome::Accepted | Outcome::Nothing) => {}
                Ok(Outcome::Again) => self.again = true,
                Ok(Outcome::Refused(refused)) => taken.refused.push(refused),
                Err(fault) => {
                    taken.fault = Some(fault);
                    break;
                }
            }
        }
        if let Err(fault) = self.append(load, received_ns, request.report).await {
            taken.fault = Some(fault);
        }
        taken.closed = self.slot.stream().is_closed();
        taken
    }

    /// Answers the questions to one record; what is accepted goes into the load.
    fn take_record(
        &mut self,
        record: Option<v1::record::Record>,
        load: &mut Load,
    ) -> Result<Outcome, Fault> {
        let record =
            record.ok_or_else(|| Fault::Invalid("a record this sink does not know".into()))?;
        let metrics = &self.ingest.inner.metrics;
        let screened = self.slot.stream().screen(&record);
        match screened.inspect_err(|fault| {
            if matches!(fault, Fault::Gap { .. }) {
                metrics.gaps.inc();
            }
        })? {
            Screened::Wanted => {}
            Screened::Again => {
                metrics.duplicates.inc();
                return Ok(Outcome::Again);
            }
            Screened::Discard => return Ok(Outcome::Nothing),
        }
        let mut readable = match read(&record) {
            Ok(readable) => readable,
            Err(Unreadable::Fault(fault)) => return Err(fault),
            Err(Unreadable::Refused(refusal)) => return self.refuse(&record, refusal),
        };
        let agent = match definitions(&record) {
            [] => String::new(),
            _ => hold(&self.slot.seen).agent.clone(),
        };
        let mut stream = self.slot.stream();
        let mut effect = match stream.admit(&record, &mut readable) {
            Ok(Some(effect)) => effect,
            Ok(None) => return Ok(Outcome::Nothing),
            Err(refusal) => {
                drop(stream);
                return self.refuse(&record, refusal);
            }
        };
        let beyond = self
            .ingest
            .judge((&self.slot.key.tenant, &agent), &record, &mut effect);
        let jump = effect.jump;
        if stream.accept(effect) {
            tracing::error!(
                stream = %self.slot.key, readings = jump,
                "an agent's counts do not follow each other: these readings will be unexplained"
            );
        }
        drop(stream);
        if let v1::record::Record::Skip(skip) = &record {
            self.tell_of_a_rollback(skip);
        }
        let unwanted = self.unwanted.take(beyond, &self.slot, metrics);
        load.put(record, readable, unwanted);
        Ok(Outcome::Accepted)
    }

    /// A batch is refused and the stream goes on; anything else that does not fit ends the call.
    fn refuse(&self, record: &v1::record::Record, refusal: Refusal) -> Result<Outcome, Fault> {
        let v1::record::Record::Batch(batch) = record else {
            return Err(Fault::Invalid(refusal.reason));
        };
        let sequence = batch.header.as_ref().map_or(0, |header| header.sequence);
        self.slot.stream().refuse(sequence);
        self.ingest.inner.metrics.refused(refusal.code);
        tracing::warn!(
            stream = %self.slot.key, sequence, code = refused_code_name(refusal.code),
            reason = refusal.reason, "batch refused: its agent sets it aside"
        );
        Ok(Outcome::Refused(v1::Refused {
            sequence,
            code: refusal.code.into(),
            reason: refusal.reason,
        }))
    }
}

/// A request that is taken: when that ends, in whichever way, what is not appended has not happened.
struct Underway(Arc<Slot>);

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.stream().retreat();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        hold(&self.slot.seen).connected_at = self.ingest.inner.clock.monotonic_ns();
        self.ingest.forget_blank(&self.slot);
    }
}
