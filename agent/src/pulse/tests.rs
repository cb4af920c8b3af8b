//! Each stage that stands is named with the moment it stopped, and nothing else is. Red with the limit of
//! that stage set to an hour.

use std::sync::Arc;

use tokio::time::advance;
use weir_process::clock::ManualClock;
use weir_process::progress::LOOK_EVERY;

use super::*;

/// A pulse on clocks that the test moves.
struct Rig {
    clock: Arc<ManualClock>,
    health: Health,
    pulse: Pulse,
    seen: Seen,
}

impl Rig {
    fn new(settings: &[(&str, &str)]) -> Rig {
        let clock = Arc::new(ManualClock::new(0));
        let health = Health::new(Arc::<ManualClock>::clone(&clock));
        let config = Config::of(settings).unwrap();
        let pulse = Pulse::new(&health, &config);
        let seen = Seen {
            ticks: vec![0; config.sensors.len()],
            connected: true,
            ..Seen::default()
        };
        Rig {
            clock,
            health,
            pulse,
            seen,
        }
    }

    /// So many seconds, in each of which `change` happens.
    async fn pass(&mut self, seconds: u64, change: impl Fn(&mut Seen)) {
        for _ in 0..seconds {
            change(&mut self.seen);
            self.pulse.look(&self.seen);
            advance(LOOK_EVERY).await;
            self.clock.advance(LOOK_EVERY);
        }
        self.pulse.look(&self.seen);
    }

    /// What is wrong: stage, reason, seconds.
    fn faults(&self) -> Vec<(&'static str, String, u64)> {
        let failing = self.health.ready().err().unwrap_or_default();
        let one = |fault: weir_process::health::Failing| {
            (fault.stage, fault.reason, fault.lasts.as_secs())
        };
        failing.into_iter().map(one).collect()
    }
}

/// Everything moves: `n` is what each stage has behind it.
fn all(seen: &mut Seen) {
    for ticks in &mut seen.ticks {
        *ticks += 1;
    }
    seen.batching = (seen.batching.0 + 1, 5);
    seen.commit = (seen.commit.0 + 1, 2);
    seen.delivery = (seen.delivery.0 + 1, 9);
}

#[tokio::test(start_paused = true)]
async fn what_moves_is_ready_however_much_waits() {
    let mut rig = Rig::new(&[("WEIR_AGENT_SENSORS", "host,simulated")]);
    rig.pass(600, all).await;
    assert_eq!(rig.faults(), []);
}

#[tokio::test(start_paused = true)]
async fn sampling_that_stands_is_named_with_its_sensor() {
    let settings = [
        ("WEIR_AGENT_SENSORS", "host,simulated"),
        ("WEIR_AGENT_SAMPLE_INTERVAL", "4s"),
    ];
    let mut rig = Rig::new(&settings);
    rig.pass(30, all).await;
    let others = |seen: &mut Seen| {
        all(seen);
        seen.ticks[1] -= 1;
    };
    rig.pass(10, others).await;
    assert_eq!(rig.faults(), [], "three intervals may pass");
    rig.pass(5, others).await;
    let expected = (
        "sampling",
        "sensor simulated is not asked any more".to_owned(),
        16,
    );
    assert_eq!(rig.faults(), [expected]);
    rig.pass(1, all).await;
    assert_eq!(rig.faults(), []);
}

#[tokio::test(start_paused = true)]
async fn batching_that_stands_is_named() {
    let mut rig = Rig::new(&[]);
    rig.pass(5, all).await;
    rig.pass(15, |seen| {
        all(seen);
        seen.batching = (7, 80);
    })
    .await;
    let faults = rig.faults();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!((faults[0].0, faults[0].2), ("batching", 15));
    assert!(faults[0].1.starts_with("80 readings wait"), "{faults:?}");
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_does_not_come_is_named() {
    let mut rig = Rig::new(&[]);
    rig.pass(5, all).await;
    rig.pass(15, |seen| {
        all(seen);
        seen.commit = (5, 3);
    })
    .await;
    let faults = rig.faults();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].0, "commit");
    rig.pass(60, |seen| {
        all(seen);
        seen.commit = (8, 0);
    })
    .await;
    assert_eq!(rig.faults(), [], "nothing waits");
}

/// Red when a link that is down counts, and when what a sink owed before it went is forgotten.
#[tokio::test(start_paused = true)]
async fn delivery_without_acks_is_named_and_a_link_that_is_down_is_not() {
    let mut rig = Rig::new(&[("WEIR_AGENT_TIMEOUT_ACK", "20s")]);
    rig.pass(5, all).await;
    let unacked = |connected: bool| {
        move |seen: &mut Seen| {
            let (acks, unacked) = seen.delivery;
            all(seen);
            seen.delivery = (acks, unacked + 10);
            seen.connected = connected;
        }
    };
    rig.pass(3600, unacked(false)).await;
    assert_eq!(rig.faults(), []);
    // It lets the agent in, says nothing, and again.
    for _ in 0..2 {
        rig.pass(11, unacked(true)).await;
        rig.pass(100, unacked(false)).await;
    }
    let faults = rig.faults();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].0, "delivery");
    rig.pass(1, all).await;
    assert_eq!(rig.faults(), []);
}

/// An allowed request a minute brings an ack a minute.
#[tokio::test(start_paused = true)]
async fn a_low_request_rate_is_no_stall() {
    let settings = [
        ("WEIR_AGENT_RATE_REQUESTS_PER_SECOND", "0.02"),
        ("WEIR_AGENT_RATE_BURST", "1"),
    ];
    let mut rig = Rig::new(&settings);
    rig.pass(5, all).await;
    rig.pass(140, |seen| {
        let (acks, unacked) = seen.delivery;
        all(seen);
        seen.delivery = (acks, unacked + 10);
    })
    .await;
    assert_eq!(rig.faults(), []);
}
