//! Fold and write: from durable journal records to committed Parquet files.
//!
//! Measured: decoding, folding, sorting, writing and syncing files, the catalog's transactions
//! and releasing the journal, for 1000 series. Records are in the journal before the clock
//! starts, as after a restart: the dearer path, because every batch is decoded here. Also
//! printed: points per CPU-second of the whole process and bytes of Parquet per point.
#![allow(clippy::print_stderr, missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use prost::Message;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use weir_journal::{Disk, Journal, Options};
use weir_process::clock::{Clock, SystemClock};
use weir_process::health::Health;
use weir_proto::batch::{self, Block, Column, Values};
use weir_proto::v1;
use weir_sink::catalog::Catalog;
use weir_sink::envelope::{self, Envelope};
use weir_sink::fold::{Fold, FoldConfig, FoldParts};
use weir_sink::store::Store;

const DEVICES: u32 = 10;
const METRICS: u32 = 100;
const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_772_366_400 * SECOND;

/// What one run took.
struct Took {
    wall: Duration,
    cpu: Duration,
    points: u64,
    file_bytes: u64,
}

/// Sensor-like values: a slow walk, to one decimal.
fn walk(state: &mut u64, level: &mut i64) -> f64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *level += i64::try_from(*state >> 61).expect("three bits") - 3;
    *level as f64 / 10.0
}

/// Encoded envelopes of `rounds` batches per device, each `samples` moments of all metrics.
fn envelopes(samples: u32, rounds: u32) -> (Vec<Vec<u8>>, u64) {
    let mut bodies = Vec::new();
    let mut points = 0;
    let mut walks = vec![(1u64, 200i64); (DEVICES * METRICS) as usize];
    for (i, walk) in walks.iter_mut().enumerate() {
        walk.0 = i as u64;
    }
    let mut readings_before = vec![0; DEVICES as usize];
    for round in 0..rounds {
        for device in 0..DEVICES {
            let first = START + i64::from(round * samples) * SECOND;
            let times = (0..samples)
                .map(|i| first + i64::from(i) * SECOND)
                .collect();
            let columns = (0..METRICS).map(|metric| {
                let (state, level) = &mut walks[(device * METRICS + metric) as usize];
                let values = (0..samples).map(|_| walk(state, level)).collect();
                Column {
                    series: metric + 1,
                    values: Values::Numbers(values),
                    present: None,
                }
            });
            let encoded = batch::encode(&[Block {
                times,
                columns: columns.collect(),
            }]);
            let before = &mut readings_before[device as usize];
            let header = v1::BatchHeader {
                sequence: u64::from(round) + 1,
                readings_before: *before,
                ..encoded.header()
            };
            *before += encoded.readings;
            points += encoded.readings;
            let series_defined = if round == 0 {
                definitions(device)
            } else {
                Vec::new()
            };
            let payload = encoded.payload;
            let batch = v1::Batch {
                header: Some(header),
                series_defined,
                payload,
            };
            bodies.push(envelope_of(device, first, batch));
        }
    }
    (bodies, points)
}

fn definitions(device: u32) -> Vec<v1::Series> {
    let series = |metric| v1::Series {
        r#ref: metric + 1,
        device: format!("device-{device:04}"),
        metric: format!("plant.metric.{metric:03}"),
        unit: "Cel".into(),
        kind: v1::Kind::Gauge.into(),
        source: "bench".into(),
        attributes: BTreeMap::from([("line".into(), "a".into())]),
    };
    (0..METRICS).map(series).collect()
}

fn envelope_of(device: u32, received_ns: i64, batch: v1::Batch) -> Vec<u8> {
    let record = v1::Record {
        record: Some(v1::record::Record::Batch(batch)),
    };
    Envelope {
        received_ns,
        tenant: "default".into(),
        agent: format!("agent-{device:04}"),
        stream_id: Bytes::copy_from_slice(&u128::from(device).to_be_bytes()),
        record: record.encode_to_vec().into(),
        ..Envelope::default()
    }
    .encode_to_vec()
}

fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(now.tv_sec).expect("time goes forward");
    Duration::new(seconds, u32::try_from(now.tv_nsec).expect("below a second"))
}

async fn run(dir: &Path, bodies: &[Vec<u8>]) -> Took {
    let (journal, committer) =
        Journal::open(Arc::new(Disk), &dir.join("journal"), Options::default()).expect("opens");
    let committer = committer.spawn().expect("a thread");
    let mut last = 0;
    for body in bodies {
        last = journal
            .append(envelope::KIND, &[body])
            .await
            .expect("appended");
    }
    journal.committed(last).await.expect("committed");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let catalog = Catalog::open(&dir.join("catalog.db")).await.expect("opens");
    let began = (Instant::now(), cpu());
    let fold = Fold::open(FoldParts {
        journal: journal.clone(),
        catalog: catalog.clone(),
        store: Store::open(&dir.join("store")).expect("opens"),
        clock: Arc::clone(&clock),
        stage: Health::new(clock).stage("fold", None),
        config: FoldConfig::default(),
    })
    .await
    .expect("opens");
    let (handle, token) = (fold.handle(), CancellationToken::new());
    let running = tokio::spawn(fold.run(token.clone()));
    while handle.position() < last {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    token.cancel();
    running.await.expect("no panic").expect("flushed");
    let took = Took {
        wall: began.0.elapsed(),
        cpu: cpu() - began.1,
        points: handle.flushes().rows,
        file_bytes: handle.flushes().bytes,
    };
    catalog.close().await;
    journal.close();
    committer.join().expect("ends");
    took
}

fn fold(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group("fold_and_write_1000_series");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100));
    for (samples, rounds) in [(100, 10), (1, 100)] {
        let (bodies, points) = envelopes(samples, rounds);
        group.throughput(Throughput::Elements(points));
        let mut cpu = Duration::ZERO;
        let (mut written, mut bytes) = (0, 0);
        group.bench_function(BenchmarkId::new("samples_per_batch", samples), |bencher| {
            bencher.iter_custom(|times| {
                (0..times).fold(Duration::ZERO, |sum, _| {
                    let dir = tempfile::tempdir().expect("a directory");
                    let took = runtime.block_on(run(dir.path(), &bodies));
                    assert_eq!(took.points, points, "every point is in a file");
                    cpu += took.cpu;
                    written += took.points;
                    bytes += took.file_bytes;
                    sum + took.wall
                })
            });
        });
        let rate = written as f64 / cpu.as_secs_f64() / 1e6;
        let size = bytes as f64 / written as f64;
        eprintln!(
            "{samples} samples per batch: {rate:.2} M points per CPU-second, {size:.2} B per point"
        );
    }
    group.finish();
}

criterion_group!(benches, fold);
criterion_main!(benches);
