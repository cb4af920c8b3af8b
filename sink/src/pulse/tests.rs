//! Each stage that stands is named with the moment it stopped, and nothing else is. Red with the limit of
//! that stage set to an hour.

use std::sync::Arc;

use tokio::time::advance;
use weir_process::clock::ManualClock;

use super::*;

/// A pulse on clocks that the test moves.
struct Rig {
    clock: Arc<ManualClock>,
    health: Health,
    pulse: Pulse,
    seen: Seen,
}

impl Rig {
    fn new() -> Rig {
        let clock = Arc::new(ManualClock::new(0));
        let health = Health::new(Arc::<ManualClock>::clone(&clock));
        let pulse = Pulse::new(&health, Duration::from_secs(30));
        let seen = Seen::default();
        Rig {
            clock,
            health,
            pulse,
            seen,
        }
    }

    /// So many seconds in which everything moves, and then `change` happens.
    async fn pass(&mut self, seconds: u64, change: impl Fn(&mut Seen)) {
        for _ in 0..seconds {
            for (moves, waits) in [
                &mut self.seen.commit,
                &mut self.seen.folding,
                &mut self.seen.storing,
            ] {
                *moves += 1;
                *waits = 3;
            }
            change(&mut self.seen);
            self.pulse.look(&self.seen);
            advance(LOOK_EVERY).await;
            self.clock.advance(LOOK_EVERY);
        }
        self.pulse.look(&self.seen);
    }

    /// What is wrong: stage, and seconds.
    fn faults(&self) -> Vec<(&'static str, u64)> {
        let failing = self.health.ready().err().unwrap_or_default();
        let faults = failing.iter();
        faults
            .map(|fault| (fault.stage, fault.lasts.as_secs()))
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn what_moves_is_ready_however_much_waits() {
    let mut rig = Rig::new();
    rig.pass(600, |_| {}).await;
    assert_eq!(rig.faults(), []);
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_does_not_commit_is_named() {
    let mut rig = Rig::new();
    rig.pass(20, |seen| seen.commit = (7, 3)).await;
    assert_eq!(rig.faults(), [("commit", 20)]);
    rig.pass(20, |seen| seen.commit = (10, 0)).await;
    assert_eq!(rig.faults(), []);
}

#[tokio::test(start_paused = true)]
async fn a_fold_that_is_behind_and_does_not_move_is_named() {
    let mut rig = Rig::new();
    rig.pass(30, |seen| seen.folding.0 = 7).await;
    assert_eq!(rig.faults(), []);
    rig.pass(10, |seen| seen.folding.0 = 7).await;
    assert_eq!(rig.faults(), [("folding", 40)]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_no_file_is_named() {
    let mut rig = Rig::new();
    rig.pass(90, |seen| seen.storing.0 = 7).await;
    assert_eq!(rig.faults(), [], "an interval and a minute may pass");
    rig.pass(10, |seen| seen.storing.0 = 7).await;
    assert_eq!(rig.faults(), [("storing", 100)]);
    rig.pass(1, |_| {}).await;
    assert_eq!(rig.faults(), []);
}
