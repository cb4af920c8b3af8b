//! The standard works, each on a sink of its own: what a point costs in CPU, on the wire and on disk.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::fleet;
use crate::http;
use crate::program::Sink;

/// One kind of work: ten agents, readings with two decimals that walk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    /// How tables call it.
    pub(crate) name: &'static str,
    pub(crate) metrics: u32,
    pub(crate) samples_per_batch: u32,
    pub(crate) batches_per_request: usize,
    pub(crate) points: u64,
}

/// 100 samples of 100 metrics per batch.
pub(crate) const LARGE: Work = Work {
    name: "100 samples of 100 metrics per batch",
    metrics: 100,
    samples_per_batch: 100,
    batches_per_request: 16,
    points: 10_000_000,
};

/// One sample of ten metrics per batch.
pub(crate) const SMALL: Work = Work {
    name: "1 sample of 10 metrics per batch, 16 batches per request",
    metrics: 10,
    samples_per_batch: 1,
    batches_per_request: 16,
    points: 2_000_000,
};

/// The same, one batch per request.
pub(crate) const SINGLE: Work = Work {
    name: "1 sample of 10 metrics per batch, 1 batch per request",
    batches_per_request: 1,
    points: 500_000,
    ..SMALL
};

/// What came of one run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measured {
    pub(crate) work: &'static str,
    pub(crate) points: u64,
    /// CPU of the sink, flush included, per point.
    pub(crate) cpu_ns_per_point: f64,
    pub(crate) wire_bytes_per_point: f64,
    pub(crate) disk_bytes_per_point: f64,
    pub(crate) ack_p50_ms: f64,
    pub(crate) ack_p99_ms: f64,
    /// The ledger closed and every point is in a file.
    pub(crate) closed: bool,
}

impl Measured {
    pub(crate) fn points_per_cpu_second(&self) -> f64 {
        1e9 / self.cpu_ns_per_point
    }
}

/// Runs a work with this part of its points on a fresh sink; merging small files is left out unless `merging`.
pub(crate) async fn run(
    programs: &Path,
    work: Work,
    part: f64,
    merging: bool,
) -> anyhow::Result<Measured> {
    let interval = if merging { "1s" } else { "1h" };
    // A flush when all is there, and often enough for memory otherwise.
    let settings = [
        ("COMPACTION_INTERVAL", interval),
        ("STORE_FLUSH_INTERVAL", "10s"),
    ];
    let sink = Sink::start(programs, &settings).await?;
    let before = sink.cpu_seconds().await?;
    let args = fleet::Args {
        sink: sink.grpc.clone(),
        http: sink.http.clone(),
        metrics: work.metrics,
        samples_per_batch: work.samples_per_batch,
        points: (work.points as f64 * part) as u64,
        batches_per_request: work.batches_per_request,
        ..fleet::Args::standard()
    };
    let outcome = fleet::run(&args).await?;
    let rows = wait_for_files(&sink, outcome.points).await?;
    let cpu = sink.cpu_seconds().await? - before;
    let (_, bytes) = sink.files().await?;
    Ok(Measured {
        work: work.name,
        points: outcome.points,
        cpu_ns_per_point: cpu / outcome.points as f64 * 1e9,
        wire_bytes_per_point: outcome.wire_bytes_per_point,
        disk_bytes_per_point: bytes as f64 / rows as f64,
        ack_p50_ms: outcome.ack_p50_ms,
        ack_p99_ms: outcome.ack_p99_ms,
        closed: outcome.ledger.is_some_and(|ledger| ledger.closed) && rows == outcome.points,
    })
}

/// Rows in files, once all are or a minute has passed.
async fn wait_for_files(sink: &Sink, points: u64) -> anyhow::Result<u64> {
    for _ in 0..300 {
        let (rows, _) = sink.files().await?;
        let behind = http::metric(&sink.http, "weir_sink_fold_behind_records").await?;
        if rows >= points && behind == 0.0 {
            return Ok(rows);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(sink.files().await?.0)
}
