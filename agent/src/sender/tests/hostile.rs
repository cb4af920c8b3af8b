//! A sink that says anything: marks beyond what there is, acknowledgements of what it was never sent or that
//! go backwards, windows of any size, refusals of anything, statuses, silence in mid-call.
//!
//! Whatever it says, the agent does not end, does not hurry, and lets go of nothing but what it was told is
//! stored: afterwards an honest sink that has nothing gets every batch that no believable answer covered and
//! that was not set aside. What a batch is is told by its first moment, from the test's own list.
//!
//! Seen red with: `Resume::check_counts` left out (the sums of an account overflow), `Session::on_ack` without
//! its comparison (an agent believes an ack of what it never sent), every ack taken for all that is outstanding, a
//! refusal's words kept whole.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};

use proptest::prelude::*;

use super::*;
use crate::cases;
use peer::{Greeting, Number, Said, Script, State};

mod peer;

const BATCHES: u64 = 12;

fn held(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap()
}

/// Runs one script against an agent, and then lets an honest sink take the rest. Answers how many readings the
/// agent took to be stored before that.
async fn survives(script: Vec<Script>) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool_in(dir.path()).await;
    fill(&spool, BATCHES).await;
    let scripted = script.len() as u64;
    let state = Arc::new(Mutex::new(State {
        script: script.into(),
        ..State::default()
    }));
    let (address, hostile) = peer::serve(Arc::clone(&state)).await;
    let few_per_request = SenderConfig {
        request_max_bytes: 700,
        window_bytes: 2000,
        ack_timeout: Duration::from_millis(150),
        ..sender_config(format!("http://{address}"))
    };
    let began = Instant::now();
    let running = start(&spool, few_per_request);
    // One call more than scripted: what was said is heard. An agent that is told all is stored does not call again.
    let settled = || spool.ledger().totals.spooled == 0;
    until("it has said it all", || {
        held(&state).calls > scripted || settled() || running.task.is_finished()
    })
    .await;
    let (calls, waited) = (held(&state).calls, began.elapsed());
    let most = waited.as_millis() / 5 + 2;
    assert!(u128::from(calls) <= most, "{calls} calls in {waited:?}");
    let acked = spool.ledger().totals.acked;
    hostile.cancel();
    let honest = Sink::start_at(address).await;
    until("an honest sink has the rest", || {
        settled() || running.task.is_finished()
    })
    .await;
    running.stop().await;
    assert_eq!(honest.lock().complaints, Vec::<String>::new());
    let stored = honest.lock().moments.clone();
    let aside = set_aside(dir.path());
    let claimed = held(&state).claimed_moments();
    let moments = (1..=BATCHES).map(|n| draft(n, 10).encoded.first_ns);
    let lost: Vec<i64> = moments
        .filter(|moment| {
            ![&stored, &aside, &claimed]
                .iter()
                .any(|some| some.contains(moment))
        })
        .collect();
    assert_eq!(
        lost,
        Vec::<i64>::new(),
        "{} stored, {} claimed, {} set aside",
        stored.len(),
        claimed.len(),
        aside.len()
    );
    acked
}

/// First moments of the dead letters, none of which repeats a peer at length.
fn set_aside(dir: &Path) -> BTreeSet<i64> {
    let notes = DeadLetters::new(dir).list().unwrap();
    for note in &notes {
        assert!(note.reason.len() <= 500, "{}", note.reason.len());
    }
    notes.iter().map(|note| note.first_ns).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4, ..cases::cases(24) })]

    #[test]
    fn whatever_a_sink_says_nothing_unproven_is_let_go(script in peer::script()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _acked = runtime.block_on(survives(script));
    }
}

#[tokio::test]
async fn an_ack_of_what_was_never_sent_is_not_believed() {
    let welcome = Said::Welcome(Greeting {
        durable: Number::Near(0),
        readings: Number::Near(0),
        crc: None,
        window: 0,
        books: None,
    });
    let beyond = Said::Ack(Number::Exactly(BATCHES), 0);
    let believed = survives(vec![Script {
        first: welcome,
        then: vec![beyond],
    }])
    .await;
    assert_eq!(believed, 0);
}

#[tokio::test]
async fn counts_beyond_the_stream_are_not_taken_over() {
    let honest = Greeting {
        durable: Number::Near(0),
        readings: Number::Near(0),
        crc: None,
        window: 1 << 20,
        books: None,
    };
    let acks = Script {
        first: Said::Welcome(honest.clone()),
        then: vec![Said::Ack(Number::Near(0), 1 << 20), Said::End],
    };
    for (readings, dropped) in [(u64::MAX, 0), (30, u64::MAX)] {
        let absurd = Greeting {
            readings: Number::Exactly(readings),
            books: Some(vec![(1, dropped), (2, dropped)]),
            ..honest.clone()
        };
        let earlier = Greeting {
            durable: Number::Near(-1),
            books: None,
            ..absurd.clone()
        };
        let then = vec![Said::Ack(Number::Near(0), 1 << 20); 2];
        survives(vec![
            acks.clone(),
            Script {
                first: Said::Welcome(absurd),
                then: then.clone(),
            },
            Script {
                first: Said::Welcome(earlier),
                then,
            },
        ])
        .await;
    }
}
