//! Negative controls: a case of the matrix with the code broken by a mutation must be red, and for
//! the reason the mutation gives.

use weir_fault::{Mutant, Point};
use weir_tests::world::Sink;

use crate::cases::Case;
use crate::{agent, sink};

/// Asserts that a case was red and said one of these.
fn red(outcome: Result<(), String>, expected: &[&str]) {
    let found = outcome.expect_err("the matrix did not see the mutation");
    assert!(
        expected.iter().any(|text| found.contains(text)),
        "red for another reason: {found}"
    );
}

/// An agent that lets go of segments whose requests are not acknowledged loses them when it dies.
#[tokio::test]
async fn release_before_ack_is_seen() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = Sink::start(place.path(), sink::SETTINGS).await;
    // Killed where a segment goes: the request that holds the end of it is composed and never sent. More than
    // once, for the first segment to go may be one of the life before, which the sink has.
    let case = Case {
        point: Point::JournalReleased,
        passings: vec![1, 1, 1],
        ack_lost: false,
        backlog: 1200,
    };
    let outcome = agent::run_mutated(&case, &sink, Mutant::ReleaseBeforeAck).await;
    red(outcome, &["committed", "is missing or doubled"]);
}
