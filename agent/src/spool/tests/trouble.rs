//! A spool in trouble: a full disk, a cut end, a dictionary as large as the batches. Expected counts
//! come from what was offered.

use std::fs;

use super::inspect::{first_of, leave_behind, segments, sum};
use super::*;
use weir_journal::storage::Faults;

/// An agent that starts where there is no room counts what it cannot keep and begins when there is.
/// Seen red with a stream demanded at open.
#[tokio::test]
async fn starts_on_a_full_disk_and_recovers_by_itself() {
    let memory = Memory::new();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let config = SpoolConfig {
        overflow: Overflow::DropNewest,
        ..config(Path::new("/data"))
    };
    let spool = open_on(Arc::clone(&storage), config.clone()).await;
    spool.append(first_draft(10)).await.unwrap();
    spool.finish().await.unwrap();
    drop(spool);
    memory.set_capacity(Some(0));
    let spool = open_on(Arc::clone(&storage), config).await;
    assert_eq!(spool.live_stream_id(), None);
    assert_eq!(
        spool.ledger().totals.spooled,
        10,
        "the earlier stream is there"
    );
    for n in 2..=4 {
        let appended = spool.append(draft(n, 7)).await.unwrap();
        assert_eq!(appended, Appended::Dropped);
    }
    let files = memory.paths().len();
    memory.set_capacity(None);
    let appended = spool.append(draft(5, 7)).await.unwrap();
    assert_eq!(appended, Appended::Stored { sequence: 1 });
    spool.finish().await.unwrap();
    assert!(memory.paths().len() > files);
    let totals = spool.ledger().totals;
    assert_eq!(totals.produced, 10 + 3 * 7 + 7);
    let live = streams(&spool).pop().unwrap();
    let skip = (2, 7, 21, Some(v1::DropReason::SpoolNewest));
    assert_eq!(records(&live), [(1, 0, 7, None), skip]);
}

#[tokio::test]
async fn a_full_disk_blocks_or_drops_and_recovers_by_itself() {
    for overflow in [Overflow::Block, Overflow::DropOldest] {
        let memory = Memory::new();
        let storage: Arc<dyn Storage> = Arc::new(memory.clone());
        let config = SpoolConfig {
            overflow,
            ..config(Path::new("/data"))
        };
        memory.set_capacity(Some(0));
        let spool = open_on(storage, config).await;
        let waiting = tokio::spawn({
            let spool = spool.clone();
            async move { spool.append(first_draft(10)).await }
        });
        let deadline = Instant::now() + Duration::from_secs(10);
        while !spool.is_starved() {
            assert!(Instant::now() < deadline, "it waits for room");
            tokio::task::yield_now().await;
        }
        assert!(!waiting.is_finished());
        // Mutations: a cause that is not told, a batch in nobody's books.
        assert_eq!(spool.pressure(), Some(Cause::Disk));
        let (readings, since) = spool.in_memory();
        assert!(readings == 10 && since.is_some(), "{readings}");
        memory.set_capacity(None);
        let appended = tokio::time::timeout(Duration::from_secs(10), waiting).await;
        let appended = appended.expect("goes on").unwrap().unwrap();
        assert_eq!(appended, Appended::Stored { sequence: 1 });
        committed(&spool).await;
        assert_eq!(spool.in_memory(), (0, None));
        assert_eq!(spool.ledger().totals.produced, 10);
    }
}

/// Fills a disk of this size under the policy; answers the spool, what was stored and what was dropped.
async fn fill_disk(memory: &Memory, overflow: Overflow, batches: u64) -> (Spool, u64, u64) {
    let config = SpoolConfig {
        segment_bytes: 8 << 10,
        overflow,
        ..config(Path::new("/data"))
    };
    memory.set_capacity(Some(96 << 10));
    // The writer as a task: it has its turn when the spool waits for it, and not by luck.
    let ground = Ground {
        storage: Arc::new(memory.clone()),
        clock: clock(),
        writers: Writers::Tasks(Duration::ZERO),
    };
    let spool = Spool::open_at(ground, config).unwrap();
    let (mut stored, mut dropped) = (0, 0);
    for n in 1..=batches {
        match spool.append(draft(n, 100)).await.unwrap() {
            Appended::Stored { .. } => stored += 1,
            Appended::Dropped => dropped += 1,
        }
        // The writer has looked at it, unless it has nowhere to put it.
        let live = oldest(&spool);
        let mut progress = live.progress();
        let looked = progress.wait_for(|now| now.disk_full || now.durable_through >= stored);
        tokio::time::timeout(Duration::from_secs(10), looked)
            .await
            .expect("in time")
            .unwrap();
    }
    (spool, stored, dropped)
}

/// A disk that was full and then fails: the writer is gone, and only a new start goes on. Red when the spool goes on waiting
/// for room, or dropping for want of it.
#[tokio::test]
async fn a_disk_that_fails_while_it_is_full_is_no_full_disk() {
    let memory = Memory::new();
    let (spool, ..) = fill_disk(&memory, Overflow::DropNewest, 300).await;
    let live = oldest(&spool);
    assert!(live.is_held_up());
    memory.set_faults(Faults {
        syncs_left: Some(0),
        ..Faults::default()
    });
    memory.set_capacity(None);
    let mut progress = live.progress();
    let failed = progress.wait_for(|now| now.poisoned.is_some());
    let failed = tokio::time::timeout(Duration::from_secs(10), failed).await;
    assert!(failed.expect("the writer tries again").is_ok());
    memory.set_faults(Faults::default());
    let appended = tokio::time::timeout(Duration::from_secs(10), spool.append(draft(301, 100)));
    appended.await.expect("it says so").unwrap_err();
}

/// What waits in memory is gone with the process, and nothing has counted it. Red when what does not fit
/// the disk may wait for as long as the writer's queue has room (nothing is dropped then).
#[tokio::test]
async fn a_disk_that_fills_up_leaves_next_to_nothing_in_memory() {
    let memory = Memory::new();
    let (spool, stored, dropped) = fill_disk(&memory, Overflow::DropNewest, 300).await;
    let live = oldest(&spool);
    let waits = stored - live.durable().0;
    assert!(waits <= 2, "{waits} batches wait in memory");
    assert!(dropped > 100, "{dropped}");
    memory.set_capacity(None);
    spool.finish().await.unwrap();
    let totals = spool.ledger().totals;
    assert_eq!(
        totals.produced,
        300 * 100,
        "dropped or kept, all is counted"
    );
    let kept: u64 = records(&live)
        .iter()
        .filter(|one| one.3.is_none())
        .map(|one| one.2)
        .sum();
    assert_eq!(kept, stored * 100);
}

/// Red when segments are dropped until the writer has tried again (all but the last are gone then).
#[tokio::test]
async fn a_disk_that_fills_up_drops_no_more_of_the_oldest_than_it_must() {
    let memory = Memory::new();
    let (spool, stored, dropped) = fill_disk(&memory, Overflow::DropOldest, 300).await;
    assert_eq!((stored, dropped), (300, 0));
    committed(&spool).await;
    let found = records(&oldest(&spool));
    assert_eq!(found.last().unwrap().0, 300);
    assert!(found[0].0 > 1);
    let kept = spool.ledger().spool_bytes;
    assert!(kept > 64 << 10, "{kept} bytes of a disk of 96 KiB are left");
}

/// The journal alone would take a cut end for a write that was torn. Seen red with the high-water
/// mark noted nowhere.
#[tokio::test]
async fn a_cut_end_of_committed_batches_is_counted_as_damage() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(tight(dir.path(), Overflow::Block)).await;
    spool.append(first_draft(1)).await.unwrap();
    for n in 2..=60 {
        spool.append(draft(n, n as usize)).await.unwrap();
    }
    committed(&spool).await;
    oldest(&spool).note_progress().unwrap();
    drop(spool);
    let last = segments(dir.path()).pop().unwrap();
    let first_lost = first_of(&last) + 1;
    assert!(first_lost <= 60);
    let bytes = std::fs::read(&last).unwrap();
    let frames: Vec<usize> = (0..bytes.len() - 4)
        .filter(|at| bytes[*at..*at + 4] == [0xF7, b'W', b'E', b'R'])
        .collect();
    // A preamble, the first record, and what is cut off.
    std::fs::write(&last, &bytes[..frames[2] + 10]).unwrap();

    let spool = open(tight(dir.path(), Overflow::Block)).await;
    let old = oldest(&spool);
    assert_eq!(old.durable(), (60, sum(1, 60)));
    assert_eq!(old.reason_of_hole(first_lost), v1::DropReason::Damaged);
    let known: u64 = records(&old).iter().map(|record| record.2).sum();
    assert_eq!(known, sum(1, first_lost - 1));
}

#[tokio::test]
async fn a_deleted_head_is_damage_and_not_a_drop() {
    let dir = tempfile::tempdir().unwrap();
    leave_behind(&tight(dir.path(), Overflow::Block), 60).await;
    let segments = segments(dir.path());
    std::fs::remove_file(&segments[0]).unwrap();
    let spool = open(tight(dir.path(), Overflow::Block)).await;
    let old = oldest(&spool);
    assert_eq!(old.oldest_sequence(), first_of(&segments[1]));
    assert_eq!(old.reason_of_hole(1), v1::DropReason::Damaged);
    assert_eq!(old.durable(), (60, sum(1, 60)));
}

/// Definitions are repeated at the head of every segment. Seen red with only the payload counted.
#[tokio::test]
async fn a_large_dictionary_does_not_break_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(tight(dir.path(), Overflow::DropNewest)).await;
    let mut dropped = 0;
    for n in 1..=60_u32 {
        let one = v1::Series {
            metric: "m".repeat(250),
            ..series(n)
        };
        let draft = Draft {
            series_defined: vec![one],
            ..draft(n.into(), 100)
        };
        if spool.append(draft).await.unwrap() == Appended::Dropped {
            dropped += 1;
        }
        committed(&spool).await;
        let view = spool.ledger();
        assert!(view.spool_bytes <= view.spool_max_bytes, "{view:?}");
    }
    assert!(dropped > 0);
}

/// Appends until there is no room, and commits; answers how many batches of 200 readings there are.
async fn fill_up(spool: &Spool) -> u64 {
    let mut n = 0;
    loop {
        let append = spool.append(draft(n + 1, 200));
        let appended = tokio::time::timeout(Duration::from_millis(200), append).await;
        if appended.is_err() {
            committed(spool).await;
            return n;
        }
        n += 1;
    }
}

/// A page that cannot be read costs what is in it, not the program. Seen red with the disk asked once
/// (`reader.next()` in `readings_through`) and the error handed to the appender.
#[tokio::test]
async fn a_disk_that_refuses_to_read_does_not_hold_up_dropping_the_oldest() {
    let memory = Memory::new();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let spool = open_on(
        Arc::clone(&storage),
        tight(Path::new("/data"), Overflow::Block),
    )
    .await;
    let filled = fill_up(&spool).await;
    drop(spool);
    let spool = open_on(storage, tight(Path::new("/data"), Overflow::DropOldest)).await;
    let old = oldest(&spool);
    let is_segment = |path: &std::path::PathBuf| {
        path.starts_with(&old.dir) && path.extension().is_some_and(|end| end == "seg")
    };
    let mut segments: Vec<_> = memory.paths().into_iter().filter(is_segment).collect();
    segments.sort();
    assert!(segments.len() > 3, "{segments:?}");
    memory.set_unreadable(&segments[1], 0..u64::MAX);
    for n in 1..=100 {
        let appended = spool.append(draft(n, 200)).await.unwrap();
        assert_eq!(appended, Appended::Stored { sequence: n });
    }
    committed(&spool).await;
    assert_eq!(spool.ledger().totals.produced, (filled + 100) * 200);
}

/// The state file of a stream cannot be written while room is wanted. Seen red with that error handed to
/// the appender, which ends the agent, at each of the two.
#[tokio::test]
async fn a_disk_that_refuses_a_state_file_is_asked_again() {
    for overflow in [Overflow::Block, Overflow::DropOldest] {
        let memory = Memory::new();
        let storage: Arc<dyn Storage> = Arc::new(memory.clone());
        let spool = open_on(
            Arc::clone(&storage),
            tight(Path::new("/data"), Overflow::Block),
        )
        .await;
        let filled = fill_up(&spool).await;
        drop(spool);
        let spool = open_on(storage, tight(Path::new("/data"), overflow)).await;
        if overflow == Overflow::Block {
            ack(&spool, &oldest(&spool), filled);
        }
        let failing = Faults {
            syncs_left: Some(0),
            ..Faults::default()
        };
        memory.set_faults(failing);
        let appending = tokio::spawn({
            let spool = spool.clone();
            async move { spool.append(draft(1, 200)).await }
        });
        let deadline = Instant::now() + Duration::from_secs(10);
        while !spool.is_starved() {
            assert!(!appending.is_finished(), "{:?}", appending.await);
            assert!(Instant::now() < deadline, "it waits for room");
            tokio::task::yield_now().await;
        }
        memory.set_faults(Faults::default());
        spool.bump_room();
        let appended = tokio::time::timeout(Duration::from_secs(10), appending).await;
        let appended = appended.expect("goes on").unwrap().unwrap();
        assert_eq!(appended, Appended::Stored { sequence: 1 });
        committed(&spool).await;
        assert_eq!(spool.ledger().totals.produced, (filled + 1) * 200);
    }
}

/// A disk that is full when the stop comes and has room before the time for it is over. Seen red with the
/// counts tried once and the writer ended at once.
#[tokio::test]
async fn a_stop_on_a_full_disk_waits_for_the_counts_of_what_was_dropped() {
    let memory = Memory::new();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let config = SpoolConfig {
        overflow: Overflow::DropNewest,
        segment_bytes: 8 << 10,
        ..config(Path::new("/data"))
    };
    let spool = open_on(storage, config).await;
    memory.set_capacity(Some(100 << 10));
    let (mut offered, mut dropped) = (0, 0);
    while dropped < 5 {
        offered += 1;
        if spool.append(draft(offered, 20_000)).await.unwrap() == Appended::Dropped {
            dropped += 1;
        }
    }
    let mut finishing = tokio::spawn({
        let spool = spool.clone();
        async move { spool.finish().await }
    });
    let finished = tokio::time::timeout(Duration::from_millis(300), &mut finishing).await;
    assert!(finished.is_err(), "it gave up at once: {finished:?}");
    memory.set_capacity(None);
    let finished = tokio::time::timeout(Duration::from_secs(10), finishing).await;
    finished.expect("in time").unwrap().unwrap();
    assert_eq!(spool.ledger().totals.produced, offered * 20_000);
}

/// Somebody removes the spool under the running agent: what is read from then on is kept, and what is lost is counted.
///
/// Mutations: the state not looked for; the segment not looked for; a directory that is gone keeps a stream from ending.
#[tokio::test]
async fn files_that_are_removed_under_the_running_agent_cost_what_was_in_them() {
    type Remove = fn(&Path, &Stream);
    let all: Remove = |dir, _| fs::remove_dir_all(dir.join("spool")).unwrap();
    let stream: Remove = |_, live| fs::remove_dir_all(&live.dir).unwrap();
    let segment: Remove = |_, live| {
        let names = fs::read_dir(&live.dir).unwrap();
        let mut names = names.map(|entry| entry.unwrap().path());
        let segment = names.find(|path| path.extension().is_some_and(|end| end == "seg"));
        fs::remove_file(segment.unwrap()).unwrap();
    };
    let state: Remove = |_, live| fs::remove_file(live.dir.join("state")).unwrap();
    for remove in [all, stream, segment, state] {
        let dir = tempfile::tempdir().unwrap();
        let spool = open(config(dir.path())).await;
        spool.append(first_draft(10)).await.unwrap();
        committed(&spool).await;
        spool.look_for_files();
        let old = oldest(&spool);
        assert!(old.is_live(), "nothing is missing");
        remove(dir.path(), &old);
        spool.look_for_files();
        assert!(!old.is_live());
        spool.append(draft(2, 10)).await.unwrap();
        committed(&spool).await;
        spool.look_for_files();
        assert_eq!(streams(&spool).len(), 2);
        let other = Spool::open(config(dir.path()), clock());
        assert!(matches!(other, Err(SpoolError::Locked { .. })));
        assert_eq!(spool.ledger().totals.produced, 20);
        let gone = Piece {
            from: 1,
            through: 1,
            readings_before: 0,
            readings: 10,
            fate: Fate::Dropped(v1::DropReason::Damaged),
        };
        spool.settle(&old, &gone, 0);
        spool.retire(&old).await.unwrap();
        spool.finish().await.unwrap();
        drop((spool, old));
        let spool = open(config(dir.path())).await;
        let kept = oldest(&spool);
        assert_eq!(kept.durable(), (1, 10));
        assert_eq!(kept.dictionary(), BTreeMap::from([(1, series(1))]));
    }
}

/// A kill on a full disk: what was dropped by then, and noted, is in the books of the next start, once, whatever follows.
///
/// Mutations: nothing noted; the note not taken back once a record says so; the reason not told.
#[tokio::test]
async fn what_was_dropped_before_a_kill_on_a_full_disk_is_counted() {
    let memory = Memory::new();
    let (spool, _, _) = fill_disk(&memory, Overflow::DropNewest, 300).await;
    let config = spool.shared.config.clone();
    spool.flush_lost(false).unwrap();
    let lost: u64 = spool.lock().lost.values().sum();
    assert!(lost > 100, "{lost}");
    let durable = oldest(&spool).durable();
    memory.crash();
    let after = open_on(Arc::new(memory.duplicate()), config.clone()).await;
    let old = oldest(&after);
    assert_eq!(old.durable(), (durable.0 + 1, durable.1 + lost));
    assert_eq!(
        old.reason_of_hole(durable.0 + 1),
        v1::DropReason::SpoolNewest
    );
    let dropping = &after.ledger().totals.dropping;
    assert_eq!(dropping.get("spool_newest"), Some(&lost), "{dropping:?}");
    // The books are written again, by the next run and the one after it.
    old.checkpoint().unwrap();
    drop((after, old));
    let again = open_on(Arc::new(memory.duplicate()), config.clone()).await;
    assert_eq!(oldest(&again).durable(), (durable.0 + 1, durable.1 + lost));
    drop(again);

    // With room the same readings become a record: they are not counted beside it.
    let memory = Memory::new();
    let (spool, _, _) = fill_disk(&memory, Overflow::DropNewest, 300).await;
    spool.flush_lost(false).unwrap();
    let lost: u64 = spool.lock().lost.values().sum();
    memory.set_capacity(None);
    spool.finish().await.unwrap();
    let produced = spool.ledger().totals.produced;
    assert_eq!(produced % 100, 0, "whole batches, and {lost} dropped");
    memory.crash();
    let after = open_on(Arc::new(memory.duplicate()), config).await;
    assert_eq!(after.ledger().totals.produced, 300 * 100);
    assert_eq!(produced, 300 * 100);
}
