//! What the dead letters may take, and which of them are needed no more.

use std::fs;

use super::forked::{crc, welcomed};
use super::*;
use crate::sender::set_aside::set_aside;

/// What lies in the store.
fn bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir.join("dead-letter")).unwrap();
    let length = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().metadata().unwrap().len();
    entries.map(length).sum()
}

/// The sink refuses everything. Mutations, each red: no limit; a limit that is not said; one that is not
/// looked at again.
#[tokio::test]
async fn beyond_their_limit_nothing_is_set_aside_and_the_rest_waits_in_the_spool() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start().await;
    sink.lock().refuse.extend(1..=100);
    let limited = SpoolConfig {
        dead_letter_max_bytes: 3_000,
        ..config(dir.path())
    };
    let spool = open(limited).await;
    fill(&spool, 20).await;
    let (health, registry) = (Health::new(clock()), Registry::new("weir_agent"));
    let sender = Sender::new(sender_config(sink.url()), spool.clone(), &health, &registry).unwrap();
    let token = CancellationToken::new();
    let task = tokio::spawn(sender.run(token.clone()));
    let said = || match health.ready() {
        Ok(()) => String::new(),
        Err(failing) => failing[0].to_string(),
    };
    until("it is said", || said().contains("dead letters take")).await;
    let letters = DeadLetters::new(dir.path());
    let first = letters.list().unwrap().len();
    assert!((2..10).contains(&first), "{first}");
    assert!(bytes(dir.path()) <= 3_000, "{}", bytes(dir.path()));
    let waiting = || spool.ledger().totals;
    until("what was set aside is dropped", || {
        waiting().dropped.get("refused") == Some(&(first as u64 * 10))
    })
    .await;
    let calls = sink.lock().calls;
    until("it is tried again", || sink.lock().calls > calls + 2).await;
    assert_eq!(waiting().spooled, 200 - first as u64 * 10);

    fs::remove_dir_all(dir.path().join("dead-letter")).unwrap();
    spool.look_for_room_for_letters();
    until("there are letters again", || {
        letters.list().unwrap().len() == first
    })
    .await;
    sink.lock().refuse.clear();
    until("the rest is stored", || waiting().spooled == 0).await;
    assert_eq!(waiting().acked, 200 - 2 * first as u64 * 10);
    check(&sink, &spool);
    token.cancel();
    spool.finish().await.unwrap();
    within(task).await.unwrap();
}

/// A proxy had turned the batch away on its way back. Mutation: the letter stays, and a replay stores the batch twice.
#[tokio::test]
async fn the_letter_of_a_batch_that_is_stored_after_all_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool_in(dir.path()).await;
    fill(&spool, 5).await;
    let stream = spool.streams().remove(0);
    for sequence in [2, 3] {
        set_aside(&spool, &stream, sequence, ("invalid_argument", "a proxy")).unwrap();
    }
    welcomed((&spool, &stream), (3, crc(&stream, 3), 30)).unwrap();
    let left = DeadLetters::new(dir.path()).list().unwrap();
    let left: Vec<u64> = left.iter().map(|note| note.sequence).collect();
    assert_eq!(left, [2], "of batch 2 the sink says nothing");
}
