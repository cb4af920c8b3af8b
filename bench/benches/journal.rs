//! The journal's hot paths on the real disk: records appended and committed in groups, a journal read, a journal opened.
//!
//! A group is appended at once and waited for, as ingest does with what one request brings; the disk's own sync time is
//! part of it. The files lie in the system's temporary directory, or in `TMPDIR`.

#![allow(missing_docs)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::{Builder, Runtime};
use weir_journal::{Disk, Item, Journal, Options};

const READ_BYTES: usize = 128 << 20;

fn options() -> Options {
    Options {
        queue_bytes: 64 << 20,
        ..Options::default()
    }
}

fn open(dir: &Path) -> (Journal, JoinHandle<()>) {
    let (journal, committer) =
        Journal::open(Arc::new(Disk), dir, options()).expect("a temporary directory can be used");
    (journal, committer.spawn().expect("a thread can be started"))
}

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .build()
        .expect("a runtime can be built")
}

/// Bytes that do not repeat within a record.
fn body(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at ^ (at >> 8)) as u8).collect()
}

fn append(journal: &Journal, body: &[u8]) -> u64 {
    journal
        .try_append(1, &[body])
        .expect("the queue has room for a group")
}

fn commit(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut bench = criterion.benchmark_group("commit");
    for bytes in [4 << 10, 64 << 10] {
        for group in [1, 16, 256] {
            let dir = tempfile::tempdir().expect("a temporary directory can be made");
            let (journal, writer) = open(dir.path());
            let body = body(bytes);
            bench.throughput(Throughput::Bytes((bytes * group) as u64));
            let name = BenchmarkId::new(format!("{}KiB", bytes >> 10), group);
            bench.bench_function(name, |bencher| {
                bencher.iter(|| {
                    let first = append(&journal, &body);
                    let last = (1..group).fold(first, |_, _| append(&journal, &body));
                    let durable = runtime.block_on(journal.committed(last));
                    durable.expect("the disk takes it");
                    journal.release(last).expect("files can be removed");
                });
            });
            drop(journal);
            writer.join().expect("the writer ends");
        }
    }
    bench.finish();
}

fn read(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut bench = criterion.benchmark_group("read");
    bench.throughput(Throughput::Bytes(READ_BYTES as u64));
    for bytes in [4 << 10, 64 << 10] {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let (journal, writer) = open(dir.path());
        let body = body(bytes);
        let records = READ_BYTES / bytes;
        for at in 0..records {
            let number = append(&journal, &body);
            if at % 64 == 63 {
                let durable = runtime.block_on(journal.committed(number));
                durable.expect("the disk takes it");
            }
        }
        bench.bench_function(
            BenchmarkId::new("scan", format!("{}KiB", bytes >> 10)),
            |bencher| {
                bencher.iter(|| {
                    let mut reader = journal.reader(1);
                    let mut seen = 0;
                    while let Some(item) = reader.next().expect("the files can be read") {
                        seen += usize::from(matches!(black_box(item), Item::Record { .. }));
                    }
                    assert_eq!(seen, records);
                });
            },
        );
        drop(journal);
        writer.join().expect("the writer ends");
        bench.bench_function(
            BenchmarkId::new("open", format!("{}KiB", bytes >> 10)),
            |bencher| {
                bencher.iter(|| {
                    let opened = Journal::open(Arc::new(Disk), dir.path(), options());
                    let (journal, _writer) = opened.expect("it can be opened again");
                    assert_eq!(journal.next(), records as u64 + 1);
                });
            },
        );
    }
    bench.finish();
}

criterion_group! {
    name = journal;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(5));
    targets = commit, read
}
criterion_main!(journal);
