//! Whether every stage moves: looked at once a second, said to the program's health.
//!
//! In: what each stage has done so far and whether anything waits for it. Out: a stage that stands is
//! not ready, and says so with the moment it stopped.
//!
//! | stage | stands when | for longer than |
//! |---|---|---|
//! | `sampling` | a sensor is not asked, failing or not | 3 intervals, at least 5 s |
//! | `batching` | the queue holds readings and none is taken | 10 s |
//! | `commit` | batches wait for the spool's disk and none becomes durable | 10 s, or 3 commit intervals |
//! | `delivery` | the sink has welcomed the agent, readings wait, and nothing is acknowledged | the ack timeout, or 3 requests at the allowed rate |
//!
//! A link that is down is no fault of the agent: the spool is there for it, so time without a connection
//! does not count. A sink that lets the agent in again and again and acknowledges nothing does count.
//! What a full or broken disk means is the `spool` stage's to say; the others then stand behind it.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_process::health::{Health, Stage};
use weir_process::progress::{self, Progress};

use crate::buffer::Parcel;
use crate::config::Config;
use crate::queue::Queue;
use crate::sampler::SharedState;
use crate::sender::LinkState;
use crate::spool::Spool;

/// A stage that has so much to do each second is not called stalled earlier.
const SHORTEST: Duration = Duration::from_secs(5);
/// For what only waits for this machine.
const LOCAL: Duration = Duration::from_secs(10);
/// Intervals that a sensor may not be asked, requests that may bring no ack, commits that may not come.
const TIMES: u32 = 3;

/// What is looked at.
pub(crate) struct Sources {
    /// In the order of the configured sensors.
    pub(crate) sensors: Vec<SharedState>,
    /// Between sampling and batching.
    pub(crate) queue: Queue<Parcel>,
    /// Behind batching.
    pub(crate) spool: Spool,
    /// Where the link to the sink stands.
    pub(crate) link: watch::Receiver<LinkState>,
}

/// How far everything has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Ticks of each sensor.
    pub(crate) ticks: Vec<u64>,
    /// Readings taken out of the queue, and held by it.
    pub(crate) batching: (u64, u64),
    /// The last durable sequence, and how many batches wait behind it.
    pub(crate) commit: (u64, u64),
    /// A number that changes with every ack, and readings that wait for one.
    pub(crate) delivery: (u64, u64),
    /// Whether a sink has welcomed the agent and the call goes on.
    pub(crate) connected: bool,
}

/// The stages, and what was seen of them before.
pub(crate) struct Pulse {
    names: Vec<String>,
    sampling: (Stage, Vec<Progress>),
    batching: (Stage, Progress),
    commit: (Stage, Progress),
    delivery: (Stage, Progress),
}

impl Sources {
    fn look(&self) -> Seen {
        let totals = self.queue.totals();
        let (commit, delivery) = self.spool.pulse();
        Seen {
            ticks: self.sensors.iter().map(|state| state.get().ticks).collect(),
            batching: (totals.taken, totals.held.readings),
            commit,
            delivery,
            connected: *self.link.borrow() == LinkState::Connected,
        }
    }
}

impl Pulse {
    /// Adds the stages.
    pub(crate) fn new(health: &Health, config: &Config) -> Pulse {
        let sensors = config.sensors.iter();
        let patience = sensors.map(|sensor| Progress::new(SHORTEST.max(sensor.interval * TIMES)));
        let rate = config.sender.request_rate;
        let requests = if rate > 0.0 {
            f64::from(TIMES) / rate
        } else {
            0.0
        };
        let requests = Duration::try_from_secs_f64(requests).unwrap_or(Duration::MAX);
        let stage = |name| health.stage(name, None);
        Pulse {
            names: config
                .sensors
                .iter()
                .map(|sensor| sensor.name.clone())
                .collect(),
            sampling: (stage("sampling"), patience.collect()),
            batching: (stage("batching"), Progress::new(LOCAL)),
            commit: (
                stage("commit"),
                Progress::new(LOCAL.max(config.longest_waits().commit * TIMES)),
            ),
            delivery: (
                stage("delivery"),
                Progress::new(config.sender.ack_timeout.max(requests)),
            ),
        }
    }

    /// Looks every second, until the token.
    pub(crate) async fn watch(mut self, sources: Sources, token: CancellationToken) {
        let mut ticks = progress::looks();
        loop {
            tokio::select! {
                biased;
                () = token.cancelled() => return,
                _ = ticks.tick() => self.look(&sources.look()),
            }
        }
    }

    /// Takes in what was seen now.
    pub(crate) fn look(&mut self, seen: &Seen) {
        let (stage, sensors) = &mut self.sampling;
        let looks = sensors.iter_mut().zip(&seen.ticks).zip(&self.names);
        let stalled = looks
            .filter_map(|((progress, ticks), name)| Some((progress.look(*ticks, true)?, name)));
        match stalled.max() {
            Some((stood, name)) => {
                stage.stalled(format!("sensor {name} is not asked any more"), stood)
            }
            None => stage.ok(),
        }
        let (taken, held) = seen.batching;
        let (stage, progress) = &mut self.batching;
        say(stage, progress.look(taken, held > 0), || {
            format!("{held} readings wait in the queue and none is taken")
        });
        let (durable, waiting) = seen.commit;
        let (stage, progress) = &mut self.commit;
        say(stage, progress.look(durable, waiting > 0), || {
            format!("{waiting} batches wait for the disk and none is committed")
        });
        let (acks, unacked) = seen.delivery;
        let (stage, progress) = &mut self.delivery;
        let stood = if seen.connected {
            progress.look(acks, unacked > 0)
        } else {
            progress.pause(acks, unacked > 0)
        };
        say(stage, stood, || {
            format!("the sink lets the agent in and acknowledges nothing: {unacked} readings wait")
        });
    }
}

fn say(stage: &Stage, stood: Option<Duration>, reason: impl Fn() -> String) {
    match stood {
        Some(stood) => stage.stalled(reason(), stood),
        None => stage.ok(),
    }
}

#[cfg(test)]
mod tests;
