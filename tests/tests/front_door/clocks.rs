//! Wrong clocks of devices: nothing is dropped, what can be known is put right, and each reading says
//! what its time is worth. The device's clocks are the test's own; the sink's is this machine's.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use weir_tests::sender::{Call, DeviceClock, Stream};
use weir_tests::world::Sink;

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * SECOND;

/// A message on loopback takes no longer, on a busy machine.
const DELAY: i64 = 5 * SECOND;

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(now.expect("after 1970").as_nanos()).expect("before 2262")
}

/// One stored reading.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    time: i64,
    value: u32,
    quality: String,
    shift: Option<i64>,
}

async fn rows(sink: &Sink, agent: &str) -> Vec<Row> {
    sink.folded().await;
    let query = format!(
        "select cast(time as bigint), value, time_quality, time_shift_ns from samples \
         where agent = '{agent}' order by value"
    );
    let found = sink.sql(&query).await;
    let row = |row: &Vec<serde_json::Value>| Row {
        time: row[0].as_i64().expect("a time"),
        value: row[1].as_f64().expect("a number") as u32,
        quality: row[2].as_str().expect("a quality").to_owned(),
        shift: row[3].as_i64(),
    };
    found.iter().map(row).collect()
}

fn assert_quality(rows: &[Row], values: std::ops::Range<usize>, quality: &str) {
    for row in &rows[values] {
        assert_eq!(row.quality, quality, "{row:?}");
        assert_eq!(row.shift.is_some(), quality == "rebased", "{row:?}");
    }
}

/// What counts in every case: each reading once, and times that rise as they were taken.
fn assert_rises(rows: &[Row], count: usize) {
    let values: Vec<u32> = rows.iter().map(|row| row.value).collect();
    let expected: Vec<u32> = (0..).take(count).collect();
    assert_eq!(values, expected);
    assert!(rows.is_sorted_by(|a, b| a.time < b.time), "{rows:?}");
}

async fn sink(place: &Path) -> Sink {
    Sink::start(place, &[("STORE_FLUSH_INTERVAL", "1h")]).await
}

/// Reads ten values with a clock that is `wrong`, sets it right, reads ten more, delivers all; what the
/// sink shows must be the times at which they were read. Fails when the fold does not add the shift.
async fn set_right_before_the_call(tag: u8, wrong_by: i64) {
    let place = tempfile::tempdir().expect("a directory");
    let mut sink = sink(place.path()).await;
    let mut stream = Stream::new("device", tag);
    let begun = now() - 20 * SECOND;
    let mut clock = DeviceClock::new(tag, begun + wrong_by);
    clock.advance(Duration::ZERO);
    stream.clock = Some(clock);
    let before = stream.read(10, 0.0);
    stream.clock.as_mut().expect("it has one").wall_ns -= wrong_by;
    let after = stream.read(10, 10.0);
    let mut call = Call::open(sink.grpc, &stream).await.expect("welcome");
    call.batch(before).await;
    call.batch(after).await;
    call.acked(2).await.expect("an ack");
    let found = rows(&sink, "device").await;
    assert_rises(&found, 20);
    assert_quality(&found, 0..10, "rebased");
    assert_quality(&found, 10..20, "ok");
    for (row, i) in found.iter().zip(0..) {
        let off = (row.time - begun - i * SECOND).abs();
        assert!(off < DELAY, "off by {off} ns: {row:?}");
        let observed = row.time - row.shift.unwrap_or(0);
        let expected = begun + i * SECOND + if i < 10 { wrong_by } else { 0 };
        assert_eq!(observed, expected, "the original is recoverable");
    }
    let counted = sink
        .sql("select time_quality, count(*) from samples group by 1 order by 1")
        .await;
    assert_eq!(
        counted,
        [
            [serde_json::json!("ok"), 10.into()],
            ["rebased".into(), 10.into()]
        ]
    );
    let latest = sink
        .sql("select value, cast(time as bigint) from latest")
        .await;
    assert_eq!(latest[0][0], 19.0);
    // The same after a replay of the journal.
    sink.kill();
    sink.restart().await;
    assert_eq!(rows(&sink, "device").await, found);
}

#[tokio::test]
async fn a_clock_in_1970_that_is_set_before_the_first_call() {
    set_right_before_the_call(31, -now()).await;
}

#[tokio::test]
async fn a_clock_that_is_set_back_by_an_hour() {
    set_right_before_the_call(32, 3600 * SECOND).await;
}

#[tokio::test]
async fn a_clock_that_was_behind_by_a_day() {
    set_right_before_the_call(33, -DAY).await;
}

#[tokio::test]
async fn a_clock_that_ran_months_ahead() {
    set_right_before_the_call(34, 90 * DAY).await;
}

/// Readings of a boot that never met the sink stay as observed; those of the next boot are right.
/// Fails when a sample counts for every boot of its agent.
#[tokio::test]
async fn a_boot_that_never_met_the_sink_stays_as_observed() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = sink(place.path()).await;
    let mut stream = Stream::new("device", 35);
    stream.clock = Some(DeviceClock::new(1, 100 * SECOND));
    let first_boot = stream.read(5, 0.0);
    stream.clock = Some(DeviceClock::new(2, now()));
    let second_boot = stream.read(5, 5.0);
    let mut call = Call::open(sink.grpc, &stream).await.expect("welcome");
    call.batch(first_boot).await;
    call.batch(second_boot).await;
    call.acked(2).await.expect("an ack");
    let found = rows(&sink, "device").await;
    assert_rises(&found, 10);
    assert_quality(&found, 0..5, "unknown");
    assert_quality(&found, 5..10, "ok");
    assert_eq!(found[0].time, 100 * SECOND);
}

/// The earlier boot met the sink, so that its backlog is put right under the next boot.
#[tokio::test]
async fn the_backlog_of_a_boot_that_met_the_sink_is_put_right_under_the_next() {
    let place = tempfile::tempdir().expect("a directory");
    let mut sink = sink(place.path()).await;
    let mut stream = Stream::new("device", 36);
    let begun = now();
    stream.clock = Some(DeviceClock::new(1, 100 * SECOND));
    let sent = stream.read(1, 0.0);
    let mut call = Call::open(sink.grpc, &stream).await.expect("welcome");
    call.batch(sent).await;
    call.acked(1).await.expect("an ack");
    drop(call);
    sink.kill();
    let backlog = stream.read(5, 1.0);
    stream.clock = Some(DeviceClock::new(2, now()));
    sink.restart().await;
    let mut call = Call::open(sink.grpc, &stream).await.expect("welcome");
    call.batch(backlog).await;
    call.acked(2).await.expect("an ack");
    let found = rows(&sink, "device").await;
    assert_rises(&found, 6);
    assert_quality(&found, 0..6, "rebased");
    // Hello was said after the first reading, on the device's clock one second later.
    let first = found[0].time + SECOND;
    assert!(
        (begun..begun + DELAY).contains(&first),
        "{} s",
        (first - begun) / SECOND
    );
    assert_eq!(found[5].time - found[0].time, 5 * SECOND);
}

/// The clock is set while the call lasts: the request says so. Fails when ingest ignores the clock of a
/// request.
#[tokio::test]
async fn a_step_during_the_call_is_told_with_the_next_request() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = sink(place.path()).await;
    let mut stream = Stream::new("device", 37);
    stream.clock = Some(DeviceClock::new(1, now() - 7200 * SECOND));
    let wrong = stream.read(5, 0.0);
    let mut call = Call::open(sink.grpc, &stream).await.expect("welcome");
    call.batch(wrong).await;
    stream.clock.as_mut().expect("it has one").wall_ns += 7200 * SECOND;
    let right = stream.read(5, 5.0);
    call.batch_and_clock(right, &stream).await;
    call.acked(2).await.expect("an ack");
    let found = rows(&sink, "device").await;
    assert_rises(&found, 10);
    assert_quality(&found, 0..5, "suspect");
    assert_quality(&found, 5..10, "ok");
}

/// Clocks that were never set, on a device alone: 1970 is moved, a time that may be is not. Fails when
/// the sink's word is enough against a clock that may be right.
#[tokio::test]
async fn a_clock_that_is_never_set() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = sink(place.path()).await;
    for (tag, agent, wall, quality) in [
        (38, "in-1970", 0, "rebased"),
        (39, "months-ahead", now() + 90 * DAY, "suspect"),
        (40, "minutes-behind", now() - 300 * SECOND, "suspect"),
    ] {
        let mut stream = Stream::new(agent, tag);
        stream.clock = Some(DeviceClock::new(tag, wall));
        let batch = stream.read(5, 0.0);
        let begun = now();
        let mut call = Call::open(sink.grpc, &stream).await.expect("welcome");
        call.batch(batch).await;
        call.acked(1).await.expect("an ack");
        let found = rows(&sink, agent).await;
        assert_rises(&found, 5);
        assert_quality(&found, 0..5, quality);
        if quality == "suspect" {
            assert_eq!(found[0].time, wall, "as observed");
        } else {
            let first = found[0].time + 5 * SECOND;
            assert!((begun..begun + DELAY).contains(&first), "{first}");
        }
    }
}

/// An agent that says nothing of its clocks is served as before.
#[tokio::test]
async fn an_agent_without_samples() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = sink(place.path()).await;
    let mut stream = Stream::new("device", 41);
    let times = [now(), now() + SECOND, now() + 2 * SECOND];
    let mut call = Call::open(sink.grpc, &stream).await.expect("welcome");
    call.batch(stream.batch(&times, &[0.0, 1.0, 2.0])).await;
    call.acked(1).await.expect("an ack");
    let found = rows(&sink, "device").await;
    assert_rises(&found, 3);
    assert_quality(&found, 0..3, "unknown");
    assert_eq!(found[0].time, times[0]);
}

/// The agent itself: its header, Hello and the sink agree, so its readings are `ok` and stay as they
/// are. Fails when the agent leaves the clock out of Hello.
#[tokio::test]
async fn the_agent_on_a_good_clock_is_ok() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = sink(place.path()).await;
    let settings =
        crate::stored::counting(&[("SAMPLE_INTERVAL", "100ms"), ("BATCH_MAX_AGE", "500ms")]);
    let mut agent =
        weir_tests::world::Agent::start(place.path(), "edge", &sink.url(), &settings).await;
    crate::stored::wait_for(&sink, "edge", 20).await;
    agent.terminate().await;
    let found = sink
        .sql("select time_quality, count(*) from samples group by 1")
        .await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0][0], "ok");
}
