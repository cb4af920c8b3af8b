//! T1, T4, T5, T7: what is sampled arrives, refusals are retried or set aside, a stop delivers.

use tonic::Code;
use weir_tests::faulty::{FaultySink, Plan};
use weir_tests::wait::until;
use weir_tests::world::{Agent, Sink};

use crate::stored::{LIMIT, assert_counted, counting, own, readings, wait_for, wait_own};

/// T1: sampling 5/s into a buffer of 5 gives 50 readings and about 10 requests in 10 seconds.
#[tokio::test]
async fn samples_buffered_by_five_arrive_in_a_tenth_of_requests() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = Sink::start(place.path(), &[]).await;
    let settings = counting(&[("SAMPLE_INTERVAL", "200ms"), ("BATCH_MAX_READINGS", "5")]);
    let agent = Agent::start(place.path(), "t1", &sink.url(), &settings).await;

    wait_for(&sink, "t1", 50).await;
    let requests = agent.metrics().await["weir_agent_sender_requests_total"];
    let mut stored = readings(&sink, "t1").await;
    assert!(
        (9.0..=12.0).contains(&requests),
        "{requests} requests for {} readings",
        stored.len()
    );
    stored.truncate(50);
    assert_counted(&stored, 50);
    assert!(
        stored.windows(2).all(|pair| pair[0].0 < pair[1].0),
        "times do not strictly increase: {stored:?}"
    );
    let took = (stored[49].0 - stored[0].0) as f64 / 1e9;
    assert!((9.6..=10.2).contains(&took), "50 readings took {took} s");
}

/// Mutation: nobody listens for the signal, which then ends the agent without a word.
#[tokio::test]
async fn a_hangup_ends_nothing_and_is_answered_in_the_log() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = Sink::start(place.path(), &[]).await;
    let mut agent = Agent::start(place.path(), "hung", &sink.url(), &counting(&[])).await;
    agent.hang_up();
    until("the agent to say so", LIMIT, || async {
        agent.log().contains("restart the agent").then_some(())
    })
    .await;
    let acked = own(&agent, "acked").await;
    wait_own(&agent, "acked", acked + 10).await;
    assert!(agent.terminate().await.success(), "{}", agent.log());
}

/// T4: the transient statuses are each retried and everything is stored once.
/// Red when a status is taken for final, or when a resent batch is stored again.
#[tokio::test]
async fn transient_statuses_are_retried_and_stored_once() {
    let place = tempfile::tempdir().expect("a directory");
    let codes = [
        Code::Unavailable,
        Code::ResourceExhausted,
        Code::DeadlineExceeded,
    ];
    let sink = FaultySink::start(Plan {
        end_calls: codes.iter().chain(&codes).copied().collect(),
        ..Plan::default()
    })
    .await;
    let url = format!("http://{}", sink.address);
    let settings = counting(&[("SAMPLE_INTERVAL", "20ms"), ("BATCH_MAX_READINGS", "5")]);
    let mut agent = Agent::start(place.path(), "t4", &url, &settings).await;

    until(
        "every planned status and 50 readings after",
        LIMIT,
        || async {
            let seen = sink.seen();
            (seen.calls > 6 && seen.readings().len() >= 50).then_some(())
        },
    )
    .await;
    assert!(agent.terminate().await.success());
    let seen = sink.seen();
    let mut values: Vec<(i64, u64)> = seen
        .readings()
        .iter()
        .map(|(time, value)| (*time, *value as u64))
        .collect();
    values.sort_by_key(|(_, value)| *value);
    assert_counted(&values, values.len() as u64);
    assert_eq!(seen.doubled, 0, "resumed elsewhere than at Welcome");
}

/// T5: a batch that can never be stored is set aside where it can be listed, counted, and the
/// next batches flow.
#[tokio::test]
async fn refused_batch_is_set_aside_and_the_next_ones_flow() {
    set_aside(Plan {
        refuse: Some(3),
        ..Plan::default()
    })
    .await;
}

/// T5, said by a status instead: INVALID_ARGUMENT for one batch does not block the stream.
#[tokio::test]
async fn invalid_argument_sets_one_batch_aside() {
    set_aside(Plan {
        invalid: Some(3),
        ..Plan::default()
    })
    .await;
}

async fn set_aside(plan: Plan) {
    let place = tempfile::tempdir().expect("a directory");
    let sink = FaultySink::start(plan).await;
    let url = format!("http://{}", sink.address);
    let settings = counting(&[("SAMPLE_INTERVAL", "20ms"), ("BATCH_MAX_READINGS", "5")]);
    let mut agent = Agent::start(place.path(), "t5", &url, &settings).await;

    until("batches after the refused one", LIMIT, || async {
        (sink.seen().readings().len() >= 40).then_some(())
    })
    .await;
    let status = agent.status().await;
    assert_eq!(status["ledger"]["dropped"]["refused"], 5, "{status}");
    assert!(agent.terminate().await.success());

    let letters = std::fs::read_dir(agent.data().join("dead-letter"))
        .expect("a dead-letter store")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".batch"))
        .count();
    assert_eq!(letters, 1, "one batch was refused");
    let seen = sink.seen();
    assert_eq!(seen.skips.len(), 1, "{:?}", seen.skips);
    assert_eq!((seen.skips[0].from, seen.skips[0].through), (3, 3));
    assert_eq!(seen.skips[0].readings, 5);
    let missing: Vec<u64> = (11..=15).collect();
    let values: Vec<u64> = seen
        .readings()
        .iter()
        .map(|(_, value)| *value as u64)
        .collect();
    let last = values.iter().copied().max().expect("readings");
    let expected: Vec<u64> = (1..=last)
        .filter(|value| !missing.contains(value))
        .collect();
    assert_eq!(values, expected);
}

/// T7: SIGTERM with a half-full buffer delivers the partial batch and ends with 0.
#[tokio::test]
async fn stop_delivers_a_half_full_buffer() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = Sink::start(place.path(), &[]).await;
    let settings = counting(&[
        ("SAMPLE_INTERVAL", "20ms"),
        ("BATCH_MAX_READINGS", "100000"),
        ("BATCH_MAX_AGE", "1h"),
    ]);
    let mut agent = Agent::start(place.path(), "t7", &sink.url(), &settings).await;
    until("samples in the buffer", LIMIT, || async {
        (agent.metrics().await["weir_agent_sampled_readings_total"] >= 25.0).then_some(())
    })
    .await;
    assert_eq!(own(&agent, "produced").await, 0, "the buffer was not full");

    let status = agent.terminate().await;
    assert!(status.success(), "{status}");
    let stored = readings(&sink, "t7").await;
    assert!(stored.len() >= 25, "{} readings", stored.len());
    assert_counted(&stored, stored.len() as u64);
    assert_eq!(sink.closed_ledger("t7").await.spooled, 0);
}
