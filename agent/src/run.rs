//! The agent from start to stop, as a plain list.
//!
//! Start: spool, sender, samplers, batcher, status page. Stop, on SIGTERM or when the spool breaks: the samplers hand over
//! what they hold, the queue is closed, the batcher empties it into the spool, the spool commits, the sender delivers while
//! the link holds; all of it within `shutdown.grace`, and whoever is late is named.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weir_process::clock::{Clock, SystemClock};
use weir_process::exit::Exit;
use weir_process::health::Health;
use weir_process::metrics::{COMMIT, Registry};
use weir_process::shutdown::Shutdown;

use crate::batch::{Assembler, Batcher};
use crate::buffer::Parcel;
use crate::config::Config;
use crate::interruption::{Interruption, Marker};
use crate::metrics::{QueueCollector, SamplingMetrics};
use crate::queue::Queue;
use crate::sampler::{Sampler, SharedState, Surroundings};
use crate::sender::{BadUrl, Sender};
use crate::spool::{Spool, SpoolError};
use crate::status::{self, Sources};

/// Sensors with a longer interval are read at once when the agent starts.
const RANDOM_PHASE_BELOW: Duration = Duration::from_secs(60);

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The spool cannot be used.
    #[error("cannot open the spool: {0}")]
    Spool(#[from] SpoolError),
    /// The sink's address cannot be used.
    #[error(transparent)]
    Sink(#[from] BadUrl),
    /// The status page cannot be served.
    #[error(
        "cannot listen on {address}: {source}: a second agent on one host needs its own WEIR_AGENT_STATUS_LISTEN and WEIR_AGENT_DATA_DIR"
    )]
    Listen {
        /// Where it was to be.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The data directory cannot be written.
    #[error("cannot write to the data directory: {0}")]
    Marker(io::Error),
    /// Signals cannot be handled.
    #[error("cannot handle signals: {0}")]
    Signals(io::Error),
}

impl StartError {
    /// How the process exits.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Sink(_) => Exit::Usage,
            Self::Spool(_) | Self::Listen { .. } | Self::Marker(_) => Exit::CannotCreate,
            Self::Signals(_) => Exit::Software,
        }
    }
}

/// Runs the agent until it is told to stop, or cannot go on.
///
/// # Errors
/// Something it needs cannot be had at the start.
pub(crate) async fn run(config: Config) -> Result<Exit, StartError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let health = Health::new(Arc::clone(&clock));
    let registry = Registry::new("weir_agent");
    registry.build_info(env!("CARGO_PKG_VERSION"));
    registry.process_metrics(clock.wall_ns());
    let started_ns = clock.monotonic_ns();
    let grace = config.shutdown_grace;
    let lifecycle = health.stage("agent", None);
    let shutdown = Shutdown::new();
    shutdown.on_signal().map_err(StartError::Signals)?;

    let listener = listen(config.status_listen).await?;
    let spool = Spool::open(config.spool.clone(), Arc::clone(&clock))?;
    let (marker, crashed) = Marker::set(&config.spool.data_dir).map_err(StartError::Marker)?;
    let interruption = Interruption::since(spool.last_observed_ns(), clock.wall_ns(), crashed);
    status::write_endpoints(&config.spool.data_dir, listener.as_ref());
    let sender = Sender::new(config.sender.clone(), spool.clone(), &health, &registry)?;
    let queue: Queue<Parcel> = Queue::new(config.queue_limit, config.queue_overflow);
    registry.collect(QueueCollector::new(queue.clone()));
    let metrics = SamplingMetrics::new(&registry, sender.missed_ticks());
    let link = sender.link_state();
    announce(&config);
    count_missed(&config, &metrics, interruption);

    let states = start_samplers(&config, &queue, &clock, &metrics, &shutdown);
    let assembler = Assembler::new(config.batch);
    let batcher = Batcher {
        queue: queue.clone(),
        assembler,
        spool: spool.clone(),
        metrics,
        stop: shutdown.token(),
        patience: grace / 4,
    };
    let batching = shutdown.spawn("batcher", batch(batcher, shutdown.clone()));
    shutdown.spawn("sender", sender.run(shutdown.token()));

    let status = CancellationToken::new();
    if let Some(listener) = listener {
        let sensors = config.sensors.iter().cloned().zip(states).collect();
        let (queue, spool) = (queue.clone(), spool.clone());
        let sources = Sources {
            config,
            clock,
            started_ns,
            health,
            registry,
            queue,
            spool,
            link,
            sensors,
        };
        tokio::spawn(status::serve(
            listener,
            Arc::new(sources),
            status.child_token(),
        ));
    }

    lifecycle.ok();
    shutdown.token().cancelled().await;
    lifecycle.failing("stopping");
    let late = shutdown.finish(grace).await;
    status.cancel();
    let exit = farewell(&late, &shutdown.panicked(), &queue, batching).await;
    if exit == Exit::Ok {
        marker.clear();
    }
    Ok(exit)
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

async fn listen(address: Option<SocketAddr>) -> Result<Option<TcpListener>, StartError> {
    let Some(address) = address else {
        return Ok(None);
    };
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| StartError::Listen { address, source })?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "status page listens");
    }
    Ok(Some(listener))
}

/// Starts one task per sensor, and one that closes the queue when all of them are done.
fn start_samplers(
    config: &Config,
    queue: &Queue<Parcel>,
    clock: &Arc<dyn Clock>,
    metrics: &SamplingMetrics,
    shutdown: &Shutdown,
) -> Vec<SharedState> {
    let mut states = Vec::new();
    let mut samplers = Vec::new();
    for sensor in &config.sensors {
        let state = SharedState::default();
        let around = Surroundings {
            queue: queue.clone(),
            limits: config.batch,
            clock: Arc::clone(clock),
            metrics: metrics.sensor(&sensor.name),
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
    let queue = queue.clone();
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
    // std seeds its hashers from the system's random source, which is enough to spread agents.
    let mut random = StdRng::seed_from_u64(RandomState::new().hash_one(interval));
    if interval < RANDOM_PHASE_BELOW {
        random.random_range(Duration::ZERO..interval)
    } else {
        Duration::ZERO
    }
}

/// Batches until the queue is closed and empty, then closes the spool. When the spool breaks, everything stops: only a
/// restart goes through its recovery.
async fn batch(batcher: Batcher, shutdown: Shutdown) -> Result<(), SpoolError> {
    let (queue, spool) = (batcher.queue.clone(), batcher.spool.clone());
    let batched = batcher.run().await;
    queue.close();
    let finished = spool.finish().await;
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
