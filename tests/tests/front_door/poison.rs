//! Readings on which the sink's own program fails, every time it sees them: they are set aside and counted to
//! the reading, everybody else's are stored once, and the sink never stands still.

use serde_json::Value;
use weir_fault::Trap;
use weir_tests::http as client;
use weir_tests::sender::{Call, Stream};
use weir_tests::wait::until;
use weir_tests::world::{Faults, Sink};

use crate::stored::LIMIT;

const BASE: i64 = 1_700_000_000_000_000_000;

/// (produced, stored, dropped as `fold_error`) of an agent, after a check that its line closes.
async fn figures(sink: &Sink, agent: &str) -> (u64, u64, u64) {
    let lines = sink.ledger().await;
    let line = lines.iter().find(|line| line["agent"] == agent);
    let line = line.unwrap_or_else(|| panic!("no stream of {agent}"));
    assert_eq!(line["unexplained"], 0, "{line}");
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    (
        count(&line["produced"]),
        count(&line["stored"]),
        count(&line["dropped"]["fold_error"]),
    )
}

/// Every value stored of an agent.
async fn values(sink: &Sink, agent: &str) -> Vec<f64> {
    let query = format!("select value from samples where device = '{agent}' order by value");
    let rows = sink.sql(&query).await;
    rows.iter()
        .map(|row| row[0].as_f64().expect("a number"))
        .collect()
}

/// Rows this life of the sink has written to files that count.
async fn rows_in_files(sink: &Sink) -> f64 {
    let (_, body) = client::get(sink.http, "/metrics").await.expect("metrics");
    let text = String::from_utf8_lossy(&body);
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix("weir_sink_store_readings_total "));
    value.expect("it is there").parse().expect("a number")
}

/// Both agents come to stand as they must: all of `good` stored once; of `bad` nothing, or all. While the
/// fold begins anew queries miss what it folds again.
async fn settles(sink: &Sink, bad_is_stored: bool) {
    let all: Vec<f64> = (0..9).map(f64::from).collect();
    let (figures_of_bad, values_of_bad) = match bad_is_stored {
        true => ((9, 9, 0), all.clone()),
        false => ((9, 0, 9), Vec::new()),
    };
    until("both agents to be accounted for", LIMIT, || async {
        let found = (figures(sink, "good").await, figures(sink, "bad").await);
        let stored = (values(sink, "good").await, values(sink, "bad").await);
        let is_right =
            found == ((9, 9, 0), figures_of_bad) && stored == (all.clone(), values_of_bad.clone());
        is_right.then_some(())
    })
    .await;
}

/// Delivers three batches of each, one after the other, to a sink that fails on `bad`, and restarts it
/// with the fault and without.
async fn fails_on_bad(trap: Trap, bad_is_stored: bool) {
    let place = tempfile::tempdir().expect("a directory");
    let mut sink = Sink::start(place.path(), &[("STORE_FLUSH_INTERVAL", "500ms")]).await;
    sink.kill();
    sink.faults = Faults::trap(trap, "bad");
    sink.restart().await;
    let (mut good, mut bad) = (Stream::new("good", 61), Stream::new("bad", 62));
    let mut calls = [
        Call::open(sink.grpc, &good).await.expect("welcome"),
        Call::open(sink.grpc, &bad).await.expect("welcome"),
    ];
    for batch in 0..3_i64 {
        let times: Vec<i64> = (0..3).map(|i| BASE + batch * 3 + i).collect();
        let of = |time: &i64| (time - BASE) as f64;
        let values: Vec<f64> = times.iter().map(of).collect();
        calls[0].batch(good.batch(&times, &values)).await;
        calls[1].batch(bad.batch(&times, &values)).await;
    }
    for call in &mut calls {
        call.acked(3).await.expect("an ack");
    }
    settles(&sink, bad_is_stored).await;
    let rows = if bad_is_stored { 18.0 } else { 9.0 };
    until("all rows to be in files", LIMIT, || async {
        (rows_in_files(&sink).await == rows).then_some(())
    })
    .await;
    drop(calls);
    sink.restart().await;
    settles(&sink, bad_is_stored).await;
    // What is committed stays, also in a program without the fault.
    assert!(sink.terminate().await.success());
    sink.faults = Faults::none();
    sink.restart().await;
    settles(&sink, bad_is_stored).await;
    // Goes on where it was.
    let mut call = Call::open(sink.grpc, &bad).await.expect("welcome");
    assert_eq!(call.welcome.durable_through, 3);
    call.batch(bad.batch(&[BASE + 9], &[9.0])).await;
    call.acked(4).await.expect("an ack");
    let stored = if bad_is_stored { 10 } else { 1 };
    until("the next batch to be stored", LIMIT, || async {
        (figures(&sink, "bad").await.1 == stored).then_some(())
    })
    .await;
}

/// Half of the batch is in memory when it happens. Fails when the panic is not caught, when the fold goes on
/// with a half changed state, or when a record that was set aside is not counted.
#[tokio::test]
async fn a_record_that_makes_the_fold_panic_is_set_aside_and_counted() {
    fails_on_bad(Trap::FoldRow, false).await;
}

/// Fails when the fold ends with a flush that cannot be done, or tries the same one again.
#[tokio::test]
async fn readings_that_cannot_be_written_are_set_aside_and_counted() {
    fails_on_bad(Trap::WriterSeries, false).await;
}

/// Each record can be written, two together cannot. Fails when records that were tried are not flushed
/// one by one.
#[tokio::test]
async fn readings_that_cannot_be_written_together_are_written_apart() {
    fails_on_bad(Trap::WriterTogether, true).await;
}
