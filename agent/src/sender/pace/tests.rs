//! Who goes next, on a paused clock.

use std::time::Duration;

use super::*;

/// Both always have a full request: how many each sends within `seconds`.
async fn both_busy(pace: &Pace, seconds: u64) -> (u32, u32) {
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut newest, mut backlog) = (0, 0);
    while Instant::now() < end {
        let mut next = end;
        for (role, sent) in [(Role::Newest, &mut newest), (Role::Backlog, &mut backlog)] {
            match pace.ask(role) {
                Turn::Go => {
                    *sent += 1;
                    pace.sent(role, 1000);
                    next = Instant::now() + Duration::from_millis(1);
                }
                Turn::At(at) => next = next.min(at),
                Turn::Other => {}
            }
        }
        tokio::time::sleep_until(next).await;
    }
    (newest, backlog)
}

/// Mutation: credit that is never taken away gives the backlog every turn it asks for.
#[tokio::test(start_paused = true)]
async fn the_backlog_gets_its_share_of_a_request_rate_and_no_more() {
    for (share, expected) in [(0.25, 50), (0.5, 100), (0.8, 160)] {
        let pace = Pace::new(Rate::new(2.0, 1), share, 1000);
        let (newest, backlog) = both_busy(&pace, 100).await;
        assert!(
            (199..=202).contains(&(newest + backlog)),
            "the rate holds over both"
        );
        assert!(
            backlog.abs_diff(expected) <= 2,
            "{share}: {newest} {backlog}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_rate_the_share_is_of_the_bytes() {
    let pace = Pace::new(Rate::new(0.0, 1), 0.25, 1000);
    let (newest, backlog) = both_busy(&pace, 1).await;
    let share = f64::from(backlog) / f64::from(newest + backlog);
    assert!((0.2..0.3).contains(&share), "{share}");
}

#[tokio::test(start_paused = true)]
async fn what_the_newest_does_not_use_is_the_backlogs() {
    let pace = Pace::new(Rate::new(1.0, 1), 0.1, 1000);
    let mut sent = 0;
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        match pace.ask(Role::Backlog) {
            Turn::Go => {
                pace.sent(Role::Backlog, 1000);
                sent += 1;
            }
            Turn::At(at) => tokio::time::sleep_until(at).await,
            Turn::Other => panic!("nobody else has anything"),
        }
    }
    assert!((59..=61).contains(&sent), "{sent}");
}

/// Mutation: a backlog that waits for its window and keeps its turn holds the newest up for ever.
#[tokio::test(start_paused = true)]
async fn one_that_cannot_send_holds_nobody_up() {
    let pace = Pace::new(Rate::new(0.0, 1), 0.9, 1000);
    assert_eq!(pace.ask(Role::Newest), Turn::Go);
    assert_eq!(pace.ask(Role::Backlog), Turn::Other);
    pace.sent(Role::Newest, 1000);
    assert_eq!(
        pace.ask(Role::Newest),
        Turn::Other,
        "the backlog has credit"
    );
    pace.wants(Role::Backlog);
    assert_eq!(pace.ask(Role::Newest), Turn::Go);
}
