//! The crash matrix: real processes are killed by SIGKILL at every named point between sensor and
//! stored row, each alone and with acknowledgements lost on the link, at an early and at a later
//! passing, again and again on the same data. What is stored in the end is compared with the
//! sender's own record.
//!
//! | file | what it holds |
//! |---|---|
//! | `cases` | which points, in which program, and at which passings |
//! | `feeder` | a sender that keeps its own record, for kills of the sink |
//! | `sink` | the sink is killed |
//! | `agent` | the agent is killed, delivering to one sink that all cases share |
//! | `refused` | the agent is killed while a sink refuses batches |
//! | `replay` | dead letters are being put back |
//! | `control` | the same with the code broken: the matrix must see it |
//!
//! `WEIR_TESTS_CRASH_ROUNDS` (1 when not set) makes it longer: so many times as many kills of each
//! case, at ever later passings. `make crash-matrix ROUNDS=5` sets it.

#[path = "crash_matrix/agent.rs"]
mod agent;
#[path = "crash_matrix/cases.rs"]
mod cases;
#[path = "crash_matrix/control.rs"]
mod control;
#[path = "crash_matrix/feeder.rs"]
mod feeder;
#[path = "crash_matrix/refused.rs"]
mod refused;
#[path = "crash_matrix/replay.rs"]
mod replay;
#[path = "crash_matrix/sink.rs"]
mod sink;

use std::sync::Arc;

use weir_tests::counting::audited;
use weir_tests::world::Sink;

use cases::{AGENT, REFUSED, REPLAY, SINK, all_of};

/// Every point in the sink, alone.
/// Red when the sink acknowledges what it has not synced (`ack_before_sync`), stores a sequence
/// twice (`no_dedupe`), or moves its position without the file (`commit_without_file`).
#[tokio::test]
async fn sink_killed_anywhere_stores_each_reading_once() {
    cases::run(cases::each(SINK, false), |case| async move {
        sink::run(&case).await
    })
    .await;
}

/// Every point in the sink, while its last acknowledgements never reach the sender.
#[tokio::test]
async fn sink_killed_anywhere_with_its_acks_lost_stores_each_reading_once() {
    cases::run(cases::each(SINK, true), |case| async move {
        sink::run(&case).await
    })
    .await;
}

/// Every point in the agent, alone and with acknowledgements lost. The cases share one sink.
/// Red when the agent releases what is not acknowledged (`release_before_ack`).
#[tokio::test]
async fn agent_killed_anywhere_delivers_each_committed_reading_once() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = Arc::new(Sink::start(place.path(), sink::SETTINGS).await);
    let cases = [cases::each(AGENT, false), cases::each(AGENT, true)].concat();
    let shared = Arc::clone(&sink);
    cases::run(cases, move |case| {
        let sink = Arc::clone(&shared);
        async move { agent::run(&case, &sink).await }
    })
    .await;
    audited(&sink).expect("files and ledger agree");
}

/// The points around a refusal: what was refused is in the dead-letter store, the rest is stored.
#[tokio::test]
async fn agent_killed_around_a_refusal_keeps_the_batch_and_delivers_the_rest() {
    cases::run(cases::each(REFUSED, false), |case| async move {
        refused::run(&case).await
    })
    .await;
}

/// The points of a replay: every reading is delivered once in the end, and no letter is left.
/// Red when a start does not settle what a replay had begun (`settle_replays` left out).
#[tokio::test]
async fn replay_killed_anywhere_delivers_each_reading_once() {
    cases::run(cases::each(REPLAY, false), |case| async move {
        replay::run(&case).await
    })
    .await;
}

/// A point that is added to the programs and not to the matrix would be tested by nobody.
#[test]
fn every_point_has_a_case() {
    let mut covered: Vec<_> = all_of(&[SINK, AGENT, REFUSED, REPLAY]);
    // Where no reading is under way: `front_door/enrolment.rs`.
    covered.extend([
        weir_fault::Point::IdentityKey,
        weir_fault::Point::IdentityWritten,
        weir_fault::Point::IdentityKept,
    ]);
    for point in weir_fault::Point::ALL {
        assert!(covered.contains(point), "no case kills at {}", point.name());
    }
    for point in covered
        .iter()
        .filter(|point| point.name().starts_with("journal."))
    {
        let programs = [SINK, AGENT].iter();
        let programs = programs.filter(|table| all_of(&[table]).contains(point));
        assert_eq!(programs.count(), 2, "{} is in both programs", point.name());
    }
}
