//! Fold and write: from durable journal records to committed Parquet files.
//!
//! Measured: decoding, folding, sorting, writing and syncing files, the catalog's transactions
//! and releasing the journal, for 1000 series. Records are in the journal before the clock
//! starts, as after a restart: the dearer path, because every batch is decoded here. Also
//! printed: points per CPU-second of the whole process and bytes of Parquet per point.
#![allow(clippy::print_stderr, missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use prost::Message;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use weir_journal::{Disk, Journal, Options};
use weir_process::clock::{Clock, SystemClock};
use weir_process::health::Health;
use weir_proto::v1;
use weir_sink::catalog::Catalog;
use weir_sink::envelope::{self, Envelope};
use weir_sink::fold::{Fold, FoldConfig, FoldParts};
use weir_sink::store::Store;

#[path = "support/plant.rs"]
mod plant;

use plant::{Sent, cpu};

/// What one run took.
struct Took {
    wall: Duration,
    cpu: Duration,
    points: u64,
    file_bytes: u64,
}

fn envelope(sent: &Sent) -> Vec<u8> {
    let record = v1::Record {
        record: Some(v1::record::Record::Batch(sent.batch.clone())),
    };
    Envelope {
        received_ns: sent.first_ns,
        tenant: "default".into(),
        agent: format!("agent-{:04}", sent.device),
        stream_id: Bytes::copy_from_slice(&plant::stream_id(sent.device)),
        record: record.encode_to_vec().into(),
        ..Envelope::default()
    }
    .encode_to_vec()
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
        let (sent, points) = plant::batches(samples, rounds);
        let bodies: Vec<Vec<u8>> = sent.iter().map(envelope).collect();
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
