//! Ingest: from requests in memory to readings durable in the journal.
//!
//! Measured: everything between a decoded request and its acknowledgement: checks, decoding
//! under limits, the journal's group commit with its `fdatasync`. The fold is not there. Also
//! printed: points per CPU-second of the whole process.
#![allow(clippy::print_stderr, missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use weir_journal::{Disk, Journal, Options};
use weir_process::clock::SystemClock;
use weir_process::metrics::Registry;
use weir_proto::v1;
use weir_sink::ingest::{Ingest, IngestConfig, Session};
use weir_sink::metrics::IngestMetrics;

#[path = "support/plant.rs"]
mod plant;

use plant::{DEVICES, Sent, cpu};

/// Batches in one request.
const BATCHES_PER_REQUEST: usize = 16;

fn hello(device: u32) -> v1::Hello {
    v1::Hello {
        stream_id: plant::stream_id(device).to_vec(),
        agent: format!("agent-{device:04}"),
        software: "bench".into(),
        boot_id: vec![7; 16],
        oldest_sequence: 1,
        next_sequence: 1,
        protocol_min: 1,
        protocol_max: 1,
        ..v1::Hello::default()
    }
}

/// The requests of every device, in the order they arrive in.
fn requests(sent: &[Sent]) -> Vec<(usize, v1::DeliverRequest)> {
    let mut waiting = vec![Vec::new(); DEVICES as usize];
    let mut requests = Vec::new();
    for one in sent {
        let device = one.device as usize;
        let record = v1::record::Record::Batch(one.batch.clone());
        waiting[device].push(v1::Record {
            record: Some(record),
        });
        if waiting[device].len() == BATCHES_PER_REQUEST {
            requests.push((device, std::mem::take(&mut waiting[device])));
        }
    }
    requests.extend(
        waiting
            .into_iter()
            .enumerate()
            .filter(|(_, rest)| !rest.is_empty()),
    );
    let request = |records| v1::DeliverRequest {
        records,
        ..v1::DeliverRequest::default()
    };
    requests
        .into_iter()
        .map(|(device, records)| (device, request(records)))
        .collect()
}

async fn run(dir: &Path, requests: Vec<(usize, v1::DeliverRequest)>) -> (Duration, Duration) {
    let (journal, committer) =
        Journal::open(Arc::new(Disk), &dir.join("journal"), Options::default()).expect("opens");
    let committer = committer.spawn().expect("a thread");
    let ingest = Ingest::new(
        journal.clone(),
        Arc::new(drop),
        Arc::new(SystemClock),
        IngestConfig {
            window_bytes: 64 << 20,
            budget_bytes: u64::MAX,
            max_connections: 100,
            max_streams: 100,
            high_water_bytes: u64::MAX,
            lost_after: std::time::Duration::ZERO,
            limits: weir_sink::ingest::Allowed::default(),
        },
        IngestMetrics::register(&Registry::new("bench")),
    );
    let opener = weir_sink::ingest::Opener {
        tenant: "default",
        from: None,
        covers: &|_| true,
    };
    let mut sessions: Vec<Session> = Vec::new();
    for device in 0..DEVICES {
        sessions.push(
            ingest
                .open(&opener, &hello(device), &CancellationToken::new())
                .await
                .expect("welcome")
                .0,
        );
    }
    let began = (Instant::now(), cpu());
    for (device, request) in requests {
        let taken = sessions[device].take(request).await;
        assert!(
            taken.fault.is_none() && taken.refused.is_empty(),
            "everything is accepted"
        );
    }
    journal
        .committed(journal.next() - 1)
        .await
        .expect("committed");
    let took = (began.0.elapsed(), cpu() - began.1);
    drop(sessions);
    journal.close();
    committer.join().expect("ends");
    took
}

fn ingest(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group("ingest_1000_series");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100));
    for (samples, rounds) in [(100, 16), (1, 160)] {
        let (sent, points) = plant::batches(samples, rounds);
        let requests = requests(&sent);
        group.throughput(Throughput::Elements(points));
        let (mut cpu, mut done) = (Duration::ZERO, 0);
        group.bench_function(BenchmarkId::new("samples_per_batch", samples), |bencher| {
            bencher.iter_custom(|times| {
                (0..times).fold(Duration::ZERO, |sum, _| {
                    let dir = tempfile::tempdir().expect("a directory");
                    let (wall, used) = runtime.block_on(run(dir.path(), requests.clone()));
                    cpu += used;
                    done += points;
                    sum + wall
                })
            });
        });
        let rate = done as f64 / cpu.as_secs_f64() / 1e6;
        eprintln!("{samples} samples per batch: {rate:.2} M points per CPU-second");
    }
    group.finish();
}

criterion_group!(benches, ingest);
criterion_main!(benches);
