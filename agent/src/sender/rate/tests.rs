//! The bucket on a paused clock.

use super::*;

/// Seconds (rounded to ms) at which `n` requests go out when the caller always has one ready.
async fn departures(rate: &Rate, n: usize) -> Vec<u128> {
    let start = Instant::now();
    let mut at = Vec::new();
    while at.len() < n {
        match rate.take() {
            Ok(()) => at.push(start.elapsed().as_millis()),
            Err(wait) => tokio::time::sleep(wait).await,
        }
    }
    at
}

#[tokio::test(start_paused = true)]
async fn half_a_request_per_second_is_one_every_two_seconds() {
    let at = departures(&Rate::new(0.5, 1), 4).await;
    for (n, millis) in at.iter().enumerate() {
        let due = 2000 * n as u128;
        assert!(
            (due..due + 10).contains(millis),
            "request {n} at {millis} ms"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn averages_at_most_the_rate_plus_the_burst() {
    let rate = Rate::new(2.0, 3);
    let at = departures(&rate, 40).await;
    let within_ten_seconds = at.iter().filter(|millis| **millis <= 10_000).count();
    assert!(
        (20..=23).contains(&within_ten_seconds),
        "{within_ten_seconds}"
    );
    assert_eq!(at.iter().filter(|millis| **millis == 0).count(), 3);
}

#[tokio::test(start_paused = true)]
async fn saves_no_more_than_the_burst_while_idle() {
    let rate = Rate::new(10.0, 1);
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(rate.take().is_ok());
    assert!(rate.take().is_err());
}

#[tokio::test(start_paused = true)]
async fn no_rate_is_no_limit() {
    let rate = Rate::new(0.0, 1);
    assert!((0..1000).all(|_| rate.take().is_ok()));
}
