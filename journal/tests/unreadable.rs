//! A disk that refuses to read: asked a bounded number of times, then given up for exactly what it refuses, where the
//! caller wants that; otherwise an error for as long as it lasts.
//!
//! Seen red with the page that is refused filled with zeros (a segment then seems to end there), and with the count of
//! tries not kept beyond one reader.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/harness.rs"]
mod harness;

use harness::{body, open, record, segment, settle};
use weir_journal::{Item, Memory, Options, READ_TRIES};

const RECORDS: u64 = 60;
const BODY: usize = 1000;

fn options(give_up_unreadable: bool) -> Options {
    Options {
        segment_bytes: 24 << 10,
        give_up_unreadable,
        ..Options::default()
    }
}

fn build() -> Memory {
    let memory = Memory::new();
    let (journal, mut committer) = open(&memory, options(true)).unwrap();
    for number in 1..=RECORDS {
        journal.try_append(1, &[&body(number, BODY)]).unwrap();
        settle(&mut committer);
    }
    journal.close();
    settle(&mut committer);
    memory
}

/// Frames of 1024 bytes behind a header of 64: those that touch a page of 4096 bytes.
fn touched(page: u64) -> (u64, u64) {
    let frame = |offset: u64| (offset - 64) / 1024 + 1;
    (frame(page * 4096), frame(page * 4096 + 4095))
}

fn expected(from: u64, through: u64) -> Vec<Item> {
    let mut items = Vec::new();
    for number in 1..=RECORDS {
        if number == from {
            items.push(Item::Hole { from, through });
        } else if !(from..=through).contains(&number) {
            items.push(record(number, &body(number, BODY)));
        }
    }
    items
}

#[test]
fn a_page_that_cannot_be_read_costs_the_records_on_it() {
    let memory = build();
    let (journal, _committer) = open(&memory, options(true)).unwrap();
    memory.set_unreadable(&segment(1), 2 * 4096..3 * 4096);
    let mut reader = journal.reader(1);
    let (mut items, mut errors) = (Vec::new(), 0);
    loop {
        match reader.next() {
            Ok(Some(item)) => items.push(item),
            Ok(None) => break,
            Err(_) => errors += 1,
        }
        assert!(errors < READ_TRIES, "bounded");
    }
    let (from, through) = touched(2);
    assert_eq!(items, expected(from, through));
    assert_eq!(errors, READ_TRIES - 1);
    // Another reader need not ask again.
    assert_eq!(harness::read(&journal, 1), expected(from, through));
    // A disk that comes back is read whole.
    memory.set_unreadable(&segment(1), 0..0);
    assert_eq!(harness::read(&journal, 1), expected(0, 0));
}

#[test]
fn opening_gives_up_what_cannot_be_read_only_where_told_to() {
    let memory = build();
    memory.set_unreadable(&segment(1), 4096..2 * 4096);
    assert!(open(&memory, options(false)).is_err());
    let (journal, _committer) = open(&memory, options(true)).unwrap();
    let (from, through) = touched(1);
    let hole = weir_journal::Hole { from, through };
    assert_eq!(journal.recovery().holes, [hole]);
    assert_eq!(journal.next(), RECORDS + 1);
}

#[test]
fn a_segment_deleted_under_a_running_journal_is_a_hole_in_the_end() {
    let memory = build();
    let (journal, _committer) = open(&memory, options(true)).unwrap();
    let whole = harness::read(&journal, 1);
    let firsts: Vec<u64> = (2..RECORDS)
        .filter(|number| memory.read(&segment(*number)).is_some())
        .collect();
    weir_journal::Storage::remove(&memory, &segment(1)).unwrap();
    let mut reader = journal.reader(1);
    for _ in 1..READ_TRIES {
        assert!(reader.next().is_err());
    }
    let hole = Item::Hole {
        from: 1,
        through: firsts[0] - 1,
    };
    assert_eq!(reader.next().unwrap(), Some(hole));
    let rest: Vec<Item> = std::iter::from_fn(|| reader.next().unwrap()).collect();
    assert_eq!(rest, whole[firsts[0] as usize - 1..]);
}
