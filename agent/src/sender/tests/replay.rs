//! Dead letters put back: stored once, counted as replayed, and never in two places, whenever the
//! agent ends.

use super::*;
use crate::dead_letter::request::{Answer, Request};
use crate::dead_letter::{DeadLetters, Note};
use crate::sender::set_aside::set_aside;
use crate::spool::hex;

/// 10 batches of 10 readings, of which the sink refuses three; all is acknowledged.
async fn refused_three(sink: &Sink, dir: &Path) -> (Spool, Running) {
    let spool = spool_in(dir).await;
    sink.lock().refuse.extend([1, 5, 6]);
    fill(&spool, 10).await;
    let running = start(&spool, sender_config(sink.url()));
    until_acked(&spool, 70).await;
    until("the drops are booked", || {
        spool.ledger().totals.dropped.get("refused") == Some(&30)
    })
    .await;
    sink.lock().refuse.clear();
    (spool, running)
}

fn notes(dir: &Path) -> Vec<Note> {
    DeadLetters::new(dir).list().unwrap()
}

/// Seen red with the letter's series left out (the sink complains of a series that is not defined),
/// and with the books not moved (30 readings stay dropped and are acknowledged too).
#[tokio::test]
async fn letters_put_back_by_a_running_agent_are_stored_and_counted_as_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start().await;
    let (spool, running) = refused_three(&sink, dir.path()).await;
    let letters = DeadLetters::new(dir.path());
    let second = notes(dir.path())[1].name();
    let some = Some(vec![second, "nobody-1".to_owned()]);
    letters.ask("one", &Request { letters: some }).unwrap();
    let mut answer = None;
    while answer.is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
        answer = letters.take_answer("one");
    }
    let Some(Answer::Done(done)) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!((done.letters, done.readings), (1, 10));
    assert_eq!(done.faults, ["there is no letter nobody-1"]);
    assert_eq!(notes(dir.path()).len(), 2);
    until_acked(&spool, 80).await;

    let done = spool.replay(None).await.unwrap();
    assert_eq!((done.letters, done.readings), (2, 20));
    assert_eq!(notes(dir.path()), []);
    // The batcher goes on as if nothing had happened.
    spool.append(draft(11, 10)).await.unwrap();
    until_acked(&spool, 110).await;
    let totals = spool.ledger().totals;
    assert_eq!((totals.replayed, totals.dropped.get("refused")), (30, None));
    assert_eq!((totals.produced, totals.spooled), (100 + 30 + 10, 0));
    check(&sink, &spool);
    running.stop().await;
}

/// What the agent's end between two steps leaves is either the letter or the copy.
/// Seen red with `settle_replays` left out at open.
#[tokio::test]
async fn an_end_in_the_middle_of_a_replay_leaves_the_letter_or_the_copy() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start().await;
    let (spool, running) = refused_three(&sink, dir.path()).await;
    let source = spool.streams()[0].id;
    running.task.abort();
    let _ = running.task.await;
    let letters = DeadLetters::new(dir.path());
    let mark = |into: &[u8; 16]| {
        let mut note = notes(dir.path()).remove(0);
        note.replayed_in = Some(hex(into));
        letters.write_note(&note).unwrap();
    };
    // Before the copy counts: it is gone at the next start, and the letter is what it was.
    let copy = [9; 16];
    mark(&copy);
    spool.streams()[0].book_replay(copy, 10).unwrap();
    assert_eq!(spool.ledger().totals.replayed, 10);
    drop((spool, running.spool, running.registry));
    let spool = spool_in(dir.path()).await;
    let totals = spool.ledger().totals;
    assert_eq!((totals.replayed, totals.dropped["refused"]), (0, 30));
    assert_eq!(notes(dir.path()).len(), 3);
    assert!(
        notes(dir.path())
            .iter()
            .all(|note| note.replayed_in.is_none())
    );
    // After it counts: the letter is gone at the next start.
    mark(&source);
    drop(spool);
    let spool = spool_in(dir.path()).await;
    assert_eq!(notes(dir.path()).len(), 2);
    let done = spool.replay(None).await.unwrap();
    assert_eq!((done.letters, done.readings), (2, 20));
    check(&sink, &spool);
}

/// The agent ended between the letter and the acknowledgement of its Skip, and the sink has changed its
/// mind since. Seen red with the letters not looked up at a Welcome (`kept_back` left out: batch 3 is
/// stored, and again by the replay), with the replay not asking whether the letter is settled, and with
/// the Skip's acknowledgement not noted on disk (the replay by a later run finds it open).
#[tokio::test]
async fn a_letter_whose_skip_was_never_acknowledged_is_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start().await;
    let spool = spool_in(dir.path()).await;
    fill(&spool, 5).await;
    let source = spool.streams().remove(0);
    set_aside(&spool, &source, 3, ("malformed", "as the test says")).unwrap();
    drop((source, spool));

    let spool = spool_in(dir.path()).await;
    let refused = spool.streams()[0].id;
    let done = spool.replay(None).await.unwrap();
    assert_eq!((done.letters, notes(dir.path()).len()), (0, 1));
    assert!(done.faults[0].contains("is not settled"), "{done:?}");

    // Batch 4 does not get through, so that the stream is still held afterwards.
    sink.lock().poison.insert(4, Status::unavailable("busy"));
    let one_record_per_request = SenderConfig {
        request_max_bytes: 1,
        ..sender_config(sink.url())
    };
    let running = start(&spool, one_record_per_request);
    until("the Skip is booked", || {
        spool.ledger().totals.dropped.get("refused") == Some(&10)
    })
    .await;
    running.task.abort();
    let _ = running.task.await;
    drop((spool, running.spool, running.registry));
    sink.lock().poison.clear();

    let spool = spool_in(dir.path()).await;
    let done = spool.replay(None).await.unwrap();
    assert_eq!((done.letters, done.readings, done.faults.len()), (1, 10, 0));
    let running = start(&spool, sender_config(sink.url()));
    until("all is delivered", || spool.ledger().totals.spooled == 0).await;
    assert!(!sink.kept(refused).stored.contains_key(&3));
    let stored = |kept: &sink::Kept| kept.stored_readings();
    assert_eq!(sink.lock().streams.values().map(stored).sum::<u64>(), 50);
    check(&sink, &spool);
    running.stop().await;
}
