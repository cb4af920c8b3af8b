//! The three questions that people ask most, from SQL text to answer, over one file and over a
//! hundred: the latest value of 1000 series, one series for an hour, ten series for a day by
//! minute. 1000 series, one reading a minute each, one day: 1,440,000 rows. The files hold one
//! stretch of time each, sorted like the sink's, and everything is warm after the first round.

#![allow(missing_docs)]

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, DictionaryArray, Float64Array, Int32Array, RecordBatch, StringArray,
    TimestampNanosecondArray,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use object_store::local::LocalFileSystem;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use tempfile::TempDir;
use weir_query::{DataFile, Engine, Limits, Tables, View};

/// 2026-03-01T00:00:00Z.
const START: i64 = 1_772_323_200_000_000_000;
const MINUTE: i64 = 60_000_000_000;
const DAY_MINUTES: i64 = 24 * 60;
const METRICS: i32 = 10;
const DEVICES: i32 = 100;

const LATEST: &str = "select device, metric, value, time from latest order by 1, 2";
const ONE_HOUR: &str = "select time, value from samples where metric = 'metric-3' and device = 'device-42' \
                        and time >= '2026-03-01T12:00:00Z' and time < '2026-03-01T13:00:00Z' order by time";
const BY_MINUTE: &str = "select device, date_trunc('minute', time) as minute, avg(value) from samples \
                         where metric = 'metric-3' and device in ('device-0', 'device-1', 'device-2', 'device-3', \
                         'device-4', 'device-5', 'device-6', 'device-7', 'device-8', 'device-9') group by 1, 2";

/// Every series at every minute of `minutes`, sorted by metric, device, time.
fn readings(minutes: Range<i64>) -> RecordBatch {
    let mut times = Vec::new();
    let mut devices = Vec::new();
    let mut metrics = Vec::new();
    let mut values = Vec::new();
    for metric in 0..METRICS {
        for device in 0..DEVICES {
            for minute in minutes.clone() {
                times.push(START + minute * MINUTE);
                devices.push(device);
                metrics.push(metric);
                // Tenths, as sensors give them, without a pattern that a dictionary would swallow.
                let tenths = (minute * 37 + i64::from(device * 11 + metric * 5)) % 997;
                values.push(tenths as f64 / 10.0);
            }
        }
    }
    let words = |kind: &str, keys: Vec<i32>, count: i32| -> ArrayRef {
        let names: StringArray = (0..count).map(|n| Some(format!("{kind}-{n}"))).collect();
        Arc::new(DictionaryArray::new(
            Int32Array::from(keys),
            Arc::new(names),
        ))
    };
    let columns: [(&str, ArrayRef); 4] = [
        (
            "time",
            Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC")),
        ),
        ("device", words("device", devices, DEVICES)),
        ("metric", words("metric", metrics, METRICS)),
        ("value", Arc::new(Float64Array::from(values))),
    ];
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}

fn write(dir: &TempDir, files: i64) -> Vec<DataFile> {
    let zstd = ZstdLevel::try_new(1).expect("a level that exists");
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(zstd))
        .build();
    let write_one = |at: i64| {
        let minutes = at * DAY_MINUTES / files..(at + 1) * DAY_MINUTES / files;
        let batch = readings(minutes.clone());
        let path = format!("{files}-{at}.parquet");
        let full = dir.path().join(&path);
        let file = File::create(&full).expect("a file in the temporary directory");
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties.clone()))
            .expect("a schema that Parquet has");
        writer.write(&batch).expect("room on the disk");
        writer.close().expect("room on the disk");
        DataFile {
            path,
            bytes: full.metadata().expect("just written").len(),
            rows: batch.num_rows() as u64,
            min_ns: START + minutes.start * MINUTE,
            max_ns: START + (minutes.end - 1) * MINUTE,
            crc: None,
            names: None,
        }
    };
    (0..files).map(write_one).collect()
}

fn tables(dir: &TempDir, files: i64) -> Tables {
    let latest = readings(DAY_MINUTES - 1..DAY_MINUTES);
    let store = LocalFileSystem::new_with_prefix(dir.path()).expect("the temporary directory");
    Tables {
        owner: "bench".into(),
        store: Arc::new(store),
        samples_schema: latest.schema(),
        files: Arc::new(write(dir, files)),
        fresh: Vec::new(),
        views: vec![View {
            name: "latest".to_owned(),
            schema: latest.schema(),
            batches: vec![latest],
        }],
    }
}

fn query(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let engine = Engine::new(Limits {
        max_rows: 20_000,
        ..Limits::default()
    })
    .expect("threads");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut group = c.benchmark_group("query");
    group
        .sample_size(20)
        .measurement_time(Duration::from_secs(4));
    for files in [1, 100] {
        let tables = tables(&dir, files);
        for (name, sql, rows) in [
            ("latest_1000_series", LATEST, 1000),
            ("one_series_one_hour", ONE_HOUR, 60),
            ("ten_series_a_day_by_minute", BY_MINUTE, 14_400),
        ] {
            group.throughput(Throughput::Elements(rows));
            group.bench_with_input(BenchmarkId::new(name, files), &tables, |b, tables| {
                b.iter(|| {
                    let answer = runtime.block_on(engine.run(sql, tables.clone()));
                    let answer = answer.expect("an answer");
                    assert_eq!(answer.rows() as u64, rows, "{name}");
                    answer
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, query);
criterion_main!(benches);
