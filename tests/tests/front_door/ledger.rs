//! The ledger shows a loss, exactly: a test that injects one.

use std::path::{Path, PathBuf};

use serde_json::Value;
use weir_proto::v1::{DropReason, Report, Skip};
use weir_tests::sender::{Call, Stream};
use weir_tests::wait::until;
use weir_tests::world::Sink;

use crate::stored::LIMIT;

/// Nanoseconds of the readings sent here.
const BASE: i64 = 1_700_000_000_000_000_000;

async fn stream_of(sink: &Sink, agent: &str) -> Value {
    sink.ledger()
        .await
        .into_iter()
        .find(|stream| stream["agent"] == agent)
        .unwrap_or_else(|| panic!("no stream of {agent}"))
}

/// Readings that a sender counted and no batch carried are unexplained, to the reading.
#[tokio::test]
async fn readings_no_batch_carried_are_unexplained() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = Sink::start(place.path(), &[]).await;
    let mut stream = Stream::new("forgetful", 1);
    let mut call = Call::open(sink.grpc, &stream).await.expect("welcome");
    call.batch(stream.batch(&[BASE, BASE + 1], &[1.0, 2.0]))
        .await;
    stream.forget(5);
    call.batch(stream.batch(&[BASE + 2], &[3.0])).await;
    call.acked(2).await.expect("acks");

    until("the fold to count them", LIMIT, || async {
        (stream_of(&sink, "forgetful").await["unexplained"] == 5).then_some(())
    })
    .await;
    let ledger = stream_of(&sink, "forgetful").await;
    assert_eq!(ledger["produced"], 8, "{ledger}");
    assert_eq!(ledger["stored"], 3, "{ledger}");
}

/// A damaged frame in the sink's journal costs exactly its readings, the rest flows, and the
/// ledger says how many are missing.
#[tokio::test]
async fn damage_in_the_sinks_journal_is_unexplained_to_the_reading() {
    let place = tempfile::tempdir().expect("a directory");
    let mut sink = Sink::start(place.path(), &[("STORE_FLUSH_INTERVAL", "1h")]).await;
    let mut stream = Stream::new("damaged", 2);
    let mut call = Call::open(sink.grpc, &stream).await.expect("welcome");
    let mut marked = Vec::new();
    // Each batch is acknowledged before the next is sent, so each is a group of its own: the last
    // group of a journal that was not closed may be cut from a damaged frame on.
    for batch in 0..6_i64 {
        // Values without a pattern, so that the payload of one batch can be found on disk.
        let values: Vec<f64> = (0..50)
            .map(|step| {
                f64::from_bits(0x4000_0000_0000_0000 + (batch * 7919 + step * 104_729) as u64)
            })
            .collect();
        let times: Vec<i64> = (0..50).map(|step| BASE + batch * 100 + step).collect();
        let batch = stream.batch(&times, &values);
        marked.push(batch.payload.clone());
        call.batch(batch).await;
        call.acked(marked.len() as u64).await.expect("acks");
    }
    sink.kill();
    let journal = sink.data().join("log");
    assert!(
        flip_inside(&journal, &marked[2]),
        "the third batch is not in the journal below {}",
        journal.display()
    );
    sink.restart().await;

    until("the fold to reach the end", LIMIT, || async {
        let ledger = stream_of(&sink, "damaged").await;
        (ledger["stored"] == 250 && ledger["pending_fold"] == 0).then_some(())
    })
    .await;
    let ledger = stream_of(&sink, "damaged").await;
    assert_eq!(ledger["produced"], 300, "{ledger}");
    assert_eq!(ledger["unexplained"], 50, "{ledger}");
    let again = Call::open(sink.grpc, &stream).await.expect("welcome");
    assert_eq!(again.welcome.durable_through, 6, "what follows was kept");
}

/// One flipped bit in the last group of a journal, acknowledged and in no file yet: the group is cut. Until the
/// agent is back the ledger knows no more of it than what was reported before: it counts as spooled. Then the
/// agent sends it again, or says that it is gone. Fails when the Welcome speaks of what was cut.
#[tokio::test]
async fn a_cut_end_of_the_sinks_journal_is_spooled_until_its_agent_says_what_is_left_of_it() {
    for (reported, still_there) in [(true, true), (true, false), (false, false)] {
        let place = tempfile::tempdir().expect("a directory");
        let mut sink = Sink::start(place.path(), &[("STORE_FLUSH_INTERVAL", "1h")]).await;
        let mut stream = Stream::new("cut", 4);
        let mut call = Call::open(sink.grpc, &stream).await.expect("welcome");
        let mut sent = Vec::new();
        for number in 0..3_i64 {
            let values: Vec<f64> = (0..50).map(|step| f64::from(step).sin()).collect();
            let times: Vec<i64> = (0..50).map(|step| BASE + number * 100 + step).collect();
            let batch = stream.batch(&times, &values);
            sent.push(batch.clone());
            let report = Report {
                produced: if reported { 150 } else { 0 },
                ..Report::default()
            };
            call.batch_and_report(batch, report).await;
            call.acked(sent.len() as u64).await.expect("an ack");
        }
        sink.kill();
        assert!(flip_inside(&sink.data().join("log"), &sent[2].payload));
        sink.restart().await;
        let figures = |line: &Value| {
            let dropped = &line["dropped"]["sink_rolled_back"];
            ["produced", "stored", "spooled", "unexplained"]
                .map(|name| line[name].as_i64().expect("a count"))
                .into_iter()
                .chain([dropped.as_i64().unwrap_or(0)])
                .collect::<Vec<i64>>()
        };
        let known = if reported { 150 } else { 100 };
        let line = stream_of(&sink, "cut").await;
        assert_eq!(figures(&line), [known, 100, known - 100, 0, 0], "{line}");

        let mut call = Call::open(sink.grpc, &stream).await.expect("welcome");
        assert_eq!(call.welcome.durable_through, 2);
        if still_there {
            call.batch(sent[2].clone()).await;
        } else {
            let skip = Skip {
                from: 3,
                through: 3,
                reason: DropReason::SinkRolledBack.into(),
                readings_before: 100,
                readings: 50,
            };
            call.skip(skip).await;
        }
        call.acked(3).await.expect("an ack");
        let line = stream_of(&sink, "cut").await;
        let (stored, dropped) = if still_there { (150, 0) } else { (100, 50) };
        assert_eq!(figures(&line), [150, stored, 0, 0, dropped], "{line}");
    }
}

/// One flipped bit in the last group of a journal whose records are all in files: the sink starts, forgets
/// nothing, and gives the next record a number behind the catalog's position, also after the next start.
/// Fails when the journal is not opened anew behind that position.
#[tokio::test]
async fn a_damaged_end_of_the_sinks_journal_does_not_keep_it_from_starting() {
    let place = tempfile::tempdir().expect("a directory");
    let mut sink = Sink::start(place.path(), &[]).await;
    let mut stream = Stream::new("flipped", 3);
    let mut last = bytes::Bytes::new();
    for number in 0..3_i64 {
        let values: Vec<f64> = (0..50).map(|step| f64::from(step).sin()).collect();
        let times: Vec<i64> = (0..50).map(|step| BASE + number * 100 + step).collect();
        let mut call = Call::open(sink.grpc, &stream).await.expect("welcome");
        let batch = stream.batch(&times, &values);
        last = batch.payload.clone();
        call.batch(batch).await;
        call.acked(stream.next_sequence() - 1)
            .await
            .expect("an ack");
    }
    // A stop writes everything to files.
    assert!(sink.terminate().await.success());
    assert!(flip_inside(&sink.data().join("log"), &last));

    for life in 1..=2_u64 {
        sink.restart().await;
        let mut call = Call::open(sink.grpc, &stream).await.expect("welcome");
        assert_eq!(call.welcome.durable_through, 2 + life);
        let time = BASE + 1000 + i64::try_from(life).expect("small");
        call.batch(stream.batch(&[time], &[1.0])).await;
        call.acked(3 + life).await.expect("an ack");
        drop(call);
        until("the fold to reach the end", LIMIT, || async {
            let ledger = stream_of(&sink, "flipped").await;
            (ledger["stored"] == 150 + life && ledger["pending_fold"] == 0).then_some(())
        })
        .await;
        let ledger = stream_of(&sink, "flipped").await;
        assert_eq!(ledger["unexplained"], 0, "{ledger}");
        sink.kill();
    }
}

/// Flips one bit in the middle of the first occurrence of `bytes` in any file below.
fn flip_inside(directory: &Path, bytes: &[u8]) -> bool {
    for path in files(directory) {
        let mut content = std::fs::read(&path).expect("a readable segment");
        let found = content.windows(bytes.len()).position(|part| part == bytes);
        if let Some(at) = found {
            content[at + bytes.len() / 2] ^= 0x10;
            std::fs::write(&path, content).expect("a writable segment");
            return true;
        }
    }
    false
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}
