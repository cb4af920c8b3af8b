//! The same load on two sinks beside each other, one of them within TLS: what encryption costs per point, and what an idle
//! connection takes.
//!
//! Rounds alternate between the two, so that what else the machine does hits both.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use serde::Serialize;
use tempfile::TempDir;

use crate::fleet::agent::{Link, Source};
use crate::fleet::{self, Tally};
use crate::gate::programs;
use crate::program::Sink;

/// A message just below what a sink takes.
const LARGE_BYTES: usize = 4_100_000;

/// What waits in memory is written by then: longer than `store.flush_interval`.
const FLUSH_SECONDS: u64 = 11;

/// How it is run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory with `weir-sink`; that of this program when not given.
    #[arg(long)]
    pub(crate) programs: Option<PathBuf>,
    /// Points in one round on one sink.
    #[arg(long, default_value_t = 20_000_000)]
    pub(crate) points: u64,
    /// Rounds on each sink.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: u32,
    /// Idle connections whose memory is measured.
    #[arg(long, default_value_t = 1000)]
    pub(crate) connections: u32,
}

/// One sink.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Side {
    /// Of the sink's CPU time, each round; the median counts.
    points_per_cpu_second: Vec<f64>,
    points_per_second: Vec<f64>,
    ack_p50_ms: Vec<f64>,
    ack_p99_ms: Vec<f64>,
    /// Welcomed and silent.
    idle_kib_per_connection: f64,
    /// More for each of fifty, some time after a message of 4 MB.
    large_kib: f64,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Outcome {
    plain: Side,
    encrypted: Side,
    /// Points per CPU-second within TLS, as a part of those without.
    share: f64,
}

/// Starts both sinks and runs everything.
pub(crate) async fn run(args: &Args) -> anyhow::Result<Outcome> {
    let programs = programs(args.programs.clone())?;
    let place = tempfile::tempdir()?;
    let certs = certificates(&programs, &place)?;
    let plain = Sink::start(&programs, &[]).await?;
    let settings: Vec<_> = certs.iter().map(|(name, path)| (*name, &**path)).collect();
    let mut encrypted = Sink::start(&programs, &settings).await?;
    encrypted.grpc = encrypted.grpc.replace("http://", "https://");
    let token = encrypted.token(&programs, "default")?;
    let within = |args: fleet::Args| fleet::Args {
        token: Some(token.clone()),
        ca: Some(place.path().join("tls/ca.crt")),
        ..args
    };
    let mut outcome = Outcome::default();
    for round in 0..args.rounds {
        let prefix = format!("bench-tls-{round}");
        let load = |sink: &Sink| fleet::Args {
            sink: sink.grpc.clone(),
            points: args.points,
            prefix: Some(prefix.clone()),
            ..fleet::Args::standard()
        };
        outcome.plain.round(&plain, &load(&plain)).await?;
        let load = within(load(&encrypted));
        outcome.encrypted.round(&encrypted, &load).await?;
    }
    let small = |sink: &Sink| fleet::Args {
        sink: sink.grpc.clone(),
        metrics: 10,
        samples_per_batch: 1,
        ..fleet::Args::standard()
    };
    let count = args.connections;
    outcome.plain.memory(&plain, count, &small(&plain)).await?;
    let agents = within(small(&encrypted));
    outcome.encrypted.memory(&encrypted, count, &agents).await?;
    for sink in [&plain, &encrypted] {
        // Fails where readings are unexplained.
        sink.command(&programs, &["ledger"])?;
    }
    outcome.share = median(&outcome.encrypted.points_per_cpu_second)
        / median(&outcome.plain.points_per_cpu_second);
    Ok(outcome)
}

impl Side {
    async fn round(&mut self, sink: &Sink, load: &fleet::Args) -> anyhow::Result<()> {
        let before = sink.cpu_of_process()?;
        let done = fleet::run(load).await?;
        let used = rested(sink).await? - before;
        self.points_per_cpu_second.push(done.points as f64 / used);
        self.points_per_second.push(done.points_per_second);
        self.ack_p50_ms.push(done.ack_p50_ms);
        self.ack_p99_ms.push(done.ack_p99_ms);
        Ok(())
    }

    async fn memory(&mut self, sink: &Sink, count: u32, args: &fleet::Args) -> anyhow::Result<()> {
        pause(15).await;
        let empty = sink.memory_kib()?;
        let mut agents = Vec::new();
        for index in 0..count {
            let name = format!("bench-idle-{index}");
            let link = Link::open(args, &name, index).await?;
            let source = Source::new(args, name, index);
            agents.push((link, source));
        }
        pause(5).await;
        let more =
            |kib: u64, than: u64| kib.cast_signed().saturating_sub(than.cast_signed()) as f64;
        let idle = sink.memory_kib()?;
        self.idle_kib_per_connection = more(idle, empty) / f64::from(count);
        let mut sent = 0.0;
        for (link, source) in agents.iter_mut().take(50) {
            let mut tally = Tally::new();
            link.send(vec![source.batch(1)], &mut tally).await?;
            link.settle(&mut tally).await?;
            link.send_again(source, LARGE_BYTES).await?;
            sent += 1.0;
        }
        pause(10).await;
        self.large_kib = more(sink.memory_kib()?, idle) / sent;
        Ok(())
    }
}

/// CPU seconds so far, once everything is in files and the sink rests.
async fn rested(sink: &Sink) -> anyhow::Result<f64> {
    let mut before = sink.cpu_of_process()?;
    loop {
        pause(FLUSH_SECONDS).await;
        let now = sink.cpu_of_process()?;
        // What clocks and timers take.
        if now - before <= 0.05 {
            return Ok(now);
        }
        before = now;
    }
}

async fn pause(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Outcome {
    /// Of a side, what a table shows: its name, a value per column.
    pub(crate) fn rows(&self) -> [(&'static str, [f64; 5]); 2] {
        let row = |side: &Side| {
            [
                median(&side.points_per_cpu_second) / 1e6,
                median(&side.ack_p50_ms),
                median(&side.ack_p99_ms),
                side.idle_kib_per_connection,
                side.large_kib,
            ]
        };
        [
            ("no TLS", row(&self.plain)),
            ("TLS 1.3", row(&self.encrypted)),
        ]
    }

    /// Points per CPU-second within TLS, as a part of those without.
    pub(crate) fn share(&self) -> f64 {
        self.share
    }
}

/// By `weir-sink certs init`: the settings of a sink.
fn certificates(programs: &Path, place: &TempDir) -> anyhow::Result<[(&'static str, String); 2]> {
    let out = place.path().join("tls");
    let made = Command::new(programs.join("weir-sink"))
        .args(["certs", "init", "--name", "127.0.0.1", "--out"])
        .arg(&out)
        .output()?;
    ensure!(made.status.success(), "certs init failed: {made:?}");
    let path = |name: &str| out.join(name).display().to_string();
    Ok([
        ("TLS_CERT", path("server.crt")),
        ("TLS_KEY", path("server.key")),
    ])
}
