//! A lane: delivers one stream after the other, each under its own Hello, and tries again for ever.
//!
//! In: the spool's streams that its [`Role`] is about. Out: each of them delivered, closed and
//! retired. Where newest comes first there are two lanes over one connection: one for the stream being
//! written, one for the others, oldest first. After an outage the first ends its stream, which
//! becomes the other's, and goes on with a new one.
//!
//! Promises: a stream is never in both lanes; new streams are begun seldom (see `renewals.rs`).

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use weir_fault::{Point, point};
use weir_process::clock::Clock;
use weir_process::health::Stage;
use weir_process::secret::Secret;
use weir_proto::limits::PROTOCOL_VERSION;
use weir_proto::v1;

use super::connect::{Call, Link};
use super::delivery::Delivery;
use super::drain::Meter;
use super::failure::{Failure, Kind};
use super::metrics::Metrics;
use super::pace::{Pace, Role};
use super::renewals::Renewals;
use super::resume::Resume;
use super::retry::Retry;
use super::session::{Ended, Session};
use super::stop::Stop;
use super::time::Told;
use super::voice::Voice;
use super::{LinkState, SenderConfig, set_aside};
use crate::identity::enrolment::Identity;
use crate::spool::{Spool, Stream, hex};

/// A stream that found no room to be begun anew lets the others go first for so many times the longest delay.
const ROOM_AGAIN: u32 = 6;

/// What the lanes share.
pub(super) struct Common {
    pub(super) config: SenderConfig,
    pub(super) spool: Spool,
    pub(super) link: Link,
    /// What this agent got to connect with, if it asks for that.
    pub(super) identity: Option<Identity>,
    /// Whether the sink lets this agent in.
    pub(super) admission: Stage,
    pub(super) pace: Pace,
    pub(super) metrics: Metrics,
    pub(super) state: watch::Sender<LinkState>,
    pub(super) missed_ticks: Arc<AtomicU64>,
    pub(super) voice: Mutex<Voice>,
    /// What each lane delivers: of the newest stream, of the backlog.
    pub(super) serving: Mutex<[Option<[u8; 16]>; 2]>,
}

/// See the module.
pub(super) struct Lane<'a> {
    common: &'a Common,
    role: Role,
    retry: Retry,
    delivery: Option<Delivery>,
    renewals: Renewals,
    /// There was no room for its copy, until when it is not asked again while others wait.
    no_room: Option<([u8; 16], Instant)>,
    /// The connection of the last call.
    connection: u64,
    /// The token of the last call, where it came from a file.
    shown: Option<Secret>,
    stop: Stop,
}

impl<'a> Lane<'a> {
    pub(super) fn new(common: &'a Common, role: Role, stop: Stop) -> Lane<'a> {
        let config = &common.config;
        Lane {
            common,
            role,
            retry: Retry::new(config.retry_min, config.retry_max),
            delivery: None,
            renewals: Renewals::default(),
            no_room: None,
            connection: 0,
            shown: None,
            stop,
        }
    }

    /// Delivers until a stop was asked for and all is delivered, or the time for that is over.
    pub(super) async fn run(mut self) {
        let spool = &self.common.spool;
        let mut news = spool.news();
        loop {
            news.mark_unchanged();
            let Some(stream) = self.pick() else {
                if spool.is_finished() {
                    break;
                }
                tokio::select! {
                    biased;
                    () = self.stop.over() => break,
                    _ = news.changed() => {}
                }
                continue;
            };
            let others_first = self.no_room_until().filter(|_| self.role == Role::All);
            let mut identity = common_identity(self.common);
            let before = number(&identity);
            let attempt = tokio::select! {
                biased;
                attempt = self.attempt(&stream) => attempt,
                () = until(others_first) => Ok(Ended::Renewed),
                () = changed(&mut identity) => Ok(Ended::Renewed),
            };
            if number(&identity) != before {
                // What was renewed is for a new connection.
                self.common.link.drop_channel(self.connection).await;
            }
            spool.set_in_flight(&stream, false);
            self.common.pace.rests(self.role);
            self.show_connected(false);
            let outcome = match attempt {
                Ok(Ended::Complete) => spool.retire(&stream).await.map_err(Failure::from),
                Ok(Ended::Renewed) => Ok(()),
                Ok(Ended::Stopped) => Err(Failure::Ended),
                Err(failure) => Err(failure),
            };
            if self.stop.is_over() {
                break;
            }
            match outcome {
                Ok(()) => self.retry.moved(),
                Err(failure) => {
                    if !self.recover(&stream, failure).await {
                        break;
                    }
                }
            }
        }
        self.leave();
        // The other one may wait for what this one leaves.
        spool.bump_news();
    }

    /// The stream to deliver now, which the other lane then leaves alone.
    fn pick(&self) -> Option<Arc<Stream>> {
        let spool = &self.common.spool;
        let streams = spool.streams();
        let mut serving = self.all_serving();
        let [newest, backlog] = *serving;
        let no_room = self.no_room.filter(|_| self.no_room_until().is_some());
        let waits = |stream: &Arc<Stream>| no_room.is_some_and(|(id, _)| id == stream.id);
        let found = match self.role {
            Role::All => {
                let first = streams.iter().find(|stream| !waits(stream));
                first.or(streams.first())
            }
            // Once the spool is finished, it is no longer written but still this lane's.
            Role::Newest => streams
                .last()
                .filter(|stream| stream.is_live() || newest == Some(stream.id))
                .filter(|stream| backlog != Some(stream.id)),
            Role::Backlog => {
                let mine = |stream: &&Arc<Stream>| !stream.is_live() && newest != Some(stream.id);
                let first = streams.iter().filter(mine).find(|stream| !waits(stream));
                first.or(streams.iter().find(mine))
            }
        };
        let now = found.map(|stream| stream.id);
        let left = std::mem::replace(&mut serving[self.place()], now);
        if left.is_some() && left != now {
            // The other one may wait for it.
            spool.bump_news();
        }
        found.cloned()
    }

    /// Until when the stream that found no room is not asked again, where that is still to come.
    fn no_room_until(&self) -> Option<Instant> {
        let (_, until) = self.no_room?;
        (Instant::now() < until).then_some(until)
    }

    /// One call for one stream.
    async fn attempt(&mut self, stream: &Arc<Stream>) -> Result<Ended, Failure> {
        let kept = self.delivery.take();
        let kept = kept.filter(|kept| kept.stream_id == stream.id);
        self.delivery = Some(kept.unwrap_or_else(|| Delivery::new(stream)));
        stream.announce()?;
        let common = self.common;
        let hello = common.hello(stream);
        // Before it is shown: if it changes in between, one attempt too many is made.
        self.shown = common.config.credential.seen();
        let clock = Arc::clone(&common.spool.shared.clock);
        let called = tokio::select! {
            biased;
            () = self.stop.over() => return Ok(Ended::Stopped),
            called = common.call(hello, &*clock) => called,
        };
        self.connection = common.link.connections().await;
        let call = called?;
        point(Point::AgentWelcomed);
        let delivery = self.delivery.as_mut().expect("it was set above");
        let resume = Resume {
            spool: &common.spool,
            stream,
            window: &mut delivery.window,
            metrics: &common.metrics,
            definitions_due: &mut delivery.definitions_due,
        };
        let feed = resume.at(&call.welcome)?;
        tracing::info!(
            stream = %hex(&stream.id),
            durable_through = call.welcome.durable_through,
            "the sink welcomed this stream"
        );
        common.voice().welcomed();
        common.admission.ok();
        self.show_connected(true);
        if self.role == Role::Newest && self.renewals.renew(common, stream)? {
            return Ok(Ended::Renewed);
        }
        let delivery = self.delivery.as_mut().expect("it was set above");
        delivery.set_aside = set_aside::kept_back(&common.spool, stream)?;
        let session = Session {
            config: &common.config,
            spool: &common.spool,
            stream,
            pace: &common.pace,
            role: self.role,
            meter: Meter::new(Instant::now()),
            metrics: &common.metrics,
            delivery,
            feed,
            missed_ticks: &common.missed_ticks,
            told: Told::new(call.clock),
        };
        session.run(call, &mut self.stop).await
    }

    /// Does what a failure asks for, and waits. False when delivery is over instead.
    async fn recover(&mut self, stream: &Arc<Stream>, failure: Failure) -> bool {
        let common = self.common;
        common.metrics.retried(failure.label());
        let moved = self
            .delivery
            .as_mut()
            .is_some_and(|kept| std::mem::take(&mut kept.moved));
        if moved {
            self.retry.moved();
        }
        let kind = failure.kind();
        if !matches!(kind, Kind::Resume | Kind::Suspect | Kind::Displaced) {
            common.link.drop_channel(self.connection).await;
        }
        self.tell(&failure);
        match kind {
            Kind::Forked => tokio::select! {
                biased;
                // On a full disk the copy waits for a while; half of it does not count.
                () = self.stop.over() => {}
                forked = fork(common, stream) => if !forked {
                    // What others deliver makes room.
                    self.no_room = Some((stream.id, Instant::now() + common.config.retry_max * ROOM_AGAIN));
                }
            },
            Kind::Suspect => self.suspect(stream, &failure),
            Kind::Denied => common.admission.note(failure.to_string()),
            Kind::Operator | Kind::Displaced | Kind::Transient | Kind::Resume => {}
        }
        let delay = match kind {
            Kind::Operator => self.retry.next_slow(failure.hint()),
            Kind::Displaced => self.retry.next_displaced(failure.hint()),
            Kind::Denied => self.retry.next_denied(failure.hint()),
            _ => self.retry.next(failure.hint()),
        };
        if self.role != Role::Backlog {
            let reason = failure.to_string();
            common.state.send_replace(LinkState::Waiting { reason });
        }
        let _waits = (kind == Kind::Displaced).then(|| common.metrics.displaced.waits());
        let at = Instant::now() + delay;
        if self.stop.is_draining() {
            // A stop does not wait for a link that fails: what is left stays in the spool.
            self.wait_for_finish().await;
            return false;
        }
        tokio::select! {
            biased;
            () = common.config.credential.changed(&self.shown), if kind == Kind::Denied => true,
            () = common.enroll_token_changed(), if kind == Kind::Denied => true,
            () = self.stop.asked() => {
                // One more attempt, with all that was still to come.
                self.wait_for_finish().await;
                true
            }
            () = sleep_until(at) => true,
        }
    }

    /// Waits until no more comes, so that the spool is whole when the program ends.
    async fn wait_for_finish(&mut self) {
        let mut news = self.common.spool.news();
        while !self.common.spool.is_finished() {
            tokio::select! {
                biased;
                () = self.stop.over() => return,
                _ = news.changed() => {}
            }
        }
    }

    /// Finds the batch that ends the call, one at a time, and sets it aside.
    fn suspect(&mut self, stream: &Stream, failure: &Failure) {
        let Some(delivery) = &mut self.delivery else {
            return;
        };
        let Some(sequence) = delivery.suspect() else {
            return;
        };
        let spool = &self.common.spool;
        let reason = failure.to_string();
        match set_aside::set_aside(spool, stream, sequence, (failure.label(), &reason)) {
            Ok(_) => {
                self.common.metrics.dead_letters.inc();
                delivery.set_aside.insert(sequence);
                delivery.definitions_due.after(sequence);
            }
            Err(error) => self.tell(&error),
        }
    }

    fn tell(&self, failure: &Failure) {
        let common = self.common;
        let now = common.spool.shared.clock.monotonic_ns();
        common.voice().tell(&common.config.sink_url, failure, now);
    }

    /// The link is as good as the newest readings find it.
    fn show_connected(&self, connected: bool) {
        if self.role == Role::Backlog {
            return;
        }
        self.common.metrics.connected.set(i64::from(connected));
        if connected {
            self.common.state.send_replace(LinkState::Connected);
        }
    }

    fn place(&self) -> usize {
        usize::from(self.role == Role::Backlog)
    }

    fn all_serving(&self) -> MutexGuard<'_, [Option<[u8; 16]>; 2]> {
        let serving = &self.common.serving;
        serving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self) {
        self.all_serving()[self.place()] = None;
    }
}

impl Common {
    /// Opens a call, once there is something to open it with.
    async fn call(&self, hello: v1::Hello, clock: &dyn Clock) -> Result<Call, Failure> {
        if let Some(identity) = &self.identity {
            identity.ensure().await?;
        }
        self.link.call(hello, clock).await
    }

    async fn enroll_token_changed(&self) {
        match &self.identity {
            Some(identity) => identity.token_changed().await,
            None => std::future::pending().await,
        }
    }

    /// Renews what this agent connects with in time.
    pub(super) async fn keep_identity(&self) {
        match &self.identity {
            Some(identity) => identity.keep().await,
            None => std::future::pending().await,
        }
    }

    fn voice(&self) -> MutexGuard<'_, Voice> {
        self.voice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hello(&self, stream: &Stream) -> v1::Hello {
        let clock = &self.spool.shared.clock;
        let held = self.spool.held_streams();
        v1::Hello {
            stream_id: stream.id.to_vec(),
            agent: self.config.agent.clone(),
            software: self.config.software.clone(),
            boot_id: clock.boot_id().to_vec(),
            oldest_sequence: stream.oldest_sequence(),
            next_sequence: stream.next_sequence(),
            // Once there is a connection: its making would only make the sample late.
            clock: None,
            held_streams: held.iter().map(|id| id.to_vec()).collect(),
            protocol_min: PROTOCOL_VERSION,
            protocol_max: PROTOCOL_VERSION,
        }
    }
}

/// Counts what this agent got to connect with.
fn common_identity(common: &Common) -> Option<watch::Receiver<u64>> {
    common.identity.as_ref().map(Identity::changes)
}

fn number(identity: &Option<watch::Receiver<u64>>) -> u64 {
    identity.as_ref().map_or(0, |changes| *changes.borrow())
}

/// Ends once there is another one.
async fn changed(identity: &mut Option<watch::Receiver<u64>>) {
    match identity {
        // The other side lives as long as the sender.
        Some(changes) => drop(changes.changed().await),
        None => std::future::pending().await,
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Whether the stream was begun anew.
async fn fork(common: &Common, stream: &Arc<Stream>) -> bool {
    let forked = common.spool.fork(stream).await;
    match &forked {
        Ok(readings) => {
            let readings = *readings;
            common.metrics.fork_resent.inc_by(readings);
            tracing::error!(
                readings,
                "sending again, under a new stream, what is not proven stored"
            );
        }
        Err(error) => tracing::error!(%error, "cannot begin the stream anew"),
    }
    forked.is_ok()
}
