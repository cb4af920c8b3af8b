//! Many agents on one sink: what a connection costs while it is idle and after a large message, how long a storm of
//! them takes, and whether a few that send all they can keep the others waiting.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::fleet::agent::{Link, Source};
use crate::fleet::{self, Tally};
use crate::gate::programs;
use crate::program::Sink;

/// How many are opened at one time.
const AT_ONCE: usize = 512;

/// A message just below what a sink takes.
const LARGE_BYTES: usize = 4_100_000;

/// How long every agent's turn to send one batch takes in all.
const ROUND: Duration = Duration::from_secs(10);

/// How it is run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory with `weir-sink`; that of this program when not given.
    #[arg(long)]
    pub(crate) programs: Option<PathBuf>,
    /// Connections, each with one stream of ten series. Both sides need a file for each.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) agents: u32,
    /// So many of them send a large message.
    #[arg(long, default_value_t = 100)]
    pub(crate) large: usize,
    /// Agents that send all they can beside the others.
    #[arg(long, default_value_t = 4)]
    pub(crate) flood: u32,
}

/// What came of it. Memory is the sink's own, less that of the empty sink, in KiB.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Outcome {
    pub(crate) agents: u32,
    /// From the first connection to the last Welcome.
    pub(crate) storm_seconds: f64,
    pub(crate) welcome_p50_ms: f64,
    pub(crate) welcome_p99_ms: f64,
    pub(crate) empty_kib: u64,
    /// Connected and welcomed, nothing sent.
    pub(crate) idle_kib_per_connection: f64,
    /// After one batch of ten readings each, folded and in files.
    pub(crate) used_kib_per_connection: f64,
    /// Beyond that, per large message: right after its ack, and half a minute later.
    pub(crate) large_kib: f64,
    pub(crate) large_later_kib: f64,
    pub(crate) ack_p50_ms: f64,
    pub(crate) ack_p99_ms: f64,
    /// The same with the flood beside it.
    pub(crate) flood_points_per_second: f64,
    pub(crate) flooded_p50_ms: f64,
    pub(crate) flooded_p99_ms: f64,
}

type Agent = (Link, Source);

/// Runs everything on a sink of its own.
pub(crate) async fn run(args: &Args) -> anyhow::Result<Outcome> {
    let settings = [
        ("INGEST_MAX_CONNECTIONS", "100000"),
        ("STORE_FLUSH_INTERVAL", "2s"),
    ];
    let sink = Sink::start(&programs(args.programs.clone())?, &settings).await?;
    // What the first agent makes the sink set up is not the connections'.
    fleet::run(&load(&sink, 1, 10_000)).await?;
    pause(5).await;
    let mut outcome = Outcome {
        agents: args.agents,
        empty_kib: sink.memory_kib()?,
        ..Outcome::default()
    };
    let milliseconds = |found: &Histogram<u64>, q: f64| found.value_at_quantile(q) as f64 / 1e3;

    let begun = Instant::now();
    let (agents, welcomes) = storm(&sink, args.agents).await?;
    outcome.storm_seconds = begun.elapsed().as_secs_f64();
    outcome.welcome_p50_ms = milliseconds(&welcomes, 0.5);
    outcome.welcome_p99_ms = milliseconds(&welcomes, 0.99);
    pause(5).await;
    let more = |kib: u64, than: u64| kib.cast_signed().saturating_sub(than.cast_signed()) as f64;
    let each = f64::from(args.agents);
    outcome.idle_kib_per_connection = more(sink.memory_kib()?, outcome.empty_kib) / each;

    let (agents, acks) = round(agents).await?;
    outcome.ack_p50_ms = milliseconds(&acks, 0.5);
    outcome.ack_p99_ms = milliseconds(&acks, 0.99);
    pause(10).await;
    let used = sink.memory_kib()?;
    outcome.used_kib_per_connection = more(used, outcome.empty_kib) / each;

    let agents = large(agents, args.large).await?;
    let large = args.large as f64;
    outcome.large_kib = more(sink.memory_kib()?, used) / large;
    pause(30).await;
    outcome.large_later_kib = more(sink.memory_kib()?, used) / large;

    let flood = tokio::spawn({
        let load = load(&sink, args.flood, 40_000_000);
        async move { fleet::run(&load).await }
    });
    pause(1).await;
    let (_, acks) = round(agents).await?;
    outcome.flooded_p50_ms = milliseconds(&acks, 0.5);
    outcome.flooded_p99_ms = milliseconds(&acks, 0.99);
    let flooded = flood.await?.context("the flood")?;
    outcome.flood_points_per_second = flooded.points_per_second;
    Ok(outcome)
}

async fn pause(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// 100 samples of 100 metrics per batch, as fast as they are taken.
fn load(sink: &Sink, agents: u32, points: u64) -> fleet::Args {
    fleet::Args {
        sink: sink.grpc.clone(),
        http: String::new(),
        agents,
        points,
        ..fleet::Args::standard()
    }
}

/// Connects all, a few hundred at a time, as after the restart of a sink.
async fn storm(sink: &Sink, agents: u32) -> anyhow::Result<(Vec<Agent>, Histogram<u64>)> {
    let args = fleet::Args {
        sink: sink.grpc.clone(),
        metrics: 10,
        samples_per_batch: 1,
        ..fleet::Args::standard()
    };
    let turns = std::sync::Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let mut opening = JoinSet::new();
    for index in 0..agents {
        let (args, turns) = (args.clone(), std::sync::Arc::clone(&turns));
        opening.spawn(async move {
            let _turn = turns.acquire_owned().await?;
            let name = format!("bench-connection-{index}");
            let begun = Instant::now();
            let link = Link::open(&args, &name, index).await?;
            anyhow::Ok((link, Source::new(&args, name, index), begun.elapsed()))
        });
    }
    let mut all = Vec::new();
    let mut took = Histogram::new(3)?;
    while let Some(opened) = opening.join_next().await {
        let (link, source, time) = opened?.context("a connection")?;
        took.record(u64::try_from(time.as_micros())?)?;
        all.push((link, source));
    }
    Ok((all, took))
}

/// Every agent sends one batch of ten readings at its moment and waits for the ack.
async fn round(agents: Vec<Agent>) -> anyhow::Result<(Vec<Agent>, Histogram<u64>)> {
    let begun = tokio::time::Instant::now();
    let count = agents.len() as f64;
    let mut sending = JoinSet::new();
    for (index, (mut link, mut source)) in agents.into_iter().enumerate() {
        let due = begun + ROUND.mul_f64(index as f64 / count);
        sending.spawn(async move {
            tokio::time::sleep_until(due).await;
            let mut tally = Tally::new();
            link.send(vec![source.batch(1)], &mut tally).await?;
            link.settle(&mut tally).await?;
            anyhow::Ok((link, source, tally.latency))
        });
    }
    let mut all = Vec::new();
    let mut acks = Histogram::new(3)?;
    while let Some(sent) = sending.join_next().await {
        let (link, source, latency) = sent?.context("a batch")?;
        acks.add(latency)?;
        all.push((link, source));
    }
    Ok((all, acks))
}

/// Some send their first batch once more, in a message of 4 MB: the sink answers that it has it, so that the message
/// costs what a message costs and no reading is stored.
async fn large(mut agents: Vec<Agent>, count: usize) -> anyhow::Result<Vec<Agent>> {
    for (link, source) in agents.iter_mut().take(count) {
        link.send_again(source, LARGE_BYTES).await?;
    }
    Ok(agents)
}
