//! T2, T3: the request rate is its own setting and fractions are not rounded.

use std::time::{Duration, Instant};

use weir_tests::faulty::{FaultySink, Plan};
use weir_tests::wait::until;
use weir_tests::world::Agent;

use crate::stored::{LIMIT, counting};

/// Held against a moment before the agent was there: what comes late on a busy machine comes no earlier than it
/// may, and the last of many too early is too early whatever the others were.
fn assert_paced(began: Instant, requests: &[Instant], every: Duration) {
    for (before, request) in (0_u32..).zip(requests) {
        let (came, may) = (*request - began, every * before);
        assert!(
            came >= may,
            "request {before} came after {came:?}, not {may:?}"
        );
    }
}

/// T2: at 2 requests per second a faster sampler loses nothing.
#[tokio::test]
async fn request_rate_bounds_requests_and_loses_nothing() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = FaultySink::start(Plan::default()).await;
    let settings = counting(&[
        ("SAMPLE_INTERVAL", "10ms"),
        ("BATCH_MAX_READINGS", "10"),
        ("RATE_REQUESTS_PER_SECOND", "2"),
        ("RATE_BURST", "1"),
    ]);
    let url = format!("http://{}", sink.address);
    let began = Instant::now();
    let mut agent = Agent::start(place.path(), "t2", &url, &settings).await;
    let requests = until("22 requests", LIMIT, || async {
        Some(sink.seen().requests).filter(|requests| requests.len() >= 22)
    })
    .await;
    assert_paced(began, &requests, Duration::from_millis(500));
    // The Close that follows is no batch, and need not wait for its turn.
    assert!(agent.terminate().await.success());

    let seen = sink.seen();
    let values: Vec<u64> = seen
        .readings()
        .iter()
        .map(|(_, value)| *value as u64)
        .collect();
    let expected: Vec<u64> = (1..=values.len() as u64).collect();
    assert_eq!(values, expected);
    // One batch of ten in each request would be 220: the sampler does not wait for the rate.
    assert!(
        values.len() >= 440,
        "{} readings in 22 requests",
        values.len()
    );
}

/// T3: half a request per second is one request every two seconds.
#[tokio::test]
async fn half_a_request_per_second_is_one_every_two() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = FaultySink::start(Plan::default()).await;
    let settings = counting(&[
        ("SAMPLE_INTERVAL", "50ms"),
        ("BATCH_MAX_READINGS", "5"),
        ("RATE_REQUESTS_PER_SECOND", "0.5"),
    ]);
    let url = format!("http://{}", sink.address);
    let began = Instant::now();
    let _agent = Agent::start(place.path(), "t3", &url, &settings).await;
    let requests = until("4 requests", LIMIT, || async {
        Some(sink.seen().requests).filter(|requests| requests.len() >= 4)
    })
    .await;
    assert_paced(began, &requests, Duration::from_secs(2));
}
