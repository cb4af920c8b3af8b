//! The committer driven by a task on a slow disk: time passes between the write and the sync of a
//! group, and a crash may fall in between.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/harness.rs"]
mod harness;

use std::time::Duration;

use harness::{body, open, read, record, small};
use tokio::time::{Instant, timeout};
use weir_journal::{Memory, Options};

const LATENCY: Duration = Duration::from_millis(7);
const FAR: Duration = Duration::from_secs(60);

/// Red when the hand-over does not wake the task: nothing is committed before the minute is over.
#[tokio::test(start_paused = true)]
async fn commits_what_is_handed_over_and_ends_when_closed() {
    let (journal, committer) = open(&Memory::new(), small()).unwrap();
    let driven = tokio::spawn(committer.drive_slowly(LATENCY));
    let mut expected = Vec::new();
    for number in 1..=20 {
        // It has parked by now.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let body = body(number, 100);
        let begun = Instant::now();
        assert_eq!(journal.try_append(1, &[&body]).unwrap(), number);
        let committed = timeout(FAR, journal.committed(number)).await;
        assert_eq!(committed.unwrap().unwrap(), number);
        assert!(begun.elapsed() >= LATENCY, "the disk takes its time");
        expected.push(record(number, &body));
    }
    journal.close();
    timeout(FAR, driven).await.unwrap().unwrap();
    assert!(journal.progress().borrow().closed);
    assert_eq!(read(&journal, 1), expected);
}

/// Red when a group counts before its sync, or is synced in the step that writes it.
#[tokio::test(start_paused = true)]
async fn power_lost_between_write_and_sync_leaves_what_was_durable_and_a_torn_rest() {
    let memory = Memory::new();
    let options = || Options {
        salt: Some(11),
        ..Options::default()
    };
    let (journal, committer) = open(&memory, options()).unwrap();
    let driven = tokio::spawn(committer.drive_slowly(LATENCY));
    let first = body(1, 5000);
    journal.try_append(1, &[&first]).unwrap();
    journal.committed(1).await.unwrap();
    journal.try_append(1, &[&body(2, 5000)]).unwrap();
    tokio::time::sleep(LATENCY / 2).await;
    assert_eq!(journal.progress().borrow().durable_through, 1);
    memory.crash_torn(3);
    driven.abort();
    assert!(driven.await.unwrap_err().is_cancelled());
    drop(journal);

    let (journal, _committer) = open(&memory, options()).unwrap();
    assert!(journal.recovery().cut_bytes > 0, "sectors of it survived");
    assert_eq!(read(&journal, 1), [record(1, &first)]);
}

/// Red when any id of a file is drawn elsewhere.
#[tokio::test(start_paused = true)]
async fn the_same_salt_gives_the_same_bytes() {
    async fn files(salt: u64) -> Vec<(std::path::PathBuf, Option<Vec<u8>>)> {
        let memory = Memory::new();
        for life in 0..2 {
            let options = Options {
                salt: Some(salt + life),
                ..small()
            };
            let (journal, committer) = open(&memory, options).unwrap();
            let driven = tokio::spawn(committer.drive_slowly(LATENCY));
            for number in 0..8 {
                journal.try_append(1, &[&body(number, 100)]).unwrap();
            }
            journal.close();
            driven.await.unwrap();
        }
        let paths = memory.paths().into_iter();
        paths
            .map(|path| (path.clone(), memory.read(&path)))
            .collect()
    }
    assert_eq!(files(5).await, files(5).await);
    assert_ne!(files(5).await, files(6).await);
}
