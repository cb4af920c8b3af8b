//! The soak, short: every fault of it, for half a minute. `make soak` is the long one.

use std::time::Duration;

use weir_tests::soak::{self, Plan};

/// Three agents and a sink, killed, stopped and cut off from each other every few seconds.
/// Red when anything is lost or stored twice on the way, as with `release_before_ack` or
/// `no_dedupe`; memory and disk are looked at by the long form only.
#[tokio::test]
async fn soak_of_half_a_minute_delivers_everything_once() {
    let place = tempfile::tempdir().expect("a directory");
    let plan = Plan {
        length: Duration::from_secs(25),
        seed: 3,
        between: (Duration::from_secs(1), Duration::from_secs(5)),
    };
    let report = soak::run(place.path(), plan, |_| {}).await;
    assert!(report.faults.is_empty(), "{:#?}", report.faults);
    assert!(report.stored > 0, "nothing was delivered");
    let (kills, stops, cuts) = (report.kills, report.stops, report.cuts);
    assert!(kills > 2 && stops > 2 && cuts > 2, "{kills} {stops} {cuts}");
}
