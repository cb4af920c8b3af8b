//! Opening with several threads that read segments.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use weir_journal::{Disk, Item, Journal, Options};

fn open(dir: &Path, scan_threads: usize) -> (Journal, JoinHandle<()>) {
    let options = Options {
        segment_bytes: 4 << 10,
        scan_threads,
        ..Options::default()
    };
    let (journal, committer) = Journal::open(Arc::new(Disk), dir, options).unwrap();
    (journal, committer.spawn().unwrap())
}

fn read_all(journal: &Journal) -> Vec<Item> {
    let mut reader = journal.reader(1);
    std::iter::from_fn(|| reader.next().unwrap()).collect()
}

/// Red (opening never ends) when segments that were read out of turn stay so.
#[tokio::test]
async fn several_threads_find_what_one_finds() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, writer) = open(dir.path(), 1);
    for _ in 0..30 {
        for count in 0..10_u8 {
            journal.append(1, &[&[count; 300]]).await.unwrap();
        }
        journal.committed(journal.next() - 1).await.unwrap();
    }
    drop(journal);
    writer.join().unwrap();
    let mut segments: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.metadata().unwrap().len() > 2000)
        .collect();
    segments.sort();
    assert!(segments.len() > 10, "{segments:?}");
    // What is cut from the last one is cut once.
    segments.pop();
    for segment in segments.iter().step_by(3) {
        let mut bytes = std::fs::read(segment).unwrap();
        bytes[1000] ^= 1;
        std::fs::write(segment, bytes).unwrap();
    }
    let mut found = Vec::new();
    for scan_threads in [1, 2, 1000] {
        let (journal, writer) = open(dir.path(), scan_threads);
        found.push((journal.recovery().clone(), read_all(&journal)));
        drop(journal);
        writer.join().unwrap();
    }
    assert!(found[0].0.holes.len() > 3, "{:?}", found[0].0);
    assert_eq!(found[0], found[1]);
    assert_eq!(found[0], found[2]);
}
