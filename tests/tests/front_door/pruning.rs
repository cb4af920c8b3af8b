//! How little of the stored data a question reads: files by time, row groups and pages by device and time.

use std::time::Duration;

use serde_json::json;
use weir_tests::http as client;
use weir_tests::sender::{Call, Stream};
use weir_tests::wait::until;
use weir_tests::world::Sink;

/// 2023-11-14T00:00:00Z.
const BASE: i64 = 1_699_920_000_000_000_000;
const SECOND: i64 = 1_000_000_000;

const TEN: [u8; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

/// Rows of each device: a few pages.
const ROWS: i64 = 9_000;

/// Sends the same stretch of time for each of the devices and waits until it is in a file.
async fn send(sink: &mut Sink, (from, rows): (i64, i64), tag: u8, devices: &[u8]) {
    for device in devices {
        let mut stream = Stream::new(&format!("device-{device:02}"), tag + device);
        let mut call = Call::open(sink.grpc, &stream).await.expect("welcome");
        for part in 0..9 {
            let times: Vec<i64> = (0..rows / 9)
                .map(|i| BASE + (from + part * rows / 9 + i) * SECOND)
                .collect();
            let values: Vec<f64> = (0..rows / 9).map(|i| (i % 40) as f64 / 4.0).collect();
            call.batch(stream.batch(&times, &values)).await;
        }
        call.acked(9).await.expect("an ack");
    }
    // A stop writes what is in memory.
    sink.terminate().await;
    assert!(sink.launch().await.is_none(), "{}", sink.log());
}

/// What `EXPLAIN ANALYZE` says of a name, as `180.0 K total → 40.00 K matched` or `2`: all, and what was left.
fn counted(plan: &str, name: &str) -> (f64, f64) {
    let name = format!("{name}=");
    let rest = plan
        .split(&name)
        .nth(1)
        .unwrap_or_else(|| panic!("no {name} in {plan}"));
    let said = rest.split([',', ']']).next().unwrap_or_default();
    let number = |text: &str| {
        let mut words = text.split_whitespace();
        let number: f64 = words.next().and_then(|n| n.parse().ok()).expect("a number");
        match words.next() {
            Some("K") => number * 1e3,
            Some("M") => number * 1e6,
            _ => number,
        }
    };
    match said.split_once(" total → ") {
        Some((all, left)) => (number(all), number(left)),
        None => (number(said), number(said)),
    }
}

/// Ten devices of 9,000 rows in each of two files. Fails when a file is written without its page index or without statistics,
/// when its rows are not sorted by device, or when files are not chosen by their times.
#[tokio::test]
async fn a_question_reads_the_pages_it_needs() {
    let place = tempfile::tempdir().expect("a directory");
    let settings = [
        ("STORE_FLUSH_INTERVAL", "1h"),
        ("COMPACTION_INTERVAL", "1h"),
    ];
    let mut sink = Sink::start(place.path(), &settings).await;
    send(&mut sink, (0, ROWS), 1, &TEN).await;
    send(&mut sink, (ROWS, ROWS), 101, &TEN).await;
    let plan = async |condition: &str| {
        let query = format!("explain analyze select sum(value) from samples where {condition}");
        let rows = sink.sql(&query).await;
        rows[0][1].as_str().expect("a plan").to_owned()
    };
    // A page of names has 20,000 rows: those of a device lie in at most two.
    let one = plan("device = 'device-03'").await;
    assert_eq!(counted(&one, "files_opened").0, 2.0, "{one}");
    let (all, left) = counted(&one, "page_index_rows_pruned");
    assert!(all == 180e3 && left <= 80e3, "{one}");

    let early = plan("device = 'device-03' and time < '2023-11-14T01:00:00Z'").await;
    assert_eq!(counted(&early, "files_opened").0, 1.0, "{early}");
    let (all, left) = counted(&early, "page_index_rows_pruned");
    assert!(all == 90e3 && left <= 20e3, "{early}");

    let other = plan("attributes = 'x'").await;
    assert_eq!(
        counted(&other, "row_groups_pruned_statistics"),
        (2.0, 0.0),
        "{other}"
    );
    let none = plan("metric = 'probe.other'").await;
    assert!(none.contains("EmptyExec"), "no file has it: {none}");
}

/// What a question about one device opens does not grow with the devices: merges put a day into files that follow each
/// other, and the catalog knows what is in each. Red when a merge writes all of a day's devices into each of its files, when
/// the catalog forgets names, and when names do not choose files.
#[tokio::test]
async fn more_devices_make_no_more_files_to_open_for_one() {
    let place = tempfile::tempdir().expect("a directory");
    let settings = [
        ("STORE_FLUSH_INTERVAL", "1h"),
        ("COMPACTION_INTERVAL", "1s"),
        ("COMPACTION_MIN_FILES", "3"),
        ("COMPACTION_MAX_ROWS", "2000"),
    ];
    let mut sink = Sink::start(place.path(), &settings).await;
    let one =
        "select count(value) from samples where device = 'device-13' and metric = 'probe.value'";
    let others: Vec<u8> = (0..10).chain(20..40).collect();
    for devices in [&[11, 12, 13, 14, 15][..], &others] {
        for part in 0..3 {
            let tag = 60 * u8::try_from(part).expect("few") + 1;
            send(&mut sink, (part * 450, 450), tag, devices).await;
        }
        until("few files to open", Duration::from_secs(60), || async {
            let plan = sink.sql(&format!("explain analyze {one}")).await;
            let plan = plan[0][1].as_str().expect("a plan");
            (counted(plan, "files_opened").0 <= 2.0).then_some(())
        })
        .await;
        assert_eq!(sink.sql(one).await, [[json!(1350)]], "{devices:?}");
    }
    let (_, metrics) = client::get(sink.http, "/metrics").await.expect("metrics");
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    // Since the last start, which was before the last two questions.
    for (name, least) in [("read", 2), ("skipped", 40)] {
        let name = format!("\nweir_sink_query_files_{name}_total ");
        let (_, rest) = metrics.split_once(&name).expect("a metric");
        let count: u64 = rest
            .lines()
            .next()
            .and_then(|n| n.parse().ok())
            .expect("a count");
        assert!(count >= least, "{name}{count}");
    }
    let audit = sink.audit();
    assert!(audit.status.success(), "{audit:?}");
}
