//! A journal through its front door, on the real disk: append, commit, read, release, reopen.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use weir_journal::{AppendError, Disk, Frames, Item, Journal, OpenError, Options};

fn open(dir: &Path, options: Options) -> (Journal, JoinHandle<()>) {
    let (journal, committer) = Journal::open(Arc::new(Disk), dir, options).unwrap();
    (journal, committer.spawn().unwrap())
}

fn read_all(journal: &Journal, from: u64) -> Vec<Item> {
    let mut reader = journal.reader(from);
    std::iter::from_fn(|| reader.next().unwrap()).collect()
}

fn record(number: u64, body: &[u8]) -> Item {
    Item::Record {
        number,
        kind: 1,
        body: Bytes::copy_from_slice(body),
    }
}

#[tokio::test]
async fn keeps_records_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, writer) = open(dir.path(), Options::default());
    let id = journal.id();
    assert_eq!(journal.append(1, &[b"on", b"e"]).await, Ok(1));
    assert_eq!(journal.append(1, &[b"two"]).await, Ok(2));
    assert_eq!(journal.committed(2).await, Ok(2));
    let expected = vec![record(1, b"one"), record(2, b"two")];
    assert_eq!(read_all(&journal, 1), expected);
    journal.close();
    writer.join().unwrap();
    assert_eq!(journal.try_append(1, &[b"late"]), Err(AppendError::Closed));
    assert_eq!(journal.committed(3).await, Err(AppendError::Closed));
    drop(journal);

    let (journal, writer) = open(dir.path(), Options::default());
    assert_eq!(journal.id(), id);
    assert_eq!((journal.recovery().oldest, journal.recovery().next), (1, 3));
    assert_eq!(journal.append(1, &[b"three"]).await, Ok(3));
    assert_eq!(journal.committed(3).await, Ok(3));
    assert_eq!(read_all(&journal, 3), [record(3, b"three")]);
    assert_eq!(read_all(&journal, 1)[..2], expected);
    drop(journal);
    writer.join().unwrap();
}

#[tokio::test]
async fn a_second_opener_is_told_which_directory_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, writer) = open(dir.path(), Options::default());
    let refused = Journal::open(Arc::new(Disk), dir.path(), Options::default()).unwrap_err();
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused}");
    assert!(refused.to_string().contains(dir.path().to_str().unwrap()));
    drop(journal);
    writer.join().unwrap();
}

#[tokio::test]
async fn concurrent_appenders_share_syncs_and_keep_order() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        commit_interval: Duration::from_millis(20),
        segment_bytes: 64 << 10,
        ..Options::default()
    };
    let (journal, writer) = open(dir.path(), options);
    let tasks: Vec<_> = (0..8_u8)
        .map(|task| {
            let journal = journal.clone();
            tokio::spawn(async move {
                let mut mine = Vec::new();
                for count in 0..50_u8 {
                    let body = [task, count];
                    let number = journal.append(2, &[&body, &[0; 500]]).await.unwrap();
                    mine.push((number, body));
                }
                journal.committed(mine[49].0).await.unwrap();
                mine
            })
        })
        .collect();
    let mut expected = Vec::new();
    for task in tasks {
        expected.extend(task.await.unwrap());
    }
    expected.sort_unstable();
    let read: Vec<_> = read_all(&journal, 1)
        .into_iter()
        .map(|item| match item {
            Item::Record { number, body, .. } => (number, [body[0], body[1]]),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(read, expected);
    assert_eq!(read.last().unwrap().0, 400);
    let stats = journal.stats();
    assert!(stats.syncs < 400, "{stats:?}");
    assert!(stats.segments > 2, "{stats:?}");
    drop(journal);
    writer.join().unwrap();
}

#[tokio::test]
async fn a_process_killed_without_a_close_leaves_what_it_committed() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes: 8 << 10,
        ..Options::default()
    };
    let mut expected = Vec::new();
    for life in 0..5_u8 {
        let (journal, mut committer) =
            Journal::open(Arc::new(Disk), dir.path(), options.clone()).unwrap();
        assert_eq!(read_all(&journal, 1), expected);
        for count in 0..10_u8 {
            let body = [&[life, count], &[0; 700][..]];
            let number = journal.try_append(1, &body).unwrap();
            while committer.step() {}
            assert_eq!(journal.committed(number).await, Ok(number));
            expected.push(record(number, &body.concat()));
        }
        journal.try_append(1, &[b"never committed"]).unwrap();
        drop(committer);
    }
    let (journal, _committer) = Journal::open(Arc::new(Disk), dir.path(), options).unwrap();
    assert_eq!(read_all(&journal, 1), expected);
    assert!(journal.recovery().holes.is_empty());
    assert!(journal.stats().segments > 4);
    let before = journal.bytes();
    journal.release(40).unwrap();
    assert!(journal.oldest() > 30 && journal.oldest() <= 41);
    assert!(journal.bytes() < before / 2);
    let on_disk: u64 = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(on_disk < before / 2 + (8 << 10), "{on_disk}");
}

fn frames(bodies: &[&[u8]]) -> weir_journal::Sealed {
    let mut frames = Frames::default();
    for body in bodies {
        frames.put(|out| out.extend_from_slice(body));
    }
    assert_eq!(frames.len(), bodies.len());
    frames.seal()
}

/// Red when `push_all` gives one number to all, or takes a part.
#[tokio::test]
async fn records_appended_together_are_in_a_row_or_not_there_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        queue_bytes: 200,
        ..Options::default()
    };
    let (journal, mut committer) =
        Journal::open(Arc::new(Disk), dir.path(), options.clone()).unwrap();
    assert_eq!(journal.try_append(1, &[b"alone"]), Ok(1));
    let together = frames(&[b"one", b"", b"three"]);
    let bodies: Vec<Bytes> = together.bodies().collect();
    assert_eq!(bodies, [&b"one"[..], b"", b"three"]);
    assert_eq!(journal.try_append_all(1, &together), Ok(2));
    let before = (journal.next(), journal.bytes());
    let much = frames(&[&[7; 30], &[7; 30], &[7; 30]]);
    assert_eq!(journal.try_append_all(1, &much), Err(AppendError::Busy));
    assert_eq!((journal.next(), journal.bytes()), before);
    while committer.step() {}
    assert_eq!(journal.try_append_all(1, &much), Ok(5));
    while committer.step() {}
    drop((journal, committer));

    let (journal, _committer) = Journal::open(Arc::new(Disk), dir.path(), options).unwrap();
    let bodies: [&[u8]; 7] = [
        b"alone", b"one", b"", b"three", &[7; 30], &[7; 30], &[7; 30],
    ];
    let expected: Vec<Item> = (1..).zip(bodies).map(|(n, body)| record(n, body)).collect();
    assert_eq!(read_all(&journal, 1), expected);
}
