//! One call, from its Welcome to its end: requests down, acknowledgements back.
//!
//! In: the stream's feed, the request rate, the sink's answers. Out: the stream delivered and closed,
//! or the failure that ended the call. Promises: at most one token per request with batches; never
//! more bytes outstanding than the window, but one batch always; a silent sink is given up; while an
//! appender wants to drop the oldest segment, nothing new goes out until the wire is empty.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::{Instant, sleep_until};
use tonic::Status;
use weir_fault::{Mutant, Point, mutant, point};
use weir_proto::limits;
use weir_proto::v1;
use weir_proto::v1::deliver_response::Response;

use super::connect::Call;
use super::delivery::Delivery;
use super::drain::Meter;
use super::failure::Failure;
use super::feed::Feed;
use super::metrics::Metrics;
use super::pace::{Pace, Role, Turn};
use super::stop::Stop;
use super::time::Told;
use super::wire::{Wire, close};
use super::{SenderConfig, set_aside};
use crate::ledger;
use crate::spool::{Spool, Stream};

/// A backlog may always have so much on the wire.
const LEAST_BACKLOG_BYTES: u64 = 64 << 10;

/// How a call ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Everything is acknowledged and the Close is durable.
    Complete,
    /// A newer stream has taken this one's place: it is a backlog now.
    Renewed,
    /// The time to drain is over.
    Stopped,
}

/// What the session works with.
pub(crate) struct Session<'a> {
    pub(crate) config: &'a SenderConfig,
    pub(crate) spool: &'a Spool,
    pub(crate) stream: &'a Arc<Stream>,
    pub(crate) pace: &'a Pace,
    pub(crate) role: Role,
    pub(crate) meter: Meter,
    pub(crate) metrics: &'a Metrics,
    pub(crate) delivery: &'a mut Delivery,
    pub(crate) feed: Feed,
    pub(crate) missed_ticks: &'a AtomicU64,
    pub(crate) told: Told,
}

/// What to do next.
enum Plan {
    /// A request is ready.
    Send,
    /// The rate allows the next request at this moment.
    WaitUntil(Instant),
    /// The other lane first.
    Yield,
    /// Nothing to send, or no room in the window.
    Idle,
    /// All is acknowledged and no more comes.
    Close,
}

impl Session<'_> {
    /// Delivers until the stream is closed, the time is over, or something fails.
    pub(crate) async fn run(mut self, call: Call, stop: &mut Stop) -> Result<Ended, Failure> {
        let Call {
            requests,
            mut responses,
            welcome,
            ..
        } = call;
        self.set_limit(welcome.window_bytes);
        let mut wire = Wire::new(requests);
        let mut progress = self.stream.progress();
        let mut news = self.spool.news();
        let mut turns = self.pace.news();
        loop {
            progress.mark_unchanged();
            news.mark_unchanged();
            turns.mark_unchanged();
            let wake_at = self.prepare(&mut wire)?;
            let owed = wire.is_closing() || !self.delivery.window.is_empty();
            let silent_at = wire.heard + self.config.ack_timeout;
            tokio::select! {
                biased;
                answer = responses.message() => {
                    if let Some(ended) = self.on_answer(answer, &mut wire)? {
                        return Ok(ended);
                    }
                }
                () = stop.over() => return Ok(Ended::Stopped),
                () = sleep_until(silent_at), if owed => {
                    return Err(Failure::Silent(self.config.ack_timeout));
                }
                () = wire.send(), if wire.ready.is_some() => {}
                () = sleep_until(wake_at.unwrap_or(silent_at)), if wake_at.is_some() => {}
                _ = progress.changed() => {}
                _ = news.changed() => {}
                _ = turns.changed(), if wire.yields => {}
            }
        }
    }

    /// Has the next request ready, if there is one to send; says when to look again, if not because
    /// something happens.
    fn prepare(&mut self, wire: &mut Wire) -> Result<Option<Instant>, Failure> {
        wire.yields = false;
        while wire.ready.is_none() && wire.requests.is_some() {
            match self.plan(&mut wire.token)? {
                Plan::Send => {
                    if self.delivery.window.is_empty() {
                        wire.heard = Instant::now();
                    }
                    if let Some(since) = wire.throttled.take() {
                        let seconds = since.elapsed().as_secs_f64();
                        self.metrics.throttle_seconds.inc_by(seconds);
                    }
                    wire.ready = self.compose(&mut wire.token)?;
                }
                Plan::Close => {
                    wire.heard = Instant::now();
                    let last_sequence = self.stream.durable().0;
                    wire.ready = Some(self.request(vec![close(last_sequence)]));
                }
                Plan::WaitUntil(at) => {
                    wire.throttled.get_or_insert_with(Instant::now);
                    return Ok(Some(at));
                }
                Plan::Yield => {
                    wire.yields = true;
                    break;
                }
                Plan::Idle => break,
            }
        }
        Ok(None)
    }

    /// Looks at the feed, the window and the rate; takes a token when a request can go.
    fn plan(&mut self, token: &mut bool) -> Result<Plan, Failure> {
        if self.spool.wants_drop(self.stream) {
            if self.delivery.window.is_empty() {
                self.spool.set_in_flight(self.stream, false);
            }
            self.pace.rests(self.role);
            return Ok(Plan::Idle);
        }
        let Delivery {
            window, set_aside, ..
        } = &mut *self.delivery;
        let next = self.feed.peek(self.stream, set_aside).map_err(read)?;
        let Some(next) = next else {
            let ended = self.stream.is_ended() && window.is_empty();
            let all_out = self.feed.is_past(self.stream.durable().0);
            self.pace.rests(self.role);
            return Ok(if ended && all_out {
                Plan::Close
            } else {
                Plan::Idle
            });
        };
        if !next.is_batch {
            return Ok(Plan::Send);
        }
        let sequence = next.piece.map_or(0, |piece| piece.from);
        if !window.admits(sequence, next.bytes as u64) {
            self.pace.wants(self.role);
            return Ok(Plan::Idle);
        }
        if !*token {
            match self.pace.ask(self.role) {
                Turn::Go => *token = true,
                Turn::At(at) => return Ok(Plan::WaitUntil(at)),
                Turn::Other => return Ok(Plan::Yield),
            }
        }
        Ok(Plan::Send)
    }

    /// Takes records from the feed until the request is full, the window is, or the feed is empty.
    /// Without a token only what is no batch goes out.
    fn compose(&mut self, token: &mut bool) -> Result<Option<v1::DeliverRequest>, Failure> {
        let mut records = Vec::new();
        let (mut bytes, mut batches) = (0, 0);
        loop {
            let Delivery {
                window, set_aside, ..
            } = &mut *self.delivery;
            let next = self.feed.peek(self.stream, set_aside).map_err(read)?;
            let Some(next) = next else { break };
            let fits = records.is_empty()
                || (bytes + next.bytes <= self.config.request_max_bytes
                    && records.len() < limits::MAX_REQUEST_RECORDS);
            let sequence = next.piece.map_or(0, |piece| piece.from);
            let admitted = !next.is_batch || (*token && window.admits(sequence, next.bytes as u64));
            if !fits || !admitted {
                break;
            }
            let Some(taken) = self.feed.take() else { break };
            bytes += taken.bytes;
            batches += u64::from(taken.is_batch);
            if let Some(piece) = taken.piece {
                let outstanding = if taken.is_batch {
                    taken.bytes as u64
                } else {
                    0
                };
                window.push(piece, outstanding, taken.first_ns);
                if mutant(Mutant::ReleaseBeforeAck) {
                    self.spool.settle(self.stream, &piece, taken.bytes as u64);
                    self.spool.release(self.stream)?;
                }
            }
            records.push(taken.record);
        }
        if records.is_empty() {
            return Ok(None);
        }
        if batches > 0 {
            *token = false;
            self.pace.sent(self.role, bytes);
            self.metrics.requests.inc();
            self.metrics.batches.inc_by(batches);
        }
        self.metrics.sent_bytes.inc_by(bytes as u64);
        self.spool.set_in_flight(self.stream, true);
        self.show_window();
        Ok(Some(self.request(records)))
    }

    fn request(&mut self, records: Vec<v1::Record>) -> v1::DeliverRequest {
        let view = self.stream.view(Some(self.delivery.window.oldest_ns()));
        let (bytes, max_bytes) = self.spool.size();
        let missed_ticks = self.missed_ticks.load(Ordering::Relaxed);
        v1::DeliverRequest {
            hello: None,
            records,
            report: Some(ledger::report(&view, bytes, max_bytes, missed_ticks)),
            clock: self.told.due(&*self.spool.shared.clock),
        }
    }

    /// Takes an answer in. Says how the call ended, when it did and nothing failed.
    fn on_answer(
        &mut self,
        answer: Result<Option<v1::DeliverResponse>, Status>,
        wire: &mut Wire,
    ) -> Result<Option<Ended>, Failure> {
        let answer = answer.map_err(|status| Failure::from_status(&status, true))?;
        match answer.map(|answer| answer.response) {
            None if wire.requests.is_none() && self.delivery.window.is_empty() => {
                return Ok(Some(Ended::Complete));
            }
            None => return Err(Failure::Ended),
            Some(Some(Response::Ack(ack))) => {
                point(Point::AgentAcked);
                wire.notice(&ack.notice);
                if self.on_ack(&ack)? {
                    wire.heard = Instant::now();
                }
            }
            Some(Some(Response::Refused(refused))) => {
                point(Point::AgentRefused);
                wire.heard = Instant::now();
                // What was composed after the refused batch would be discarded.
                wire.ready = None;
                self.on_refused(&refused)?;
            }
            Some(Some(Response::Welcome(_)) | None) => {
                return Err(Failure::NotASink("it answered out of turn".to_owned()));
            }
        }
        Ok(None)
    }

    /// Books what is acknowledged; true if anything was.
    fn on_ack(&mut self, ack: &v1::Ack) -> Result<bool, Failure> {
        let account = self.stream.account();
        let sent = self.delivery.window.back();
        let sent = sent.map_or(account.acked_through, |piece| piece.through);
        if ack.durable_through > sent.max(account.acked_through) {
            return Err(Failure::NotASink(format!(
                "it acknowledged sequence {} and was sent {sent}",
                ack.durable_through
            )));
        }
        let (mut moved, mut acked_bytes) = (false, 0);
        while let Some((piece, bytes)) = self.delivery.window.pop_through(ack.durable_through) {
            moved = true;
            acked_bytes += bytes;
            self.metrics
                .settled(self.spool.settle(self.stream, &piece, bytes));
            self.delivery.acked(&piece, self.feed.defined_at());
        }
        self.meter.add(Instant::now(), acked_bytes);
        self.set_limit(ack.window_bytes);
        if moved {
            point(Point::AgentSettled);
            self.spool.release(self.stream)?;
            if self.delivery.window.is_empty() {
                self.spool.set_in_flight(self.stream, false);
            }
        }
        self.show_window();
        Ok(moved)
    }

    /// How much may be on the wire. Of a backlog only its share of the window, and about as much as is
    /// acknowledged in a second: a new batch waits behind what is already on its way.
    fn set_limit(&mut self, window_bytes: u64) {
        let mut limit = window_bytes.min(self.config.window_bytes);
        if self.role == Role::Backlog {
            let share = (limit as f64 * self.config.backlog_share) as u64;
            let least = if self.pace.is_limited() {
                self.config.request_max_bytes as u64
            } else {
                LEAST_BACKLOG_BYTES
            };
            limit = limit.min(share.min(self.meter.second_of_bytes()).max(least));
        }
        self.delivery.window.set_limit(limit);
    }

    /// Sets the batch aside, then goes on behind it with a Skip in its place. Only for a batch of this
    /// call that is not acknowledged: anything else would drop what the sink never judged.
    fn on_refused(&mut self, refused: &v1::Refused) -> Result<(), Failure> {
        if !self.delivery.window.has_batch(refused.sequence) {
            let sequence = refused.sequence;
            let text = format!("it refused sequence {sequence}, which is no batch outstanding");
            return Err(Failure::NotASink(text));
        }
        self.metrics.refused.inc();
        let code = v1::RefusedCode::try_from(refused.code).unwrap_or_default();
        let name = code
            .as_str_name()
            .trim_start_matches("REFUSED_CODE_")
            .to_ascii_lowercase();
        let readings_before = set_aside::set_aside(
            self.spool,
            self.stream,
            refused.sequence,
            (&name, &refused.reason),
        )?;
        self.metrics.dead_letters.inc();
        self.delivery.set_aside.insert(refused.sequence);
        self.delivery.window.forget_from(refused.sequence);
        self.delivery.definitions_due.after(refused.sequence);
        self.feed = Feed::new(self.stream, refused.sequence, readings_before, true);
        Ok(())
    }

    fn show_window(&self) {
        let window = &self.delivery.window;
        let gauge = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.metrics.window_bytes.set(gauge(window.limit()));
        self.metrics
            .outstanding_bytes
            .set(gauge(window.outstanding_bytes()));
    }
}

fn read(error: weir_journal::ReadError) -> Failure {
    Failure::Spool(error.into())
}
