//! Floor, ceiling, jitter, reset and hint.

use super::*;

const FLOOR: Duration = Duration::from_millis(100);
const CEILING: Duration = Duration::from_secs(10);

#[test]
fn stays_between_floor_and_ceiling_and_never_ends() {
    let mut retry = Retry::new(FLOOR, CEILING);
    for attempt in 0..1000 {
        let delay = retry.next(None);
        assert!((FLOOR..=CEILING).contains(&delay), "{attempt}: {delay:?}");
    }
    assert!(retry.next(None) >= CEILING / 2);
}

#[test]
fn differs_between_agents() {
    let series = || {
        let mut retry = Retry::new(FLOOR, CEILING);
        (0..8).map(|_| retry.next(None)).collect::<Vec<_>>()
    };
    assert_ne!(series(), series());
}

#[test]
fn starts_over_on_progress() {
    let mut retry = Retry::new(FLOOR, CEILING);
    for _ in 0..20 {
        retry.next(None);
    }
    retry.moved();
    assert!(retry.next(None) <= FLOOR * 2);
}

#[test]
fn honours_the_sinks_hint_within_reason() {
    let mut retry = Retry::new(FLOOR, CEILING);
    let hint = Duration::from_secs(60);
    assert_eq!(retry.next(Some(hint)), hint);
    assert_eq!(retry.next(Some(Duration::from_secs(1_000_000))), MAX_HINT);
}
