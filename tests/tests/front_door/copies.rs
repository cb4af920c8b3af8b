//! Two copies of one machine: streams of one identity from two places.

use std::path::Path;

use serde_json::Value;
use weir_tests::proxy::Proxy;
use weir_tests::wait::until;
use weir_tests::world::{Agent, Sink};

use crate::stored::{LIMIT, assert_counted, counting, own, wait_own};

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).expect("a copy");
        }
    }
}

/// A stream as the sink's ledger has it.
async fn line(sink: &Sink, stream: &str) -> Value {
    let ledger = sink.ledger().await;
    let line = ledger.iter().find(|line| line["stream_id"] == stream);
    line.cloned().unwrap_or_default()
}

/// A stream as the agent has it.
pub(crate) async fn held(agent: &Agent, stream: &str) -> Option<Value> {
    let status = agent.status().await;
    let streams = status["streams"].as_array().expect("streams");
    let found = streams.iter().find(|line| line["stream_id"] == stream);
    found.cloned()
}

/// The disk of a machine is copied with its backlog, and both run. Whoever comes later delivers the
/// backlog; the other one says so, leaves it alone, keeps it, and goes on with what it reads. Each
/// reading is stored once.
///
/// Mutation: an ABORTED that is like any failure (`Failure::kind`) has it take the stream back at once.
#[tokio::test]
async fn copies_of_a_spool_deliver_the_same_stream_once() {
    let place = tempfile::tempdir().expect("a directory");
    let mut sink = Sink::start(place.path(), &[]).await;
    let settings = counting(&[
        ("SAMPLE_INTERVAL", "10ms"),
        ("BATCH_MAX_READINGS", "1"),
        ("REQUEST_MAX_BYTES", "1KiB"),
        ("SHUTDOWN_GRACE", "3s"),
    ]);
    sink.kill();
    let mut first = Agent::start(place.path(), "twin", &sink.url(), &settings).await;
    wait_own(&first, "spooled", 400).await;
    let stream = first.status().await["streams"][0]["stream_id"].clone();
    let stream = stream.as_str().expect("an id").to_owned();
    first.kill();
    let other = place.path().join("copy");
    copy(&first.data(), &other.join("twin").join("data"));

    sink.restart().await;
    first.set("RATE_REQUESTS_PER_SECOND", "4");
    first.restart().await;
    until("the first one has begun", LIMIT, || async {
        (line(&sink, &stream).await["stored"].as_u64() > Some(0)).then_some(())
    })
    .await;
    let mut second = Agent::start(&other, "twin", &sink.url(), &settings).await;
    until("the second one has delivered it", LIMIT, || async {
        held(&second, &stream).await.is_none().then_some(())
    })
    .await;
    until("the first one says so", LIMIT, || async {
        (first.status().await["sink"]["displaced"] == 1).then_some(())
    })
    .await;
    assert!(first.log().contains("another agent delivers this stream"));
    let acked = own(&first, "acked").await;
    wait_own(&first, "acked", acked + 20).await;
    let kept = held(&first, &stream).await.expect("it keeps the rest");
    assert!(kept["spooled"].as_u64() > Some(0), "{kept}");
    assert_eq!(first.status().await["ready"], true);

    // A stop does not wait for the other one; the next run finds all of it delivered.
    assert!(first.terminate().await.success());
    first.set("RATE_REQUESTS_PER_SECOND", "0");
    first.restart().await;
    until("the first one knows", LIMIT, || async {
        held(&first, &stream).await.is_none().then_some(())
    })
    .await;
    assert!(first.terminate().await.success());
    assert!(second.terminate().await.success());
    sink.folded().await;
    let sums = sink.closed_ledger("twin").await;
    assert_eq!((sums.spooled, sums.dropped), (0, 0), "{sums:?}");
    let of = line(&sink, &stream).await;
    let produced = of["produced"].as_u64().expect("a count");
    assert!(produced >= 400, "{of}");
    let query = format!(
        "select cast(time as bigint), value from samples where agent = 'twin' order by 1 limit {produced}"
    );
    let rows = sink.sql(&query).await;
    let reading = |row: &Vec<Value>| (row[0].as_i64(), row[1].as_f64());
    let stored = rows.iter().map(reading).map(|(time, value)| {
        let value = value.expect("a number");
        (time.expect("a time"), value as u64)
    });
    assert_counted(&stored.collect::<Vec<_>>(), produced);
}

/// A machine is copied while it runs, and the copy delivers what it has of the stream and ends it. The machine itself
/// goes on: what it has beyond that goes out under another stream, each reading once, without anybody's help.
///
/// Mutations: a Welcome that does not say that the stream is closed; one that says so and is not heeded.
#[tokio::test]
async fn an_original_whose_stream_its_copy_has_ended_goes_on_by_itself() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = Sink::start(place.path(), &[]).await;
    let link = Proxy::start().await;
    let settings = counting(&[("SAMPLE_INTERVAL", "10ms"), ("BATCH_MAX_READINGS", "1")]);
    let mut first = Agent::start(place.path(), "twin", &link.url(), &settings).await;
    wait_own(&first, "spooled", 100).await;
    let stream = first.status().await["streams"][0]["stream_id"].clone();
    let stream = stream.as_str().expect("an id").to_owned();
    let other = place.path().join("copy");
    copy(&first.data(), &other.join("twin").join("data"));
    wait_own(&first, "spooled", 200).await;

    let settings = [&settings[..], &[("SIMULATED_DEVICE", "copy")]].concat();
    let mut second = Agent::start(&other, "twin", &sink.url(), &settings).await;
    until("the copy has delivered and ended it", LIMIT, || async {
        held(&second, &stream).await.is_none().then_some(())
    })
    .await;
    second.kill();
    let ended = line(&sink, &stream).await;
    assert!(ended["stored"].as_u64() < Some(200), "{ended}");

    link.to(sink.grpc);
    until("the original has moved the rest", LIMIT, || async {
        held(&first, &stream).await.is_none().then_some(())
    })
    .await;
    until("and delivered it", LIMIT, || async {
        let status = first.status().await;
        (status["streams"].as_array().expect("streams").len() == 1).then_some(())
    })
    .await;
    let acked = own(&first, "acked").await;
    wait_own(&first, "acked", acked + 20).await;
    assert!(first.log().contains("a copy of this spool has closed it"));
    let resent = first.metrics().await["weir_agent_sender_fork_resent_total"];
    assert!(resent >= 100.0, "{resent}");
    assert!(first.terminate().await.success());

    sink.folded().await;
    let query = "select cast(time as bigint), value from samples where agent = 'twin' and device = 'simulated' order by 2, 1";
    let rows = sink.sql(query).await;
    let reading = |row: &Vec<Value>| (row[0].as_i64(), row[1].as_f64());
    let stored = rows.iter().map(reading).map(|(time, value)| {
        let value = value.expect("a number");
        (time.expect("a time"), value as u64)
    });
    let stored = stored.collect::<Vec<_>>();
    let last = stored.len() as u64;
    assert!(last >= 220, "{last}");
    assert_counted(&stored, last);
}
