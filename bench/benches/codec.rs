//! Encoding and decoding batches, per reading. Sizes are the two ends of what agents send: a
//! long batch of few series and a single scrape; numbers as sensors give them, and noise that
//! no decimal fits. Prints the bytes per reading of each shape before it measures.

#![allow(missing_docs, clippy::print_stderr)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use weir_proto::batch::{Block, Column, Values, decode, encode};

const SECOND: i64 = 1_000_000_000;

/// `columns` series that walk in steps of a tenth, or fill all 52 bits.
fn columns(rng: &mut StdRng, moments: usize, columns: u32, noise: bool) -> Vec<Column> {
    let mut column = |series| {
        let mut tenths = rng.random_range(100..400);
        let value = |_| {
            tenths += rng.random_range(-3..=3);
            let noise = if noise { rng.random::<f64>() } else { 0.0 };
            f64::from(tenths) / 10.0 + noise
        };
        Column {
            series,
            values: Values::Numbers((0..moments).map(value).collect()),
            present: None,
        }
    };
    (1..=columns).map(&mut column).collect()
}

/// One block; with `jitter`, each moment is late by up to 50 us.
fn block(moments: usize, series: u32, noise: bool, jitter: bool) -> Block {
    let mut rng = StdRng::seed_from_u64(7);
    let columns = columns(&mut rng, moments, series, noise);
    let time = |moment| {
        let late = if jitter {
            rng.random_range(0..50_000)
        } else {
            0
        };
        1_760_000_000 * SECOND + moment * SECOND + late
    };
    Block {
        times: (0..moments as i64).map(time).collect(),
        columns,
    }
}

fn codec(criterion: &mut Criterion) {
    let shapes = [
        ("100x10", block(100, 10, false, false)),
        ("100x10_jitter", block(100, 10, false, true)),
        ("100x10_noise", block(100, 10, true, false)),
        ("1x10", block(1, 10, false, false)),
    ];
    for (name, block) in shapes {
        let blocks = [block];
        let encoded = encode(&blocks);
        let header = encoded.header();
        let per_reading = encoded.payload.len() as f64 / encoded.readings as f64;
        eprintln!("{name}: {per_reading:.3} bytes per reading");

        let mut group = criterion.benchmark_group("codec");
        group.throughput(Throughput::Elements(encoded.readings));
        group.bench_function(BenchmarkId::new("encode", name), |bencher| {
            bencher.iter(|| encode(&blocks));
        });
        group.bench_function(BenchmarkId::new("decode", name), |bencher| {
            bencher.iter(|| decode(&header, &encoded.payload).expect("own batch decodes"));
        });
        group.finish();
    }
}

criterion_group!(benches, codec);
criterion_main!(benches);
