//! The sender: carries the spool to the sink, for ever, and believes only its acknowledgements.
//!
//! In: a [`Spool`], and a sink's URL. Out: streams delivered oldest first, each under its own Hello
//! and ended by a Close, and the spool given back as far as the sink has made it durable. Promises:
//! it never gives up and never ends the program; whatever the sink answers, a batch leaves the spool
//! only stored, or set aside in the dead-letter store and counted.
//!
//! A stop (the token) lets it drain: what is connected goes on until everything is acknowledged, the
//! time to drain is over, or the link fails; what is left stays in the spool.
//!
//! | file | one stage of the path |
//! |---|---|
//! | `feed` | which record is next |
//! | `window`, `rate` | whether it may go now |
//! | `session` | one call: requests down, acknowledgements back |
//! | `connect`, `resume` | the handshake, and what the Welcome settles |
//! | `failure`, `retry` | what a failure means, and how long to wait |
//! | `delivery`, `set_aside` | what is remembered of a stream; the poison batch |
//! | `stop`, `voice` | the time to drain; what the log says of a link that fails |
//! | `time` | when the sink is told what the clocks say |

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use weir_fault::{Point, point};
use weir_process::health::Health;
use weir_process::metrics::Registry;
use weir_proto::limits::PROTOCOL_VERSION;
use weir_proto::v1;

use crate::spool::{Spool, Stream, hex};

pub mod connect;
mod delivery;
mod failure;
mod feed;
mod metrics;
mod rate;
mod resume;
mod retry;
mod session;
mod set_aside;
mod stop;
mod time;
mod voice;
mod window;

#[cfg(test)]
mod tests;

use connect::{Dial, Link};
use delivery::Delivery;
use failure::{Failure, Kind};
use metrics::Metrics;
use rate::Rate;
use resume::Resume;
use retry::Retry;
use session::{Ended, Session};
use stop::Stop;
use voice::Voice;

/// What the sender needs to know.
#[derive(Clone, Debug)]
pub struct SenderConfig {
    /// `http://host:port` of the sink.
    pub sink_url: String,
    /// The agent's name in Hello.
    pub agent: String,
    /// Program and version in Hello, as in `weir-agent/0.1.0`.
    pub software: String,
    /// Requests with batches per second; 0 is no limit.
    pub request_rate: f64,
    /// Requests that may go at once after a pause.
    pub request_burst: u32,
    /// Bytes of records in one request; a single larger batch still goes.
    pub request_max_bytes: usize,
    /// Most bytes unacknowledged, whatever the sink would allow.
    pub window_bytes: u64,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long the sink may be silent while it owes an answer.
    pub ack_timeout: Duration,
    /// The shortest delay between two attempts.
    pub retry_min: Duration,
    /// The longest delay between two attempts that the agent chooses itself.
    pub retry_max: Duration,
    /// How long delivery may go on after a stop.
    pub drain: Duration,
}

/// Where the link to the sink stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Not connected yet.
    Connecting,
    /// A sink has welcomed this agent.
    Connected,
    /// The last attempt failed; the next one follows by itself.
    Waiting {
        /// What went wrong, in words.
        reason: String,
    },
}

/// The sender; [`Sender::run`] is all it does.
pub struct Sender {
    config: SenderConfig,
    spool: Spool,
    link: Link,
    rate: Rate,
    retry: Retry,
    metrics: Metrics,
    health: Health,
    state: watch::Sender<LinkState>,
    missed_ticks: Arc<AtomicU64>,
    delivery: Option<Delivery>,
    voice: Voice,
}

/// The sink's URL is not one.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {url} as the sink's address: {reason}")]
pub struct BadUrl {
    url: String,
    reason: String,
}

impl Sender {
    /// Nothing is connected before [`Sender::run`].
    ///
    /// # Errors
    /// `sink_url` is not a URL.
    pub fn new(
        config: SenderConfig,
        spool: Spool,
        health: &Health,
        registry: &Registry,
    ) -> Result<Sender, BadUrl> {
        let link = Link::new(&config.sink_url, config.connect_timeout, config.ack_timeout);
        let link = link.map_err(|error| BadUrl {
            url: config.sink_url.clone(),
            reason: failure::reason_of(&error),
        })?;
        spool.register(registry);
        Ok(Sender {
            link,
            rate: Rate::new(config.request_rate, config.request_burst),
            retry: Retry::new(config.retry_min, config.retry_max),
            metrics: Metrics::new(registry),
            health: health.clone(),
            state: watch::Sender::new(LinkState::Connecting),
            missed_ticks: Arc::new(AtomicU64::new(0)),
            delivery: None,
            voice: Voice::new(),
            config,
            spool,
        })
    }

    /// Reaches the sink by other means than TCP.
    #[must_use]
    pub fn over(mut self, dial: Dial) -> Sender {
        self.link.over(dial);
        self
    }

    /// Where the link stands, now and on every change.
    pub fn link_state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// The count of missed ticks that goes with every report: the samplers' to raise.
    pub fn missed_ticks(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.missed_ticks)
    }

    /// Delivers until the token asks for a stop and the spool is drained, or the time for that is
    /// over. [`Spool::finish`] tells it that no more comes.
    pub async fn run(mut self, token: CancellationToken) {
        let spool = self.spool.clone();
        let stage = self.health.stage("spool", None);
        let mut stop = Stop::new(token, self.config.drain);
        tokio::select! {
            biased;
            () = self.deliver(&mut stop) => {}
            () = spool.tend(stage) => {}
        }
        self.metrics.connected.set(0);
        let view = spool.ledger();
        tracing::info!(
            spooled = view.totals.spooled,
            acked = view.totals.acked,
            "delivery has stopped; what is spooled is kept for the next start"
        );
    }

    async fn deliver(&mut self, stop: &mut Stop) {
        loop {
            let mut news = self.spool.news();
            let Some(stream) = self.spool.next_stream() else {
                if self.spool.is_finished() {
                    return;
                }
                // On a full disk no stream could be begun yet.
                tokio::select! {
                    biased;
                    () = stop.over() => return,
                    _ = news.changed() => continue,
                }
            };
            let attempt = self.attempt(&stream, stop).await;
            self.spool.set_in_flight(None);
            self.metrics.connected.set(0);
            let outcome = match attempt {
                Ok(Ended::Complete) => self.spool.retire(&stream).map_err(Failure::from),
                Ok(Ended::Stopped) => Err(Failure::Ended),
                Err(failure) => Err(failure),
            };
            if stop.is_over() {
                break;
            }
            match outcome {
                Ok(()) => self.retry.moved(),
                Err(failure) => {
                    if !self.recover(&stream, failure, stop).await {
                        break;
                    }
                }
            }
        }
        self.checkpoint();
    }

    /// One call for one stream.
    async fn attempt(&mut self, stream: &Arc<Stream>, stop: &mut Stop) -> Result<Ended, Failure> {
        if self
            .delivery
            .as_ref()
            .is_none_or(|kept| kept.stream_id != stream.id)
        {
            self.delivery = Some(Delivery::new(stream));
        }
        stream.announce()?;
        let hello = self.hello(stream);
        let clock = Arc::clone(&self.spool.shared.clock);
        let call = tokio::select! {
            biased;
            () = stop.over() => return Ok(Ended::Stopped),
            call = self.link.call(hello, &*clock) => call?,
        };
        let delivery = self.delivery.as_mut().expect("it was set above");
        let welcome = &call.welcome;
        point(Point::AgentWelcomed);
        let resume = Resume {
            spool: &self.spool,
            stream,
            window: &mut delivery.window,
            metrics: &self.metrics,
            definitions_due: &mut delivery.definitions_due,
        };
        let feed = resume.at(welcome)?;
        delivery
            .window
            .set_limit(welcome.window_bytes.min(self.config.window_bytes));
        tracing::info!(
            stream = %hex(&stream.id),
            durable_through = welcome.durable_through,
            "the sink welcomed this stream"
        );
        self.voice.welcomed();
        self.metrics.connected.set(1);
        self.state.send_replace(LinkState::Connected);
        let session = Session {
            config: &self.config,
            spool: &self.spool,
            stream,
            rate: &self.rate,
            metrics: &self.metrics,
            delivery,
            feed,
            missed_ticks: &self.missed_ticks,
            told: time::Told::new(call.clock),
        };
        session.run(call, stop).await
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

    /// Does what a failure asks for, and waits. False when delivery is over instead.
    async fn recover(&mut self, stream: &Arc<Stream>, failure: Failure, stop: &mut Stop) -> bool {
        self.metrics.retried(failure.label());
        let moved = self
            .delivery
            .as_mut()
            .is_some_and(|kept| std::mem::take(&mut kept.moved));
        if moved {
            self.retry.moved();
        }
        if !matches!(failure.kind(), Kind::Resume | Kind::Suspect) {
            self.link.drop_channel();
        }
        let now = self.spool.shared.clock.monotonic_ns();
        self.voice.tell(&self.config.sink_url, &failure, now);
        let mut slow = false;
        match failure.kind() {
            Kind::Forked => tokio::select! {
                biased;
                // On a full disk the copy may wait for ever; half of it does not count.
                () = stop.over() => {}
                () = self.fork(stream) => {}
            },
            Kind::Suspect => self.suspect(stream, &failure),
            Kind::Operator => slow = true,
            Kind::Transient | Kind::Resume => {}
        }
        let delay = if slow {
            self.retry.next_slow(failure.hint())
        } else {
            self.retry.next(failure.hint())
        };
        let reason = failure.to_string();
        self.state.send_replace(LinkState::Waiting { reason });
        let at = Instant::now() + delay;
        if stop.is_draining() {
            // A stop does not wait for a link that fails: what is left stays in the spool.
            self.wait_for_finish(stop).await;
            return false;
        }
        tokio::select! {
            biased;
            () = stop.asked() => {
                // One more attempt, with all that was still to come.
                self.wait_for_finish(stop).await;
                true
            }
            () = sleep_until(at) => true,
        }
    }

    /// Waits until no more comes, so that the spool is whole when the program ends.
    async fn wait_for_finish(&self, stop: &mut Stop) {
        let mut news = self.spool.news();
        while !self.spool.is_finished() {
            tokio::select! {
                biased;
                () = stop.over() => return,
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
        let reason = failure.to_string();
        match set_aside::set_aside(&self.spool, stream, sequence, (failure.label(), &reason)) {
            Ok(_) => {
                self.metrics.dead_letters.inc();
                delivery.set_aside.insert(sequence);
                delivery.definitions_due = true;
            }
            Err(error) => tracing::error!(%error, sequence, "cannot set the batch aside yet"),
        }
    }

    async fn fork(&mut self, stream: &Arc<Stream>) {
        match self.spool.fork(stream).await {
            Ok(readings) => {
                self.metrics.fork_resent.inc_by(readings);
                tracing::error!(
                    readings,
                    "sending again, under a new stream, what is not proven stored"
                );
            }
            Err(error) => tracing::error!(%error, "cannot begin the stream anew"),
        }
    }

    fn checkpoint(&self) {
        for stream in &self.spool.lock().streams {
            if let Err(error) = stream.checkpoint() {
                tracing::warn!(%error, "cannot note what was acknowledged: the sink will say it again");
            }
        }
    }
}
