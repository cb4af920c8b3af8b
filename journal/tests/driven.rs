//! The writer as a task: what a thread does in a program, on tokio's clock.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/harness.rs"]
mod harness;

use std::time::Duration;

use harness::open;
use tokio::time::{Instant, timeout};
use weir_journal::{AppendError, Memory, Options};

const SOON: Duration = Duration::from_secs(10);

fn every(commit_interval: Duration) -> Options {
    Options {
        commit_interval,
        ..Options::default()
    }
}

/// Red when the hand-over does not wake the task.
#[tokio::test]
async fn a_task_commits_what_is_handed_over_while_it_waits() {
    let (journal, committer) = open(&Memory::new(), every(Duration::ZERO)).unwrap();
    let writer = tokio::spawn(committer.drive());
    for number in 1..=3 {
        assert_eq!(journal.try_append(1, &[b"reading"]).unwrap(), number);
        let durable = timeout(SOON, journal.committed(number)).await.unwrap();
        assert_eq!(durable.unwrap(), number);
    }
    journal.close();
    timeout(SOON, writer).await.unwrap().unwrap();
    assert!(journal.progress().borrow().closed);
}

/// Red when the task sets no timer for the commit interval, or does not wait for it.
#[tokio::test]
async fn a_task_waits_for_company_as_long_as_the_interval() {
    let interval = Duration::from_millis(40);
    let memory = Memory::new();
    let (journal, committer) = open(&memory, every(interval)).unwrap();
    let begun = Instant::now();
    let writer = tokio::spawn(committer.drive());
    journal.try_append(1, &[b"one"]).unwrap();
    tokio::task::yield_now().await;
    journal.try_append(1, &[b"two"]).unwrap();
    let durable = timeout(SOON, journal.committed(2)).await.unwrap();
    assert_eq!(durable.unwrap(), 2);
    assert!(begun.elapsed() >= interval);
    assert_eq!(journal.stats().syncs, 1);
    writer.abort();
}

/// Red when a new interval does not wake the writer, which then keeps to the one it fell asleep with.
#[tokio::test]
async fn a_shorter_interval_counts_for_what_waits_already() {
    let hour = Duration::from_secs(3600);
    let (journal, committer) = open(&Memory::new(), every(Duration::ZERO)).unwrap();
    journal.set_commit_interval(hour);
    let writer = tokio::spawn(committer.drive());
    journal.try_append(1, &[b"patient"]).unwrap();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(journal.progress().borrow().durable_through, 0);
    journal.set_commit_interval(Duration::ZERO);
    let durable = timeout(SOON, journal.committed(1)).await.unwrap();
    assert_eq!(durable.unwrap(), 1);
    writer.abort();
}

/// Red when a dropped task leaves a journal that goes on accepting.
#[tokio::test]
async fn a_task_that_is_dropped_poisons_the_journal() {
    let (journal, committer) = open(&Memory::new(), every(Duration::ZERO)).unwrap();
    let writer = tokio::spawn(committer.drive());
    tokio::task::yield_now().await;
    writer.abort();
    let _ = writer.await;
    let refused = journal.try_append(1, &[b"late"]).unwrap_err();
    assert!(matches!(refused, AppendError::Poisoned(_)), "{refused}");
}
