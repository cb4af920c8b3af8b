//! A lane: delivers one stream after the other, each under its own Hello, and tries again for ever.
//!
//! In: the spool's streams that its [`Role`] is about. Out: each of them delivered, closed and
//! retired. Where newest comes first there are two lanes over one connection: one for the stream being
//! written, one for the others, oldest first. After an outage the first ends its stream, which
//! becomes the other's, and goes on with a new one.
//!
//! Promises: a stream is never in both lanes; one that cannot go on holds up no other (`waits.rs`); new streams are begun
//! seldom (see `renewals.rs`).
//!
//! | file | |
//! |---|---|
//! | `lane/choice.rs` | which stream is next |
//! | `lane/recovery.rs` | what follows from a failure |

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;
use weir_fault::{Point, point};
use weir_process::clock::Clock;
use weir_process::health::Stage;
use weir_process::secret::Secret;
use weir_proto::limits::PROTOCOL_VERSION;
use weir_proto::v1;

use super::connect::{Call, Link};
use super::delivery::{Delivery, Left};
use super::drain::Meter;
use super::failure::Failure;
use super::metrics::Metrics;
use super::pace::{Pace, Role};
use super::renewals::Renewals;
use super::resume::Resume;
use super::retry::Retry;
use super::session::{Ended, Session};
use super::stop::Stop;
use super::time::Told;
use super::voice::Voice;
use super::waits::Waits;
use super::{LinkState, SenderConfig, set_aside};
use crate::identity::enrolment::Identity;
use crate::spool::{Spool, Stream, hex};

mod choice;
mod recovery;

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
    /// What is left alone for now.
    pub(super) waits: Waits,
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
    left: Left,
    renewals: Renewals,
    /// The connection of the last call.
    connection: u64,
    /// The token of the last call, where it came from a file.
    shown: Option<Secret>,
    /// The one with which a stream of another name was refused last.
    refused: Option<Secret>,
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
            left: Left::default(),
            renewals: Renewals::default(),
            connection: 0,
            shown: None,
            refused: None,
            stop,
        }
    }

    /// Delivers until a stop was asked for and all is delivered, or the time for that is over.
    pub(super) async fn run(mut self) {
        let spool = &self.common.spool;
        let mut news = spool.news();
        loop {
            news.mark_unchanged();
            let mut identity = common_identity(self.common);
            let before = number(&identity);
            let chosen = self.choose();
            let recall = self.recall(&chosen);
            let Some(stream) = chosen.stream else {
                if spool.is_finished() {
                    // What waits is kept for the next start.
                    break;
                }
                self.show_waiting(chosen.words);
                tokio::select! {
                    biased;
                    () = self.stop.over() => break,
                    _ = news.changed() => {}
                    () = recall => {}
                    () = changed(&mut identity) => self.shown_anew().await,
                }
                continue;
            };
            let attempt = tokio::select! {
                biased;
                attempt = self.attempt(&stream) => attempt,
                () = recall => Ok(Ended::Renewed),
                () = changed(&mut identity) => Ok(Ended::Renewed),
            };
            if number(&identity) != before {
                self.shown_anew().await;
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

    /// One call for one stream.
    async fn attempt(&mut self, stream: &Arc<Stream>) -> Result<Ended, Failure> {
        let kept = match self.delivery.take() {
            Some(kept) if kept.stream_id == stream.id => Some(kept),
            Some(other) => {
                self.left.keep(other, &self.common.spool.held_streams());
                self.left.take(stream.id)
            }
            None => self.left.take(stream.id),
        };
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
        common.waits.over(stream.id);
        common.let_in();
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

    fn show_waiting(&self, words: Option<String>) {
        if let Some(reason) = words.filter(|_| self.role != Role::Backlog) {
            self.common
                .state
                .send_replace(LinkState::Waiting { reason });
        }
    }

    /// What is shown from now on is for a new connection, and may be for streams that others were refused for.
    async fn shown_anew(&self) {
        self.common.waits.shown_anew();
        self.common.link.drop_channel(self.connection).await;
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

    /// The sink lets this agent in, though perhaps not with everything that it holds.
    fn let_in(&self) {
        match self.waits.foreign() {
            Some(words) => self.admission.note(words),
            None => self.admission.ok(),
        }
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
