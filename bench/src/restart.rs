//! How long a sink that was killed takes to be ready again, with much in its journal.
//!
//! The store is out of order (a file stands where its directory should be) until the journal is large enough; then
//! the sink is killed, the store repaired, and the sink started again on what is there.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::bail;
use serde::Serialize;

use crate::fleet;
use crate::gate::programs;
use crate::http;
use crate::program::Sink;

/// How it is run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory with `weir-sink`; that of this program when not given.
    #[arg(long)]
    pub(crate) programs: Option<PathBuf>,
    /// MiB of journal.
    #[arg(long, default_value_t = 1024)]
    pub(crate) mib: u64,
    /// Samples of ten metrics in one batch: many small records take longest.
    #[arg(long, default_value_t = 1)]
    pub(crate) samples_per_batch: u32,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) journal_mib: u64,
    pub(crate) ready_seconds: f64,
    pub(crate) ready_cpu_seconds: f64,
    pub(crate) ready_memory_mib: u64,
    pub(crate) caught_up_seconds: f64,
    pub(crate) caught_up_cpu_seconds: f64,
    pub(crate) most_memory_mib: u64,
}

/// Fills, kills, starts, waits.
pub(crate) async fn run(args: &Args) -> anyhow::Result<Outcome> {
    let programs = programs(args.programs.clone())?;
    let settings = [("JOURNAL_MAX_BYTES", "16GiB"), ("LOG_LEVEL", "error")];
    let sink = Sink::start(&programs, &settings).await?;
    let obstacle = sink.data().join("store/samples");
    std::fs::create_dir_all(sink.data().join("store"))?;
    std::fs::write(&obstacle, "in the way")?;
    let load = fleet::Args {
        sink: sink.grpc.clone(),
        metrics: 10,
        samples_per_batch: args.samples_per_batch,
        points: u64::MAX / 2,
        ..fleet::Args::standard()
    };
    let filling = tokio::spawn(async move { fleet::run(&load).await.map(drop) });
    let journal = sink.data().join("log");
    while bytes(&journal)? < args.mib << 20 {
        if filling.is_finished() {
            bail!("the fleet ended before the journal was full");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let place = sink.kill()?;
    filling.abort();
    std::fs::remove_file(obstacle)?;
    let journal_mib = bytes(&place.path().join("data/log"))? >> 20;
    std::fs::remove_file(place.path().join("data/endpoints.json"))?;

    let begun = Instant::now();
    let sink = Sink::start_in(place, &programs, &settings).await?;
    while http::get(&sink.http, "/readyz").await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut outcome = Outcome {
        journal_mib,
        ready_seconds: begun.elapsed().as_secs_f64(),
        ready_cpu_seconds: sink.cpu_seconds().await?,
        ready_memory_mib: sink.memory_kib()? >> 10,
        caught_up_seconds: 0.0,
        caught_up_cpu_seconds: 0.0,
        most_memory_mib: 0,
    };
    loop {
        outcome.most_memory_mib = outcome.most_memory_mib.max(sink.memory_kib()? >> 10);
        let behind = http::metric(&sink.http, "weir_sink_fold_behind_records").await?;
        if behind == 0.0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    outcome.caught_up_seconds = begun.elapsed().as_secs_f64();
    outcome.caught_up_cpu_seconds = sink.cpu_seconds().await?;
    Ok(outcome)
}

/// What the files of a directory hold on disk.
fn bytes(directory: &Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for entry in std::fs::read_dir(directory)? {
        // A segment may go between the two looks.
        sum += entry?.metadata().map_or(0, |found| found.blocks() * 512);
    }
    Ok(sum)
}
