//! The agent put together from given parts: everything but signals, the status page and the end of the process.
//!
//! In: [`Parts`], that is a configuration and the disk, clock, network and means to stop it works with. Out: a running
//! [`Agent`], and how it ended. `run` is the one user in the program, with the machine's own parts; a simulation is the
//! other. Where the writers are tasks ([`Writers::Tasks`]) and the thread is seeded ([`random`]), nothing here depends on
//! anything but the parts.
//!
//! Stop: the samplers hand over what they hold, the queue is closed, the batcher empties it into the spool, the spool
//! commits, the sender delivers while the link holds; all of it within `shutdown.grace`, and whoever is late is named.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use weir_journal::{Disk, Metered};
use weir_process::clock::{Clock, SystemClock};
use weir_process::exit::Exit;
use weir_process::health::{Health, Stage};
use weir_process::metrics::{COMMIT, Registry};
use weir_process::random;
use weir_process::shutdown::Shutdown;
use weir_process::tls::{Encryption, Facts};

use crate::batch::{Assembler, Batcher};
use crate::budget::{self, Keeper};
use crate::buffer::{Age, Parcel};
use crate::config::Config;
use crate::interruption::{Interruption, Marker};
use crate::metrics::{QueueCollector, SamplingMetrics};
use crate::pulse::{self, Pulse};
use crate::queue::Queue;
use crate::sampler::{Sampler, SharedState, Surroundings};
use crate::sender::connect::Dial;
use crate::sender::waits::Wait;
use crate::sender::{Drain, LinkState, Sender};
use crate::spool::{Ground, Spool, SpoolError, Writers};

mod error;

pub use error::StartError;

/// Sensors with a longer interval are read at once when the agent starts.
const RANDOM_PHASE_BELOW: Duration = Duration::from_secs(60);

/// What an agent is put together from.
pub struct Parts {
    /// What it does.
    pub config: Config,
    /// The disk of its spool, its marker and its dead letters; its clock; what runs its writers.
    pub ground: Ground,
    /// How it reaches the sink; TCP where there is nothing.
    pub dial: Option<Dial>,
    /// Stops it, and knows what of it still runs.
    pub shutdown: Shutdown,
}

impl Parts {
    /// The machine's own disk, clock and network.
    pub fn of_this_machine(config: Config) -> Parts {
        Parts {
            config,
            ground: Ground {
                storage: Arc::new(Disk),
                clock: Arc::new(SystemClock),
                writers: Writers::Threads,
            },
            dial: None,
            shutdown: Shutdown::new(),
        }
    }
}

/// A running agent. Dropping it stops nothing.
pub struct Agent {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) started_ns: u64,
    pub(crate) health: Health,
    pub(crate) registry: Registry,
    pub(crate) queue: Queue<Parcel>,
    pub(crate) link: watch::Receiver<LinkState>,
    /// What the link is encrypted with.
    pub(crate) encryption: watch::Receiver<Option<Encryption>>,
    /// What it shows of itself.
    pub(crate) own: watch::Receiver<Option<Facts>>,
    /// How the backlog drains.
    pub(crate) drain: watch::Receiver<Drain>,
    /// What is used up.
    pub(crate) budget: watch::Receiver<budget::Seen>,
    /// How old a batch may become.
    pub(crate) age: Age,
    /// Which of its streams it leaves alone for now.
    pub(crate) waits: watch::Receiver<BTreeMap<[u8; 16], Wait>>,
    pub(crate) states: Vec<SharedState>,
    spool: Spool,
    shutdown: Shutdown,
    grace: Duration,
    lifecycle: Stage,
    marker: Marker,
    batching: JoinHandle<Result<(), SpoolError>>,
}

impl Agent {
    /// Opens the spool and starts everything, within a runtime.
    ///
    /// # Errors
    /// Something it needs cannot be had.
    pub fn start(parts: Parts) -> Result<Agent, StartError> {
        let Parts {
            config,
            ground,
            dial,
            shutdown,
        } = parts;
        let (ground, written) = metered(ground);
        let clock = Arc::clone(&ground.clock);
        let health = Health::new(Arc::clone(&clock));
        let registry = Registry::new("weir_agent");
        registry.build_info(env!("CARGO_PKG_VERSION"));
        registry.process_metrics(clock.wall_ns());
        let (started_ns, grace) = (clock.monotonic_ns(), config.shutdown_grace);
        let lifecycle = health.stage("agent", None);

        let storage = Arc::clone(&ground.storage);
        let spool = Spool::open_at(ground, config.spool.clone())?;
        let set = Marker::set(storage, &config.spool.data_dir);
        let (marker, crashed) = set.map_err(StartError::Marker)?;
        let interruption = Interruption::since(spool.last_observed_ns(), clock.wall_ns(), crashed);
        let mut sender = Sender::new(config.sender.clone(), spool.clone(), &health, &registry)?;
        if let Some(dial) = dial {
            sender = sender.over(dial);
        }
        let queue: Queue<Parcel> = Queue::new(config.queue_limit, config.queue_overflow);
        registry.collect(QueueCollector::new(queue.clone()));
        let metrics = SamplingMetrics::new(&registry, sender.missed_ticks());
        let (link, encryption, own) = (sender.link_state(), sender.encryption(), sender.own());
        let (drain, waits) = (sender.drain(), sender.waits());
        announce(&config);
        count_missed(&config, &metrics, interruption);

        let age = Age::new(config.batch.age);
        let batcher = Batcher {
            queue: queue.clone(),
            assembler: Assembler::new(config.batch),
            age: age.clone(),
            spool: spool.clone(),
            metrics,
            stop: shutdown.token(),
            patience: grace / 4,
        };
        let keeper = Keeper::new(used(written, &sender, &batcher), config.budget, &registry);
        let budget = keeper.seen();
        let states = start_samplers(&config, &batcher, &clock, &shutdown);
        let moving = moving(&states, &batcher, &sender);
        let batching = shutdown.spawn("batcher", batch(batcher, shutdown.clone()));
        shutdown.spawn("sender", sender.run(shutdown.token()));
        shutdown.spawn("budget", keeper.run(shutdown.token()));
        start_pulse(&config, &health, moving, &shutdown);
        lifecycle.ok();
        Ok(Agent {
            clock,
            started_ns,
            health,
            registry,
            queue,
            link,
            encryption,
            own,
            drain,
            budget,
            age,
            waits,
            states,
            spool,
            shutdown,
            grace,
            lifecycle,
            marker,
            batching,
        })
    }

    /// What holds every reading that was batched.
    pub fn spool(&self) -> &Spool {
        &self.spool
    }

    /// Where the link to the sink stands, now and on every change.
    pub fn link(&self) -> watch::Receiver<LinkState> {
        self.link.clone()
    }

    /// Shows the bytes and readings between sampling and batching.
    pub fn gauge(&self) -> Arc<dyn Fn() -> (usize, u64) + Send + Sync> {
        let queue = self.queue.clone();
        Arc::new(move || {
            let held = queue.totals().held;
            (held.bytes, held.readings)
        })
    }

    /// Waits until it is told to stop or cannot go on, stops it, and says how the process should exit.
    pub async fn until_stopped(self) -> Exit {
        self.shutdown.token().cancelled().await;
        self.lifecycle.failing("stopping");
        let late = self.shutdown.finish(self.grace).await;
        let panicked = self.shutdown.panicked();
        let exit = farewell(&late, &panicked, &self.queue, self.batching).await;
        if exit == Exit::Ok {
            self.marker.clear();
        }
        exit
    }
}

fn announce(config: &Config) {
    let sensors: Vec<&str> = config
        .sensors
        .iter()
        .map(|sensor| sensor.name.as_str())
        .collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        commit = COMMIT,
        agent = %config.name,
        sink = %config.sink_url,
        data_dir = %config.spool.data_dir.display(),
        sensors = %sensors.join(","),
        loss_bound = ?config.loss_bound(),
        "agent started"
    );
}

/// Ticks between the last reading of an earlier run and this start never became readings.
fn count_missed(config: &Config, metrics: &SamplingMetrics, interruption: Option<Interruption>) {
    let Some(interruption) = interruption else {
        return;
    };
    let mut ticks = 0;
    for sensor in &config.sensors {
        let missed = interruption.ticks(sensor.interval);
        metrics
            .sensor(&sensor.name)
            .missed(missed, interruption.reason);
        ticks += missed;
    }
    tracing::info!(
        seconds = interruption.lasted.as_secs_f64(),
        missed_ticks = ticks,
        reason = ?interruption.reason,
        "no readings since an earlier run: at most so many ticks were missed"
    );
}

/// The same ground, and how many bytes are written to it.
fn metered(ground: Ground) -> (Ground, Arc<AtomicU64>) {
    let metered = Metered::new(ground.storage);
    let written = metered.written();
    let storage = Arc::new(metered);
    (Ground { storage, ..ground }, written)
}

/// What the budgets are about.
fn used(written: Arc<AtomicU64>, sender: &Sender, batcher: &Batcher) -> budget::Sources {
    budget::Sources {
        written,
        traffic: sender.traffic(),
        drain: sender.drain(),
        spool: batcher.spool.clone(),
        age: batcher.age.clone(),
    }
}

fn moving(states: &[SharedState], batcher: &Batcher, sender: &Sender) -> pulse::Sources {
    pulse::Sources {
        sensors: states.to_vec(),
        queue: batcher.queue.clone(),
        spool: batcher.spool.clone(),
        link: sender.link_state(),
    }
}

fn start_pulse(config: &Config, health: &Health, moving: pulse::Sources, shutdown: &Shutdown) {
    let pulse = Pulse::new(health, config).watch(moving, shutdown.token());
    shutdown.spawn("pulse", pulse);
}

/// Starts one task per sensor, and one that closes the queue when all of them are done.
fn start_samplers(
    config: &Config,
    batcher: &Batcher,
    clock: &Arc<dyn Clock>,
    shutdown: &Shutdown,
) -> Vec<SharedState> {
    let mut states = Vec::new();
    let mut samplers = Vec::new();
    for sensor in &config.sensors {
        let state = SharedState::default();
        let around = Surroundings {
            queue: batcher.queue.clone(),
            limits: config.batch,
            age: batcher.age.clone(),
            clock: Arc::clone(clock),
            metrics: batcher.metrics.sensor(&sensor.name),
            state: state.clone(),
            phase: phase(sensor.interval),
        };
        let sampler = Sampler::new(sensor.clone(), around);
        samplers.push(shutdown.spawn(
            format!("sampler {}", sensor.name),
            sampler.run(shutdown.token()),
        ));
        states.push(state);
    }
    let queue = batcher.queue.clone();
    shutdown.spawn("queue", async move {
        for sampler in samplers {
            // A sampler that panicked has been named already; the others still hand over what they hold.
            let _ = sampler.await;
        }
        queue.close();
    });
    states
}

/// When a sensor's first tick is: at random within its interval, so that many agents do not beat in step.
fn phase(interval: Duration) -> Duration {
    if interval < RANDOM_PHASE_BELOW {
        random::below(interval)
    } else {
        Duration::ZERO
    }
}

/// Batches until the queue is closed and empty, then closes the spool. When the spool breaks, everything stops: only a
/// restart goes through its recovery.
async fn batch(batcher: Batcher, shutdown: Shutdown) -> Result<(), SpoolError> {
    let (queue, spool) = (batcher.queue.clone(), batcher.spool.clone());
    let patience = batcher.patience;
    let batched = batcher.run().await;
    queue.close();
    let finished = spool.finish_within(patience).await;
    let outcome = batched.and(finished);
    if let Err(error) = &outcome {
        tracing::error!(%error, "the spool is broken: stopping");
        shutdown.stop();
    }
    outcome
}

async fn farewell(
    late: &[String],
    panicked: &[String],
    queue: &Queue<Parcel>,
    batching: JoinHandle<Result<(), SpoolError>>,
) -> Exit {
    let held = queue.totals().held.readings;
    if held > 0 {
        tracing::error!(
            readings = held,
            "readings lost: the agent had to stop before they were stored"
        );
    }
    if !late.is_empty() {
        tracing::error!(late = %late.join(", "), "stopped before these were done: raise shutdown.grace");
        return Exit::Failure;
    }
    if !panicked.is_empty() {
        return Exit::Software;
    }
    match batching.await {
        Ok(Ok(())) => {
            tracing::info!("agent stopped");
            Exit::Ok
        }
        Ok(Err(_)) => Exit::Io,
        Err(_) => Exit::Software,
    }
}

#[cfg(test)]
mod tests;
