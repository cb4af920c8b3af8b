//! One tenant floods, another delivers at an even rate: what the second waits for its acknowledgements, calm and beside
//! the flood, in one run.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use serde::Serialize;
use tokio::task::JoinSet;
use weir_proto::v1::Batch;

use crate::fleet::agent::{Link, Source};
use crate::fleet::{self, Tally};
use crate::program::Sink;

/// The calm tenant delivers for so long, twice.
const SECONDS: f64 = 10.0;
/// Requests of one call of the flood, and batches in each.
const REQUESTS: usize = 64;
const BATCHES: usize = 16;

/// What the run does.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Where `weir-sink` is.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// Connections that send as fast as they can, and come back at once when they are turned away.
    #[arg(long, default_value_t = 8)]
    floods: u32,
    /// What the sink lets a tenant send, as in 1MiB; 0 is no limit.
    #[arg(long, default_value = "1MiB")]
    quota: String,
    /// Points per second of the calm tenant.
    #[arg(long, default_value_t = 20_000.0)]
    rate: f64,
}

/// What came of it, printed as one JSON line.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    floods: u32,
    quota: String,
    rate: f64,
    calm_p50_ms: f64,
    calm_p99_ms: f64,
    flood_p50_ms: f64,
    flood_p99_ms: f64,
    /// Beside the flood over calm.
    p50_ratio: f64,
    p99_ratio: f64,
    /// Requests of the flood that were acknowledged.
    flood_requests: u64,
    /// How often it was turned away.
    flood_refused: u64,
}

/// A sink of its own, both tenants, one line.
pub(crate) async fn run(args: &Args) -> anyhow::Result<Outcome> {
    let quota = ("LIMITS_TENANT_BYTES_PER_SECOND", args.quota.as_str());
    let sink = Sink::start(&args.programs, &[quota]).await?;
    let (calm, wild) = (
        sink.token(&args.programs, "calm")?,
        sink.token(&args.programs, "wild")?,
    );
    let before = deliver(args, &sink, &calm).await?;
    let arguments = fleet::Args {
        sink: sink.grpc.clone(),
        token: Some(wild),
        ..fleet::Args::standard()
    };
    // On a thread of its own: what is measured is the sink, and not the other half of this program.
    let count = args.floods;
    let floods = std::thread::spawn(move || all_floods(&arguments, count));
    let beside = deliver(args, &sink, &calm).await?;
    let joined = tokio::task::spawn_blocking(move || floods.join()).await?;
    let joined = joined.map_err(|_| anyhow!("a flood stopped"))?;
    let (flood_requests, flood_refused) = joined?;
    ensure!(
        flood_requests > 0,
        "nothing of the flood arrived: it was none"
    );
    Ok(Outcome {
        floods: args.floods,
        quota: args.quota.clone(),
        rate: args.rate,
        calm_p50_ms: before.ack_p50_ms,
        calm_p99_ms: before.ack_p99_ms,
        flood_p50_ms: beside.ack_p50_ms,
        flood_p99_ms: beside.ack_p99_ms,
        p50_ratio: beside.ack_p50_ms / before.ack_p50_ms,
        p99_ratio: beside.ack_p99_ms / before.ack_p99_ms,
        flood_requests,
        flood_refused,
    })
}

async fn deliver(args: &Args, sink: &Sink, token: &str) -> anyhow::Result<fleet::Outcome> {
    let arguments = fleet::Args {
        sink: sink.grpc.clone(),
        token: Some(token.to_owned()),
        agents: 4,
        samples_per_batch: 10,
        batches_per_request: 1,
        points: (args.rate * SECONDS) as u64,
        rate: args.rate,
        ..fleet::Args::standard()
    };
    fleet::run(&arguments).await
}

/// All at once; the sums of what came of them.
fn all_floods(args: &fleet::Args, count: u32) -> anyhow::Result<(u64, u64)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Encoded once: a flood costs whoever sends it next to nothing.
    let mut source = Source::new(args, "flood".to_owned(), 0);
    let requests: Vec<Vec<Batch>> = (0..REQUESTS)
        .map(|_| {
            (0..BATCHES)
                .map(|_| source.batch(args.samples_per_batch))
                .collect()
        })
        .collect();
    let requests = Arc::new(requests);
    runtime.block_on(async {
        let mut floods = JoinSet::new();
        for index in 0..count {
            floods.spawn(flood(args.clone(), Arc::clone(&requests), index));
        }
        let (mut acked, mut refused) = (0, 0);
        while let Some(finished) = floods.join_next().await {
            let one = finished.context("a flood stopped")?;
            acked += one.0;
            refused += one.1;
        }
        Ok((acked, refused))
    })
}

/// Sends without a pause for as long as the calm tenant delivers; answers the requests that were acknowledged, and how
/// often the sink ended the call.
async fn flood(args: fleet::Args, requests: Arc<Vec<Vec<Batch>>>, index: u32) -> (u64, u64) {
    let (mut requests_acked, mut refused) = (0, 0);
    let end = tokio::time::Instant::now() + Duration::from_secs_f64(SECONDS);
    let mut round = 0;
    while tokio::time::Instant::now() < end {
        round += 1;
        // A stream of its own each time: what it could not deliver is of no interest.
        let name = format!("flood-{index}-{round}");
        let mut tally = Tally::new();
        let sending = async {
            let mut link = Link::open(&args, &name, index).await?;
            for request in requests.iter() {
                if link.send(request.clone(), &mut tally).await.is_err() {
                    break;
                }
            }
            // What was taken before the call ended is acknowledged before its end.
            link.settle(&mut tally).await
        };
        let ended: Result<anyhow::Result<()>, _> = tokio::time::timeout_at(end, sending).await;
        refused += u64::from(matches!(ended, Ok(Err(_))));
        requests_acked += tally.latency.len();
    }
    (requests_acked, refused)
}
