//! Readings under wrong clocks, through the whole fold: what is moved, where it is filed, and that a
//! replay gives the same.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, TimestampNanosecondType};
use bytes::Bytes;
use prost::Message;
use weir_proto::v1;

use super::sender::Sender;
use super::world::{NOON, Running, SECOND, World, read_file};
use crate::envelope::{ClockSample, Envelope};
use crate::model::DEFAULT_TENANT;

const BOOT: [u8; 16] = [5; 16];

/// (time, quality, shift) of one row.
type Row = (i64, String, Option<i64>);

/// A batch read under `BOOT` from `monotonic` seconds on, one reading a second, when the agent's clock
/// said `wall` at the first.
fn batch(sender: &mut Sender, monotonic: i64, wall: i64) -> Envelope {
    let times: Vec<i64> = (0..3).map(|i| wall + i * SECOND).collect();
    let envelope = sender.numbers("pump", &["speed"], &times);
    let mut record = v1::Record::decode(envelope.record.clone()).expect("a record");
    let Some(v1::record::Record::Batch(batch)) = &mut record.record else {
        panic!("a batch")
    };
    let header = batch.header.as_mut().expect("a header");
    header.boot_id = BOOT.to_vec();
    header.monotonic_start_ns = (monotonic * SECOND).unsigned_abs();
    Envelope {
        record: record.encode_to_vec().into(),
        ..envelope
    }
}

/// At `monotonic` seconds the agent's clock said `agent` and the sink's `sink`.
fn with_sample(envelope: Envelope, monotonic: i64, agent: i64, sink: i64) -> Envelope {
    Envelope {
        clock: Some(ClockSample {
            boot_id: Bytes::copy_from_slice(&BOOT),
            monotonic_ns: (monotonic * SECOND).unsigned_abs(),
            agent_ns: agent,
            sink_ns: sink,
            own_machine: false,
        }),
        ..envelope
    }
}

fn rows_of(batch: &RecordBatch, found: &mut Vec<Row>) {
    let column = |name: &str| batch.column_by_name(name).expect("a column");
    let times = column("time").as_primitive::<TimestampNanosecondType>();
    let quality = arrow::compute::cast(column("time_quality"), &DataType::Utf8).expect("text");
    let quality = quality.as_string::<i32>();
    let shifts = column("time_shift_ns").as_primitive::<Int64Type>();
    for i in 0..batch.num_rows() {
        let shift = shifts.is_valid(i).then(|| shifts.value(i));
        found.push((times.value(i), quality.value(i).to_owned(), shift));
    }
}

async fn rows(sink: &Running) -> Vec<Row> {
    let view = sink.fold.view(DEFAULT_TENANT);
    let mut found = Vec::new();
    for file in view.files.iter() {
        let bytes = sink.store.get(&file.path).await.expect("there");
        read_file(bytes).iter().for_each(|b| rows_of(b, &mut found));
    }
    view.fresh.iter().for_each(|b| rows_of(b, &mut found));
    found.sort();
    found
}

fn expected(first: i64, quality: &str, shift: Option<i64>) -> Vec<Row> {
    let row = |i| (first + i * SECOND, quality.to_owned(), shift);
    (0..3).map(row).collect()
}

/// Fails when the shift is not applied, or is not stored beside the time.
#[tokio::test]
async fn readings_from_1970_come_to_their_own_day_and_the_original_is_kept() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    // 60 s after boot the clock still said 1970; at 100 s it was right.
    let old = with_sample(batch(&mut sender, 60, 60 * SECOND), 100, NOON, NOON);
    sink.deliver(&old).await;
    let number = sink
        .deliver(&batch(&mut sender, 110, NOON + 10 * SECOND))
        .await;
    sink.folded(number).await;
    let shift = NOON - 100 * SECOND;
    let mut all = expected(NOON - 40 * SECOND, "rebased", Some(shift));
    all.extend(expected(NOON + 10 * SECOND, "ok", None));
    assert_eq!(rows(&sink).await, all, "fresh");
    let mut latest = Vec::new();
    rows_of(&sink.fold.view(DEFAULT_TENANT).latest[0], &mut latest);
    assert_eq!(latest, all[5..], "by the time as it was moved");
    sink.flush().await;
    assert_eq!(rows(&sink).await, all, "in files");
    let view = sink.fold.view(DEFAULT_TENANT);
    let dates: Vec<&str> = view.files.iter().map(|f| f.date.as_str()).collect();
    assert_eq!(dates, ["2026-03-01"]);
    assert_eq!(view.files[0].min_ns, NOON - 40 * SECOND);
    assert_eq!(sink.fold.counts().rebased, 3);
    sink.stop().await.expect("stops");
}

/// Kills before and after a flush, so that samples and shifts come from the journal once and from the
/// snapshot once. Fails when the snapshot leaves out either of them.
#[tokio::test]
async fn a_replay_gives_the_same_times() {
    let mut results = Vec::new();
    for kills in [[false, false], [true, false], [false, true], [true, true]] {
        let world = World::new();
        let mut sink = world.start().await;
        let mut sender = Sender::new(1);
        let first = batch(&mut sender, 60, 60 * SECOND);
        sink.deliver(&with_sample(first, 100, 100 * SECOND, NOON + 4 * SECOND))
            .await;
        if kills[0] {
            sink.kill().await;
            sink = world.start().await;
        }
        // The better estimate does not move the next batch against the first.
        let second = batch(&mut sender, 70, 70 * SECOND);
        let second = with_sample(second, 130, 130 * SECOND, NOON + 30 * SECOND);
        let number = sink.deliver(&second).await;
        sink.folded(number).await;
        sink.flush().await;
        if kills[1] {
            sink.kill().await;
            sink = world.start().await;
        }
        let number = sink.deliver(&batch(&mut sender, 80, 80 * SECOND)).await;
        sink.folded(number).await;
        let all = rows(&sink).await;
        assert_eq!(all[0].0, NOON + 4 * SECOND - 40 * SECOND);
        assert_eq!(all.iter().filter(|row| row.2 == all[0].2).count(), 9);
        results.push(all);
        if kills[1] {
            sink.kill().await;
            let again = world.start().await;
            again.folded(number).await;
            assert_eq!(rows(&again).await, results[results.len() - 1]);
            again.stop().await.expect("stops");
        } else {
            sink.stop().await.expect("stops");
        }
    }
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
}

/// A suspect time of next year must not hide what is read after it. Fails when `latest` goes by time
/// alone.
#[tokio::test]
async fn a_clock_far_ahead_does_not_keep_latest() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    let year = 365 * 86_400 * SECOND;
    let ahead = batch(&mut sender, 60, NOON + year);
    sink.deliver(&with_sample(ahead, 60, NOON + year, NOON))
        .await;
    let set = with_sample(
        batch(&mut sender, 80, NOON + 20 * SECOND),
        80,
        NOON + 20 * SECOND,
        NOON + 20 * SECOND,
    );
    let number = sink.deliver(&set).await;
    sink.folded(number).await;
    let mut all = expected(NOON + 20 * SECOND, "ok", None);
    all.extend(expected(NOON + year, "suspect", None));
    assert_eq!(rows(&sink).await, all);
    let mut latest = Vec::new();
    rows_of(&sink.fold.view(DEFAULT_TENANT).latest[0], &mut latest);
    assert_eq!(latest, all[2..3]);
    sink.stop().await.expect("stops");
}

/// Envelopes of a sink that wrote no samples.
#[tokio::test]
async fn without_samples_readings_are_stored_as_observed() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    sink.deliver(&batch(&mut sender, 60, 60 * SECOND)).await;
    let number = sink.journal(&batch(&mut sender, 70, NOON)).await;
    sink.folded(number).await;
    let mut all = expected(60 * SECOND, "unknown", None);
    all.extend(expected(NOON, "unknown", None));
    assert_eq!(rows(&sink).await, all);
    sink.stop().await.expect("stops");
}
