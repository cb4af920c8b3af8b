//! The sender: carries the spool to the sink, for ever, and believes only its acknowledgements.
//!
//! In: a [`Spool`], and a sink's URL. Out: streams delivered, each under its own Hello and ended by a
//! Close, and the spool given back as far as the sink has made it durable. The stream being written
//! and the oldest of the others go at once, over one connection; or strictly oldest first. Promises:
//! it never gives up and never ends the program; whatever the sink answers, a batch leaves the spool
//! only stored, or set aside in the dead-letter store and counted.
//!
//! A stop (the token) lets it drain: what is connected goes on until everything is acknowledged, the
//! time to drain is over, or the link fails; what is left stays in the spool.
//!
//! | file | one stage of the path |
//! |---|---|
//! | `lane` | which stream is next, and what to do when a call fails |
//! | `renewals` | when a new stream is begun, so that new readings need not wait behind a backlog |
//! | `feed` | which record is next |
//! | `window`, `rate`, `pace` | whether it may go now |
//! | `session`, `wire` | one call: requests down, acknowledgements back |
//! | `transport` | TCP and TLS |
//! | `connect`, `resume` | the handshake, and what the Welcome settles |
//! | `failure`, `retry` | what a failure means, and how long to wait |
//! | `delivery`, `set_aside` | what is remembered of a stream; the poison batch |
//! | `stop`, `voice`, `drain` | the time to drain; what the log says of a link that fails; how long a backlog takes |
//! | `waits` | which streams are left alone for now, until when, and why |
//! | `time` | when the sink is told what the clocks say |
//! | `traffic` | how many bytes go over the wire |

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use weir_process::health::Health;
use weir_process::metrics::Registry;
use weir_process::progress;
use weir_process::tls::{ClientSettings, Encryption, Facts};

use crate::identity::enrolment::Identity;
use crate::identity::{Credential, Enrolment};
use crate::spool::Spool;

pub mod connect;
mod delivery;
mod drain;
pub(crate) mod failure;
mod feed;
mod lane;
mod metrics;
mod pace;
mod rate;
mod renewals;
mod resume;
mod retry;
mod session;
pub(crate) mod set_aside;
mod stop;
mod time;
pub(crate) mod traffic;
pub(crate) mod transport;
mod voice;
pub(crate) mod waits;
mod window;
mod wire;

#[cfg(test)]
mod tests;

use connect::{Dial, Link};
pub use drain::Drain;
pub(crate) use failure::{ended_tls, reason_of};
use lane::{Common, Lane};
use metrics::Metrics;
use pace::{Pace, Role};
use rate::Rate;
use stop::Stop;
use voice::Voice;
use waits::{Wait, Waits};

/// What is delivered first when there is a backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The newest readings; the backlog beside them at its share.
    NewestFirst,
    /// Everything in the order in which it was read.
    OldestFirst,
}

/// What the sender needs to know.
#[derive(Clone, Debug)]
pub struct SenderConfig {
    /// `http://host:port` or `https://host:port` of the sink.
    pub sink_url: String,
    /// What the sink knows this agent by.
    pub credential: Credential,
    /// The identity that this agent asks for, if it does.
    pub enrolment: Option<Enrolment>,
    /// Whom to trust and who to be, where that is `https`.
    pub tls: ClientSettings,
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
    /// What goes first.
    pub order: Order,
    /// The backlog's part of the requests while newer readings wait too (of the bytes, where no
    /// request rate is set): more than 0, less than 1.
    pub backlog_share: f64,
    /// A stream that has waited so long when the sink is back is a backlog: a new one begins.
    pub backlog_age: Duration,
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
    common: Common,
    health: Health,
    drain: watch::Sender<Drain>,
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
        let bad_url = |error: tonic::transport::Error| BadUrl {
            url: config.sink_url.clone(),
            reason: failure::reason_of(&error),
        };
        let (url, timeout) = (&config.sink_url, config.connect_timeout);
        let endpoint = Endpoint::from_shared(url.clone()).map_err(bad_url)?;
        let identity = config.enrolment.clone().map(|enrolment| {
            Identity::new(enrolment, &config.agent, (endpoint, &config.tls), timeout)
        });
        let tls = identity.as_ref().map(|own| own.settings(&config.tls));
        let tls = tls.unwrap_or_else(|| config.tls.clone());
        let link = Link::new(url, &tls, timeout, config.ack_timeout);
        let mut link = link.map_err(bad_url)?;
        link.show(config.credential.clone());
        let admission = health.stage("sink", None);
        admission.ok();
        spool.register(registry);
        link.transport().register(registry);
        let rate = Rate::new(config.request_rate, config.request_burst);
        Ok(Sender {
            health: health.clone(),
            drain: watch::Sender::new(Drain::default()),
            common: Common {
                link,
                identity,
                admission,
                pace: Pace::new(rate, config.backlog_share, config.request_max_bytes),
                metrics: Metrics::new(registry),
                waits: Waits::new(registry, config.retry_max),
                state: watch::Sender::new(LinkState::Connecting),
                missed_ticks: Arc::new(AtomicU64::new(0)),
                voice: Mutex::new(Voice::new()),
                serving: Mutex::default(),
                config,
                spool,
            },
        })
    }

    /// Reaches the sink by other means than TCP.
    #[must_use]
    pub fn over(mut self, dial: Dial) -> Sender {
        self.common.link.over(dial);
        self
    }

    /// Where the link stands, now and on every change.
    pub fn link_state(&self) -> watch::Receiver<LinkState> {
        self.common.state.subscribe()
    }

    /// What the last connection was encrypted with; nothing where it was not.
    pub(crate) fn encryption(&self) -> watch::Receiver<Option<Encryption>> {
        self.common.link.transport().encryption()
    }

    /// This agent's own certificate; nothing while it has none.
    pub(crate) fn own(&self) -> watch::Receiver<Option<Facts>> {
        self.common.link.transport().own()
    }

    /// How the backlog drains, looked at every second.
    pub fn drain(&self) -> watch::Receiver<Drain> {
        self.drain.subscribe()
    }

    /// What went over the wire so far, both ways.
    pub(crate) fn traffic(&self) -> Arc<traffic::Traffic> {
        self.common.link.traffic()
    }

    /// The streams that it leaves alone for now.
    pub(crate) fn waits(&self) -> watch::Receiver<BTreeMap<[u8; 16], Wait>> {
        self.common.waits.streams()
    }

    /// The count of missed ticks that goes with every report: the samplers' to raise.
    pub fn missed_ticks(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.common.missed_ticks)
    }

    /// Delivers until the token asks for a stop and the spool is drained, or the time for that is
    /// over. [`Spool::finish`] tells it that no more comes.
    pub async fn run(self, token: CancellationToken) {
        let common = &self.common;
        let stage = self.health.stage("spool", None);
        let stop = Stop::new(token, common.config.drain);
        let changes = common.identity.as_ref().map(Identity::changes);
        tokio::select! {
            biased;
            () = self.deliver(stop) => {}
            () = common.spool.tend(stage) => {}
            () = look(common.spool.clone(), &self.drain, &common.metrics) => {}
            () = common.link.transport().watch_own(changes) => {}
            () = common.keep_identity() => {}
        }
        common.metrics.connected.set(0);
        let view = common.spool.ledger();
        tracing::info!(
            spooled = view.totals.spooled,
            acked = view.totals.acked,
            "delivery has stopped; what is spooled is kept for the next start"
        );
    }

    async fn deliver(&self, stop: Stop) {
        let lane = |role| Lane::new(&self.common, role, stop.clone()).run();
        match self.common.config.order {
            Order::OldestFirst => lane(Role::All).await,
            Order::NewestFirst => {
                tokio::join!(lane(Role::Newest), lane(Role::Backlog));
            }
        }
        self.checkpoint();
    }

    fn checkpoint(&self) {
        for stream in self.common.spool.streams() {
            if let Err(error) = stream.checkpoint() {
                tracing::warn!(%error, "cannot note what was acknowledged: the sink will say it again");
            }
        }
    }
}

/// Looks at the books every second, for whoever asks how long the backlog will take.
async fn look(spool: Spool, drain: &watch::Sender<Drain>, metrics: &Metrics) {
    let mut watch = drain::Watch::default();
    let mut ticks = progress::looks();
    loop {
        ticks.tick().await;
        let (produced, waits) = spool.waiting();
        let seen = watch.look(Instant::now(), produced, waits);
        metrics.show_drain(&seen);
        drain.send_replace(seen);
    }
}
