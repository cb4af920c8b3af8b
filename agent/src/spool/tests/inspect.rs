//! Looking at a spool from outside says what the test knows it to hold. Expected counts come from
//! what was appended, expected damage from the bytes the test changed.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::spool::inspect::{Lost, Summary, streams as held};

fn look(data_dir: &Path) -> Vec<Summary> {
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    let held = held(storage.as_ref(), &data_dir.join("spool")).unwrap();
    let survey = |stream: &crate::spool::inspect::Held| stream.survey(&storage).unwrap().0;
    held.iter().map(survey).collect()
}

pub(super) fn segments(data_dir: &Path) -> Vec<PathBuf> {
    let storage = Disk;
    let held = fs::read_dir(data_dir.join("spool")).unwrap();
    let mut streams: Vec<PathBuf> = held.map(|entry| entry.unwrap().path()).collect();
    streams.retain(|path| path.is_dir());
    streams.sort();
    let mut found: Vec<PathBuf> = storage
        .list(&streams[0])
        .unwrap()
        .iter()
        .filter(|name| name.ends_with(".seg"))
        .map(|name| streams[0].join(name))
        .collect();
    found.sort();
    found
}

/// The first sequence in a segment's name.
pub(super) fn first_of(segment: &Path) -> u64 {
    let name = segment.file_stem().unwrap().to_str().unwrap();
    name.parse().unwrap()
}

/// Batch n has n readings, so that every range has a sum of its own.
pub(super) async fn leave_behind(config: &SpoolConfig, batches: u64) {
    let spool = open(config.clone()).await;
    spool.append(first_draft(1)).await.unwrap();
    for n in 2..=batches {
        spool.append(draft(n, n as usize)).await.unwrap();
    }
    spool.finish().await.unwrap();
}

pub(super) fn sum(from: u64, through: u64) -> u64 {
    (from..=through).sum()
}

#[tokio::test]
async fn a_running_spool_is_seen_whole_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(tight(dir.path(), Overflow::Block)).await;
    spool.append(first_draft(1)).await.unwrap();
    for n in 2..=60 {
        spool.append(draft(n, n as usize)).await.unwrap();
    }
    committed(&spool).await;
    let live = oldest(&spool);
    ack(&spool, &live, 40);
    live.release(1).unwrap();
    let oldest = live.oldest_sequence();
    assert!((2..=41).contains(&oldest), "segments were given back");
    let seen = look(dir.path()).remove(0);
    assert_eq!((seen.first, seen.last), (Some(oldest), 60));
    assert_eq!(seen.readings, sum(oldest, 60));
    assert_eq!(seen.unacked, sum(41, 60));
    assert_eq!(seen.oldest_unacked_ns, START_NS + 41_000_000_000);
    assert_eq!(seen.lost, []);
    assert_eq!(seen.damaged_bytes, 0);
    spool.append(draft(61, 61)).await.unwrap();
    committed(&spool).await;
    assert_eq!(look(dir.path())[0].last, 61);
}

/// Seen red with the readings of a hole taken from the record before it alone.
#[tokio::test]
async fn a_damaged_record_is_named_with_exactly_its_readings() {
    let dir = tempfile::tempdir().unwrap();
    leave_behind(&tight(dir.path(), Overflow::Block), 60).await;
    let segments = segments(dir.path());
    let (second, third) = (first_of(&segments[1]), first_of(&segments[2]));
    let mut bytes = fs::read(&segments[1]).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&segments[1], bytes).unwrap();
    let seen = look(dir.path()).remove(0);
    let lost = Lost {
        from: third - 1,
        through: third - 1,
        readings: Some(third - 1),
        given_up: false,
    };
    assert_eq!(seen.lost, [lost]);
    assert!(second < third - 1);
    assert_eq!(seen.readings, sum(1, 60) - (third - 1));
}

/// What the policy gave up is told from what was lost, in one hole. Seen red with `dropped_through`
/// not noted before the segment went.
#[tokio::test]
async fn what_made_room_is_told_from_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let config = tight(dir.path(), Overflow::DropOldest);
    let spool = open(config).await;
    spool.append(first_draft(1)).await.unwrap();
    let mut n = 1;
    while oldest(&spool).oldest_sequence() == 1 {
        n += 1;
        spool.append(draft(n, 150)).await.unwrap();
    }
    spool.finish().await.unwrap();
    drop(spool);
    let segments = segments(dir.path());
    let (first, next) = (first_of(&segments[0]), first_of(&segments[1]));
    assert!(first > 1);
    fs::remove_file(&segments[0]).unwrap();
    let readings = |from: u64, through: u64| {
        let batch = |n: u64| if n == 1 { 1 } else { 150 };
        (from..=through).map(batch).sum()
    };
    let lost = |from, through, given_up| Lost {
        from,
        through,
        readings: Some(readings(from, through)),
        given_up,
    };
    let seen = look(dir.path()).remove(0);
    let expected = [lost(1, first - 1, true), lost(first, next - 1, false)];
    assert_eq!(seen.lost, expected);
    // The next agent says the same to the sink.
    let spool = open(tight(dir.path(), Overflow::DropOldest)).await;
    let old = oldest(&spool);
    assert_eq!(old.reason_of_hole(first - 1), v1::DropReason::SpoolOldest);
    assert_eq!(old.reason_of_hole(first), v1::DropReason::Damaged);
    assert_eq!(old.marks()[1], (first - 1, readings(1, first - 1)));
}
