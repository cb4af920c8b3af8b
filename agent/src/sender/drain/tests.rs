//! Rates and remaining times of hand-made histories.

use super::*;

/// One look per second; `steps` gives readings produced and acknowledged in each.
fn history(steps: impl Iterator<Item = (u64, u64)>) -> Drain {
    let (mut watch, mut now) = (Watch::default(), Instant::now());
    let (mut produced, mut waits) = (0, 0);
    let mut drain = Drain::default();
    for (made, acked) in steps {
        produced += made;
        waits += made;
        waits -= acked.min(waits);
        drain = watch.look(now, produced, (waits, waits * 10));
        now += Duration::from_secs(1);
    }
    drain
}

#[tokio::test]
async fn a_backlog_says_when_it_will_be_gone() {
    let outage = (0..600).map(|_| (100, 0));
    let drain = history(outage.chain((0..100).map(|_| (100, 300))));
    assert_eq!(drain.readings, 40_000);
    assert!((drain.readings_per_second - 200.0).abs() < 1.0);
    assert!((drain.seconds.unwrap() - 200.0).abs() < 2.0);
}

/// Mutation: a rate without its sign would promise an end to a backlog that grows.
#[tokio::test]
async fn a_backlog_that_grows_has_no_end() {
    let drain = history((0..100).map(|_| (100, 50)));
    assert_eq!(drain.seconds, None);
    assert!(drain.readings_per_second < 0.0);
}

#[tokio::test]
async fn what_is_on_its_way_is_no_backlog() {
    let steady = (0..100).map(|n| if n < 3 { (100, 0) } else { (100, 100) });
    assert_eq!(history(steady).seconds, Some(0.0));
    assert_eq!(history((0..5).map(|_| (0, 0))).seconds, Some(0.0));
}

#[tokio::test]
async fn a_meter_follows_the_link() {
    let start = Instant::now();
    let mut meter = Meter::new(start);
    assert_eq!(meter.second_of_bytes(), 0);
    for n in 1..=40 {
        meter.add(start + Duration::from_millis(100 * n), 10_000);
    }
    let found = meter.second_of_bytes();
    assert!((90_000..=110_000).contains(&found), "{found}");
}
