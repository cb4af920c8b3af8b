//! What an agent uses on its machine beside a sink: CPU, memory, switches, bytes to the disk.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use crate::agents::Agent;
use crate::gate::programs;
use crate::program::Sink;

/// How it is run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory with `weir-sink` and `weir-agent`; that of this program when not given.
    #[arg(long)]
    pub(crate) programs: Option<PathBuf>,
    /// Another `weir-agent`, to compare builds.
    #[arg(long)]
    pub(crate) agent: Option<PathBuf>,
    /// Simulated series.
    #[arg(long, default_value_t = 200)]
    pub(crate) series: u32,
    /// Milliseconds between two samples.
    #[arg(long, default_value_t = 1000)]
    pub(crate) interval_ms: u64,
    /// How long it is looked at.
    #[arg(long, default_value_t = 60)]
    pub(crate) seconds: u64,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Outcome {
    pub(crate) series: u32,
    pub(crate) interval_ms: u64,
    pub(crate) file_bytes: u64,
    /// Percent of one core.
    pub(crate) cpu_percent: f64,
    pub(crate) resident_kib: u64,
    /// Of these, memory of its own.
    pub(crate) own_kib: u64,
    pub(crate) threads: u64,
    pub(crate) switches_per_second: f64,
    pub(crate) disk_bytes_per_second: f64,
}

/// Looks at an agent for a while, its first five seconds left out.
pub(crate) async fn run(args: &Args) -> anyhow::Result<Outcome> {
    let programs = programs(args.programs.clone())?;
    let sink = Sink::start(&programs, &[]).await?;
    let program = args.agent.clone().unwrap_or(programs.join("weir-agent"));
    let settings = [
        ("SIMULATED_METRICS", args.series.to_string()),
        ("SAMPLE_INTERVAL", format!("{}ms", args.interval_ms)),
    ];
    let agent = Agent::start(&program, &sink.grpc, &settings)?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (begun, before) = (Instant::now(), Look::at(&agent)?);
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    let (after, seconds) = (Look::at(&agent)?, begun.elapsed().as_secs_f64());
    let per_second = |before: f64, after: f64| (after - before) / seconds;
    Ok(Outcome {
        series: args.series,
        interval_ms: args.interval_ms,
        file_bytes: std::fs::metadata(&program)?.len(),
        cpu_percent: per_second(before.cpu_seconds, after.cpu_seconds) * 100.0,
        resident_kib: after.resident_kib,
        own_kib: after.own_kib,
        threads: after.threads,
        switches_per_second: per_second(before.switches, after.switches),
        disk_bytes_per_second: per_second(before.disk_bytes, after.disk_bytes),
    })
}

/// At one moment.
struct Look {
    cpu_seconds: f64,
    switches: f64,
    disk_bytes: f64,
    resident_kib: u64,
    own_kib: u64,
    threads: u64,
}

impl Look {
    fn at(agent: &Agent) -> anyhow::Result<Self> {
        let process = PathBuf::from(format!("/proc/{}", agent.id()));
        let status = std::fs::read_to_string(process.join("status"))?;
        let memory = std::fs::read_to_string(process.join("smaps_rollup"))?;
        let disk = std::fs::read_to_string(process.join("io"))?;
        let (mut nanoseconds, mut switches) = (0, 0);
        for task in std::fs::read_dir(process.join("task"))? {
            let task = task?.path();
            // On the CPU, waiting for it, turns: nanoseconds, not the ticks of stat.
            let spent = std::fs::read_to_string(task.join("schedstat"))?;
            nanoseconds += spent
                .split_whitespace()
                .next()
                .unwrap_or("0")
                .parse::<u64>()?;
            switches += number(&task.join("status"), "voluntary_ctxt_switches:")?;
            switches += number(&task.join("status"), "nonvoluntary_ctxt_switches:")?;
        }
        Ok(Self {
            cpu_seconds: nanoseconds as f64 / 1e9,
            switches: switches as f64,
            disk_bytes: find(&disk, "write_bytes:")? as f64,
            resident_kib: find(&status, "VmRSS:")?,
            own_kib: find(&memory, "Anonymous:")?,
            threads: find(&status, "Threads:")?,
        })
    }
}

fn number(path: &Path, name: &str) -> anyhow::Result<u64> {
    find(&std::fs::read_to_string(path)?, name)
}

fn find(text: &str, name: &str) -> anyhow::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let word = line.and_then(|line| line.split_whitespace().next());
    Ok(word.with_context(|| format!("no {name}"))?.parse()?)
}
