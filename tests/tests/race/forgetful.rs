//! The control of the group commit's models: the same file over a condition that lets go of the lock before it listens,
//! so that a signal in between is lost. Loom must see the deadlock.

use loom::sync::Arc;
use loom::thread;

use crate::control;
use crate::model::explore;
use handover::{Handover, Limits};

#[path = "forgetful/sync.rs"]
mod sync;

#[path = "../../../journal/src/handover.rs"]
#[allow(dead_code, reason = "the control uses little of it")]
mod handover;

#[test]
fn a_condition_that_forgets_is_found_out() {
    control::must_fail("forgetful::park_over_a_forgetful_condition", "deadlock");
}

#[test]
#[ignore = "must fail: started by a_condition_that_forgets_is_found_out"]
fn park_over_a_forgetful_condition() {
    explore(|| {
        let limits = Limits {
            queue_bytes: 100,
            max_bytes: 0,
        };
        let handover = Arc::new(Handover::new(limits, 1, 0));
        let writer = {
            let handover = Arc::clone(&handover);
            thread::spawn(move || handover.park(None))
        };
        handover.push(1, vec![0; 10], 0).expect("there is room");
        writer.join().expect("the writer wakes");
    });
}
