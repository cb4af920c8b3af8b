//! T2, T3: the request rate is its own setting and fractions are not rounded.

use std::time::Duration;

use weir_tests::faulty::{FaultySink, Plan};
use weir_tests::wait::until;
use weir_tests::world::Agent;

use crate::stored::{LIMIT, counting};

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
    let mut agent = Agent::start(place.path(), "t2", &url, &settings).await;
    until("22 requests", LIMIT, || async {
        (sink.seen().requests.len() >= 22).then_some(())
    })
    .await;
    assert!(agent.terminate().await.success());

    let seen = sink.seen();
    // 21 requests need at least 10 s less the burst of one; a little slack for the arrival.
    for window in seen.requests.windows(22) {
        let took = window[21] - window[0];
        assert!(
            took >= Duration::from_millis(9_900),
            "22 requests in {took:?}"
        );
    }
    let values: Vec<u64> = seen
        .readings()
        .iter()
        .map(|(_, value)| *value as u64)
        .collect();
    let expected: Vec<u64> = (1..=values.len() as u64).collect();
    assert_eq!(values, expected);
    assert!(
        values.len() >= 900,
        "{} readings in 10 s at 100/s",
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
    let _agent = Agent::start(place.path(), "t3", &url, &settings).await;
    let requests = until("4 requests", LIMIT, || async {
        Some(sink.seen().requests).filter(|requests| requests.len() >= 4)
    })
    .await;
    for pair in requests.windows(2) {
        let apart = pair[1] - pair[0];
        assert!(
            (Duration::from_millis(1_900)..Duration::from_millis(3_500)).contains(&apart),
            "requests {apart:?} apart"
        );
    }
}
