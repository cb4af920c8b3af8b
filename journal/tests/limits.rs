//! Full limits, a full disk, a failing disk, released and dropped segments, readers that lag behind.
//!
//! Seen red with: what waits dropped when the disk is full, a sync tried again after it failed, the live segment never
//! replaced after a release.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/harness.rs"]
mod harness;

use std::time::Duration;

use bytes::Bytes;
use harness::{open, read, record, settle, small};
use weir_journal::storage::Faults;
use weir_journal::{AppendError, Item, Memory, Options, RESERVE_BYTES};

#[tokio::test]
async fn a_full_disk_loses_nothing_and_passes() {
    let memory = Memory::new();
    let options = Options {
        queue_bytes: 1000,
        ..small()
    };
    let (journal, mut committer) = open(&memory, options.clone()).unwrap();
    memory.set_capacity(Some(700));
    let mut now = Duration::ZERO;
    let mut accepted = 0;
    let refused = loop {
        match journal.try_append(1, &[&[7; 100]]) {
            Ok(number) => accepted = number,
            Err(refused) => break refused,
        }
        while committer.step_at(now) {}
        assert!(accepted < 100, "it never fills up");
    };
    assert_eq!(refused, AppendError::DiskFull);
    let progress = journal.progress();
    assert!(progress.borrow().disk_full);
    let durable = progress.borrow().durable_through;
    assert!(durable > 0 && durable < accepted);
    assert!(progress.borrow().poisoned.is_none());

    memory.set_capacity(None);
    assert!(!committer.step_at(now), "it is not tried in a busy loop");
    now += Duration::from_secs(1);
    while committer.step_at(now) {}
    assert!(!progress.borrow().disk_full);
    assert_eq!(journal.committed(accepted).await, Ok(accepted));
    let expected: Vec<Item> = (1..=accepted)
        .map(|number| record(number, &[7; 100]))
        .collect();
    assert_eq!(read(&journal, 1), expected);
    drop((journal, committer));
    let (journal, _committer) = open(&memory, options).unwrap();
    assert_eq!(read(&journal, 1), expected);
}

#[test]
fn releasing_on_a_full_disk_lets_it_go_on_at_once() {
    let memory = Memory::new();
    let (journal, mut committer) = open(&memory, small()).unwrap();
    memory.set_capacity(Some(1600));
    for _ in 0..20 {
        journal.try_append(1, &[&[7; 100]]).unwrap();
    }
    let now = Duration::ZERO;
    while committer.step_at(now) {}
    let durable = journal.progress().borrow().durable_through;
    assert!(durable < 20 && journal.progress().borrow().disk_full);
    journal.release(durable).unwrap();
    while committer.step_at(now) {}
    assert!(journal.progress().borrow().durable_through > durable);
}

#[test]
fn a_journal_opens_on_a_full_disk_and_gives_up_its_tail_only_to_the_reader() {
    let memory = Memory::new();
    let (journal, mut committer) = open(&memory, small()).unwrap();
    for number in 1..=5 {
        journal.try_append(1, &[&[number; 50]]).unwrap();
    }
    settle(&mut committer);
    drop((journal, committer));
    memory.set_capacity(Some(0));
    let (journal, committer) = open(&memory, small()).unwrap();
    let expected: Vec<Item> = (1..=5)
        .map(|number| record(number, &[number as u8; 50]))
        .collect();
    assert_eq!(read(&journal, 1), expected);
    memory.crash();
    memory.set_capacity(None);
    drop((journal, committer));
    let (journal, mut committer) = open(&memory, small()).unwrap();
    assert_eq!(read(&journal, 1), expected);
    assert_eq!(journal.try_append(1, &[b"on"]), Ok(6));
    settle(&mut committer);
    assert_eq!(read(&journal, 6), [record(6, b"on")]);
}

#[tokio::test]
async fn a_failed_sync_poisons_the_journal_and_is_not_tried_again() {
    let memory = Memory::new();
    let (journal, mut committer) = open(&memory, small()).unwrap();
    let mut reader = journal.reader(1);
    for number in 1..=2 {
        journal.try_append(1, &[b"durable"]).unwrap();
        settle(&mut committer);
        assert_eq!(reader.next().unwrap(), Some(record(number, b"durable")));
    }
    memory.set_faults(Faults {
        syncs_left: Some(0),
        ..Faults::default()
    });
    let lost = journal.try_append(1, &[b"not"]).unwrap();
    settle(&mut committer);
    memory.set_faults(Faults::default());
    let syncs = memory.syncs();
    let AppendError::Poisoned(reason) = journal.committed(lost).await.unwrap_err() else {
        panic!("it is not poisoned");
    };
    assert!(
        reason.contains("sync") && reason.contains("the disk failed"),
        "{reason}"
    );
    let refused = journal.append(1, &[b"more"]).await;
    assert_eq!(refused, Err(AppendError::Poisoned(reason)));
    settle(&mut committer);
    assert!(committer.has_ended());
    assert_eq!(memory.syncs(), syncs);
    assert_eq!(journal.committed(2).await, Ok(2));
    assert_eq!(reader.next().unwrap(), None, "written, but not durable");
    let durable = [record(1, b"durable"), record(2, b"durable")];
    assert_eq!(read(&journal, 1), durable);
}

/// Red when the failing sync is answered as if nothing had been removed.
#[test]
fn a_removed_segment_is_said_to_be_gone_even_if_its_directory_cannot_be_synced() {
    let memory = Memory::new();
    let (journal, mut committer) = open(&memory, small()).unwrap();
    for _ in 0..20 {
        journal.try_append(1, &[&[7; 100]]).unwrap();
        settle(&mut committer);
    }
    let (before, droppable) = (journal.bytes(), journal.droppable().unwrap());
    memory.set_faults(Faults {
        operations_left: Some(1),
        ..Faults::default()
    });
    assert_eq!(journal.drop_oldest().unwrap(), Some(droppable));
    memory.set_faults(Faults::default());
    assert_eq!(journal.oldest(), droppable.1 + 1, "the file is gone");
    assert!(journal.bytes() < before);
    drop((journal, committer));

    // The power goes: the name is back, counted again, and can be dropped again.
    memory.crash();
    let (journal, mut committer) = open(&memory, small()).unwrap();
    assert_eq!((journal.oldest(), journal.bytes()), (1, before));
    assert_eq!(journal.drop_oldest().unwrap(), Some(droppable));
    journal.release(20).unwrap();
    settle(&mut committer);
    let counted = journal.bytes();
    drop((journal, committer));
    memory.crash();
    let (journal, _committer) = open(&memory, small()).unwrap();
    assert_eq!(counted, journal.bytes());
}

#[test]
fn the_limit_holds_and_the_reserve_lies_beyond_it() {
    let memory = Memory::new();
    let options = Options {
        max_bytes: 8192,
        segment_bytes: 1 << 20,
        ..Options::default()
    };
    let (journal, mut committer) = open(&memory, options).unwrap();
    let mut number = 0;
    let refused = loop {
        match journal.try_append(1, &[&[1; 500]]) {
            Ok(given) => number = given,
            Err(refused) => break refused,
        }
        settle(&mut committer);
    };
    assert_eq!(refused, AppendError::Full);
    assert!(journal.bytes() <= 8192 + 4 * 64, "{}", journal.bytes());
    assert_eq!(journal.append_reserved(1, &[&[2; 600]]), Ok(number + 1));
    settle(&mut committer);
    assert_eq!(journal.progress().borrow().durable_through, number + 1);
    let huge = vec![0; RESERVE_BYTES as usize];
    assert!(journal.append_reserved(1, &[&huge]).is_err());

    let (from, through) = journal.drop_oldest().unwrap().unwrap();
    assert_eq!((from, journal.oldest()), (1, through + 1));
    assert_eq!(journal.try_append(1, &[&[1; 500]]), Ok(number + 2));
    let too_large = journal.try_append(1, &[&[0; 9000]]);
    assert!(matches!(
        too_large,
        Err(AppendError::TooLarge { bytes: 9000, .. })
    ));
}

#[test]
fn the_written_segment_goes_too_once_all_of_it_is_released() {
    let memory = Memory::new();
    let options = Options {
        segment_bytes: 4096,
        max_bytes: 3000,
        ..Options::default()
    };
    let (journal, mut committer) = open(&memory, options.clone()).unwrap();
    // Released at once, but too little to matter: no new segment for every acknowledgement.
    assert_eq!(journal.try_append(1, &[&[1; 50]]), Ok(1));
    settle(&mut committer);
    journal.release(1).unwrap();
    settle(&mut committer);
    assert_eq!((journal.oldest(), journal.stats().segments), (1, 1));
    // Wanted by a record that does not fit beside it: the refusal is remembered while the segment is still needed.
    assert_eq!(journal.try_append(1, &[&[1; 10]]), Ok(2));
    let body = vec![2; 2845];
    assert_eq!(journal.try_append(1, &[&body]), Err(AppendError::Full));
    settle(&mut committer);
    assert_eq!((journal.oldest(), journal.stats().segments), (1, 1));
    journal.release(2).unwrap();
    let progress = journal.progress();
    settle(&mut committer);
    assert!(progress.has_changed().unwrap());
    assert_eq!((journal.oldest(), journal.stats().segments), (3, 1));
    assert_eq!(journal.try_append(1, &[&body]), Ok(3));
    settle(&mut committer);
    journal.release(3).unwrap();
    settle(&mut committer);
    assert_eq!(journal.bytes(), 64);
    drop((journal, committer));
    let (journal, _committer) = open(&memory, options).unwrap();
    assert_eq!((journal.oldest(), journal.next()), (4, 4));
}

#[test]
fn a_reader_follows_the_tail_and_is_told_what_was_released_before_it_came() {
    let memory = Memory::new();
    let (journal, mut committer) = open(&memory, small()).unwrap();
    let mut reader = journal.reader(1);
    assert_eq!(reader.next().unwrap(), None);
    journal.set_preamble(Some(Bytes::from_static(b"first")));
    for number in 1..=20_u64 {
        journal.try_append(1, &[&[number as u8; 60]]).unwrap();
        if number == 1 {
            assert_eq!(reader.next().unwrap(), None, "not durable yet");
        }
        settle(&mut committer);
        if number == 1 {
            let preamble = Bytes::from_static(b"first");
            assert_eq!(
                reader.next().unwrap(),
                Some(Item::Preamble { body: preamble })
            );
            assert_eq!(reader.next().unwrap(), Some(record(1, &[1; 60])));
            assert_eq!(reader.next().unwrap(), None);
            journal.set_preamble(None);
        }
    }
    journal.release(12).unwrap();
    let oldest = journal.oldest();
    assert!(oldest > 2 && oldest <= 13);
    let through = oldest - 1;
    assert_eq!(
        reader.next().unwrap(),
        Some(Item::Hole { from: 2, through })
    );
    for number in oldest..=20 {
        assert_eq!(
            reader.next().unwrap(),
            Some(record(number, &[number as u8; 60]))
        );
    }
    for number in 21..=40 {
        assert_eq!(reader.next().unwrap(), None);
        assert_eq!(reader.position(), number);
        journal.try_append(1, &[&[number as u8; 60]]).unwrap();
        settle(&mut committer);
        assert_eq!(
            reader.next().unwrap(),
            Some(record(number, &[number as u8; 60]))
        );
    }
}

#[test]
fn what_waits_is_committed_when_due() {
    let memory = Memory::new();
    let options = Options {
        commit_interval: Duration::from_secs(10),
        queue_bytes: 1000,
        ..Options::default()
    };
    let (journal, mut committer) = open(&memory, options).unwrap();
    let durable = || journal.progress().borrow().durable_through;
    let second = Duration::from_secs(1);
    journal.try_append(1, &[b"1"]).unwrap();
    assert!(!committer.step_at(5 * second));
    assert!(!committer.step_at(14 * second));
    assert_eq!(durable(), 0);
    assert!(committer.step_at(15 * second), "the interval has passed");
    assert_eq!(durable(), 1);
    journal.try_append(1, &[b"2"]).unwrap();
    assert!(!committer.step_at(16 * second));
    journal.flush();
    assert!(committer.step_at(16 * second), "a flush");
    assert_eq!(durable(), 2);
    journal.try_append(1, &[&[0; 600]]).unwrap();
    assert!(committer.step_at(17 * second), "half a queue");
    assert_eq!(durable(), 3);
    journal.try_append(1, &[b"4"]).unwrap();
    assert!(!committer.step_at(18 * second));
    journal.close();
    assert!(committer.step_at(18 * second), "a close");
    assert_eq!(durable(), 4);
    assert!(!committer.step_at(18 * second) && committer.has_ended());
}

#[tokio::test]
async fn a_busy_journal_makes_appenders_wait_and_wakes_them() {
    let memory = Memory::new();
    let options = Options {
        queue_bytes: 1000,
        ..Options::default()
    };
    let (journal, committer) = open(&memory, options).unwrap();
    assert_eq!(journal.try_append(1, &[&[0; 900]]), Ok(1));
    assert_eq!(journal.try_append(1, &[&[0; 900]]), Err(AppendError::Busy));
    let waiting = journal.append(1, &[&[0; 900]]);
    let (number, writer) = tokio::join!(waiting, async { committer.spawn().unwrap() });
    assert_eq!(number, Ok(2));
    assert_eq!(journal.committed(2).await, Ok(2));
    drop(journal);
    writer.join().unwrap();
}

#[tokio::test]
async fn nobody_waits_for_a_writer_that_is_gone() {
    let memory = Memory::new();
    let (journal, committer) = open(&memory, Options::default()).unwrap();
    let number = journal.try_append(1, &[b"never"]).unwrap();
    drop(committer);
    let refused = journal.committed(number).await;
    assert!(
        matches!(refused, Err(AppendError::Poisoned(_))),
        "{refused:?}"
    );
}
