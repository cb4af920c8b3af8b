//! The fleet: every agent is one stream with its own seed; batches are encoded as an agent
//! would, sent within the sink's window, and counted when their acknowledgement comes.

pub(crate) mod agent;
mod disk;
mod signal;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use tokio::task::JoinSet;

use self::disk::Probe;
pub(crate) use self::disk::Syncs;
use crate::ledger::{self, Verdict};

/// Parts of the highest rate at which latency is measured.
const SHARES: [f64; 3] = [0.1, 0.5, 0.9];

/// How long each of them is held.
const SHARE_SECONDS: f64 = 10.0;

/// What the fleet does.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// gRPC address of the sink.
    #[arg(long, default_value = "http://127.0.0.1:4317")]
    pub(crate) sink: String,
    /// HTTP address of the same sink, for the ledger's verdict; empty to do without.
    #[arg(long, default_value = "http://127.0.0.1:4318")]
    pub(crate) http: String,
    /// Agents, each with one connection and one stream.
    #[arg(long, default_value_t = 10)]
    pub(crate) agents: u32,
    /// Metrics of each agent.
    #[arg(long, default_value_t = 100)]
    pub(crate) metrics: u32,
    /// Samples of every metric in one batch.
    #[arg(long, default_value_t = 100)]
    pub(crate) samples_per_batch: u32,
    /// Points over all agents; each sends its share in whole batches.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) points: u64,
    /// Batches in one request at most.
    #[arg(long, default_value_t = 16)]
    pub(crate) batches_per_request: usize,
    /// Seed of the values.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Threads of the fleet.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// Points per second over all agents; 0 for as fast as the sink takes them.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) rate: f64,
    /// Seconds between two samples of a series.
    #[arg(long, default_value_t = 1)]
    pub(crate) interval: u32,
    /// The first sample was taken so many seconds before now.
    #[arg(long, default_value_t = 0)]
    pub(crate) ago: u64,
    /// What the names of the agents begin with; each run has its own where none is given.
    #[arg(long)]
    pub(crate) prefix: Option<String>,
    /// Directory on the disk of the sink's journal: its own fdatasync is measured beside the run.
    #[arg(long)]
    pub(crate) sync_dir: Option<PathBuf>,
    /// A token of the role agent, where the sink asks for one.
    #[arg(long)]
    pub(crate) token: Option<String>,
    /// File of the CA that signed the sink's certificate: the fleet speaks TLS.
    #[arg(long)]
    pub(crate) ca: Option<PathBuf>,
}

impl Args {
    /// What the command line has by default, without an address of HTTP.
    pub(crate) fn standard() -> Self {
        Self {
            sink: String::new(),
            http: String::new(),
            agents: 10,
            metrics: 100,
            samples_per_batch: 100,
            points: 1_000_000,
            batches_per_request: 16,
            seed: 1,
            threads: 1,
            rate: 0.0,
            interval: 1,
            ago: 0,
            prefix: None,
            sync_dir: None,
            token: None,
            ca: None,
        }
    }
}

/// What came of it, printed as one JSON line.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    agents: u32,
    metrics: u32,
    samples_per_batch: u32,
    /// Points acknowledged.
    pub(crate) points: u64,
    seconds: f64,
    /// CPU time of the fleet itself.
    cpu_seconds: f64,
    pub(crate) points_per_second: f64,
    /// Bytes of all requests as protobuf messages.
    wire_bytes: u64,
    pub(crate) wire_bytes_per_point: f64,
    /// From handing a request to the connection to the ack that covers it.
    pub(crate) ack_p50_ms: f64,
    pub(crate) ack_p99_ms: f64,
    /// The disk beside the run; absent when no directory was given.
    pub(crate) disk: Option<Syncs>,
    /// Absent when no HTTP address was given.
    pub(crate) ledger: Option<Verdict>,
}

/// Sums over agents.
pub(crate) struct Tally {
    pub(crate) points: u64,
    pub(crate) wire_bytes: u64,
    /// Ack latency in microseconds.
    pub(crate) latency: Histogram<u64>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            points: 0,
            wire_bytes: 0,
            latency: Histogram::new(3).expect("three digits are allowed"),
        }
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Sends everything and waits for every acknowledgement.
pub(crate) async fn run(args: &Args) -> anyhow::Result<Outcome> {
    // A name of its own for every run, so that the verdict is about this run alone.
    let run = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_nanos();
    let prefix = args.prefix.clone().unwrap_or(format!("bench-{run:x}-"));
    let probe = args.sync_dir.as_deref().map(Probe::start).transpose()?;
    let begun = Instant::now();
    let cpu_before = cpu_time();
    let mut agents = JoinSet::new();
    for index in 0..args.agents {
        let name = format!("{prefix}{index}");
        agents.spawn(agent::run(args.clone(), name, index));
    }
    let mut tally = Tally::new();
    while let Some(finished) = agents.join_next().await {
        let one = finished?.context("an agent of the fleet stopped")?;
        tally.points += one.points;
        tally.wire_bytes += one.wire_bytes;
        tally.latency.add(one.latency)?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let cpu_seconds = (cpu_time() - cpu_before).as_secs_f64();
    let disk = probe.map(Probe::end).transpose()?;
    let ledger = if args.http.is_empty() {
        None
    } else {
        Some(ledger::verdict(&args.http, &prefix, tally.points).await?)
    };
    let milliseconds = |quantile: f64| tally.latency.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Outcome {
        agents: args.agents,
        metrics: args.metrics,
        samples_per_batch: args.samples_per_batch,
        points: tally.points,
        seconds,
        cpu_seconds,
        points_per_second: tally.points as f64 / seconds,
        wire_bytes: tally.wire_bytes,
        wire_bytes_per_point: tally.wire_bytes as f64 / tally.points as f64,
        ack_p50_ms: milliseconds(0.5),
        ack_p99_ms: milliseconds(0.99),
        disk,
        ledger,
    })
}

/// The highest rate first, then latency at parts of it: one outcome each.
pub(crate) async fn latency(args: &Args) -> anyhow::Result<Vec<Outcome>> {
    let highest = run(&Args {
        rate: 0.0,
        ..args.clone()
    })
    .await?;
    let mut outcomes = vec![highest];
    for share in SHARES {
        let rate = outcomes[0].points_per_second * share;
        let part = Args {
            rate,
            points: (rate * SHARE_SECONDS) as u64,
            ..args.clone()
        };
        outcomes.push(run(&part).await?);
    }
    Ok(outcomes)
}
