//! SIGKILL of either side under load: every reading that reached the spool is stored once.

use std::collections::BTreeMap;

use tonic::Code;
use weir_tests::counting::committed;
use weir_tests::sender::{Call, Stream};
use weir_tests::wait::until;
use weir_tests::world::{Agent, Sink};

use crate::stored::{LIMIT, assert_counted, counting, readings, wait_for};

/// T9: the sink is killed ten times while a sender of our own does not look at its acks, so that
/// kills fall between storing and acknowledging. The sender resumes where Welcome says.
/// Red when the sink acks before its journal is synced, or stores a resent sequence again.
#[tokio::test]
async fn sink_killed_between_store_and_ack_stores_each_reading_once() {
    let place = tempfile::tempdir().expect("a directory");
    let mut sink = Sink::start(
        place.path(),
        &[
            ("STORE_FLUSH_ROWS", "500"),
            ("STORE_FLUSH_INTERVAL", "200ms"),
        ],
    )
    .await;
    let mut stream = Stream::new("t9", 9);
    let mut sent = BTreeMap::new();
    let mut count = 0_u64;
    for life in 0..10 {
        let mut call = Call::open(sink.grpc, &stream).await.expect("welcome");
        let resume = call.welcome.durable_through;
        for (_, batch) in sent.range(resume + 1..) {
            let batch: &weir_proto::v1::Batch = batch;
            call.batch(batch.clone()).await;
        }
        for _ in 0..40 {
            let times: Vec<i64> = (1..=10)
                .map(|step| 1_700_000_000_000_000_000 + (count as i64 + step) * 1_000_000)
                .collect();
            let values: Vec<f64> = (1..=10).map(|step| (count + step) as f64).collect();
            count += 10;
            let sequence = stream.next_sequence();
            let batch = stream.batch(&times, &values);
            sent.insert(sequence, batch.clone());
            call.batch(batch).await;
        }
        // Later lives let more acks come before the kill.
        let acked = resume + 4 * life;
        call.acked(acked.min(stream.next_sequence() - 1))
            .await
            .expect("acks come");
        sink.kill();
        sink.restart().await;
    }
    let mut call = Call::open(sink.grpc, &stream).await.expect("welcome");
    for (_, batch) in sent.range(call.welcome.durable_through + 1..) {
        call.batch(batch.clone()).await;
    }
    if call.welcome.durable_through < stream.next_sequence() - 1 {
        call.acked(stream.next_sequence() - 1).await.expect("acks");
    }
    assert_counted(&readings(&sink, "t9").await, count);
    assert_eq!(sink.closed_ledger("t9").await.stored, count);
}

/// Acknowledged, then SIGKILL at once: all of it is there after the restart.
#[tokio::test]
async fn acknowledged_readings_survive_the_sink() {
    let place = tempfile::tempdir().expect("a directory");
    let mut sink = Sink::start(place.path(), &[("STORE_FLUSH_INTERVAL", "1h")]).await;
    let mut stream = Stream::new("acked", 3);
    let mut call = Call::open(sink.grpc, &stream).await.expect("welcome");
    for step in 0..20_u64 {
        let batch = stream.batch(
            &[1_700_000_000_000_000_000 + step as i64],
            &[step as f64 + 1.0],
        );
        call.batch(batch).await;
    }
    call.acked(20).await.expect("acks");
    sink.kill();
    sink.restart().await;
    assert_counted(&readings(&sink, "acked").await, 20);
    let again = Call::open(sink.grpc, &stream).await.expect("welcome");
    assert_eq!(again.welcome.durable_through, 20);
}

/// Old sequences are acknowledged again and not stored; a gap names the expected sequence.
#[tokio::test]
async fn repeats_are_acked_and_gaps_are_refused() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = Sink::start(place.path(), &[]).await;
    let mut stream = Stream::new("repeats", 4);
    let first = stream.batch(&[1_700_000_000_000_000_000], &[1.0]);
    let mut call = Call::open(sink.grpc, &stream).await.expect("welcome");
    call.batch(first.clone()).await;
    call.acked(1).await.expect("an ack");
    call.batch(first).await;
    assert_eq!(call.acked(1).await.expect("acked again"), 1);

    let mut gap = stream.clone();
    gap.lose(1);
    call.batch(gap.batch(&[1_700_000_000_000_000_001], &[3.0]))
        .await;
    let status = loop {
        if let Err(status) = call.answer().await {
            break status;
        }
    };
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(status.message().contains("sequence 2"), "{status}");
    assert_counted(&readings(&sink, "repeats").await, 1);
}

/// Waits until this life of the agent, and not an earlier one, has committed readings.
async fn life(agent: &Agent) {
    until("readings of this life", LIMIT, || async {
        let status = agent.try_status().await?;
        (committed(&status) >= 20).then_some(())
    })
    .await;
}

/// SIGKILL of agent and sink in turn, ten times each, under load: the ledger closes and nothing
/// is stored twice. What the agent's memory held at a kill was never in its spool.
#[tokio::test]
async fn ledger_closes_after_ten_kills_of_each_side() {
    let place = tempfile::tempdir().expect("a directory");
    let mut sink = Sink::start(
        place.path(),
        &[
            ("STORE_FLUSH_ROWS", "300"),
            ("STORE_FLUSH_INTERVAL", "300ms"),
        ],
    )
    .await;
    let settings = counting(&[("SAMPLE_INTERVAL", "5ms"), ("BATCH_MAX_READINGS", "10")]);
    let mut agent = Agent::start(place.path(), "kills", &sink.url(), &settings).await;
    for _ in 0..10 {
        let before = sink.closed_ledger("kills").await.stored;
        wait_for(&sink, "kills", before + 20).await;
        sink.kill();
        life(&agent).await;
        agent.kill();
        sink.restart().await;
        agent.restart().await;
    }
    life(&agent).await;
    let metrics = agent.metrics().await;
    let missed = metrics.iter().find(|(name, _)| {
        name.starts_with("weir_agent_sensor_missed_ticks_total") && name.contains("\"crash\"")
    });
    assert!(
        missed.is_some_and(|(_, ticks)| *ticks >= 1.0),
        "the time between two lives is a count, not a silence: {metrics:?}"
    );
    assert!(agent.terminate().await.success());

    let sums = sink.closed_ledger("kills").await;
    assert_eq!((sums.spooled, sums.dropped), (0, 0), "{sums:?}");
    let mut stored = readings(&sink, "kills").await;
    assert_eq!(stored.len() as u64, sums.stored);
    stored.sort_unstable();
    // Each life counts from 1; a gap or a repeat inside one is a loss or a double.
    let mut lives = 0;
    for pair in stored.windows(2) {
        if pair[1].1 == 1 {
            lives += 1;
        } else {
            assert_eq!(pair[1].1, pair[0].1 + 1, "between {pair:?}");
        }
    }
    assert_eq!(stored[0].1, 1);
    assert_eq!(lives, 10, "every life of the agent delivered");
}
