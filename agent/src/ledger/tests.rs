//! The ledger's arithmetic on hand-made pieces.

use super::*;

fn stored(sequence: u64, readings_before: u64, readings: u64) -> Piece {
    Piece {
        from: sequence,
        through: sequence,
        readings_before,
        readings,
        fate: Fate::Stored { crc: 7 },
    }
}

fn dropped(from: u64, through: u64, before: u64, readings: u64, reason: v1::DropReason) -> Piece {
    Piece {
        from,
        through,
        readings_before: before,
        readings,
        fate: Fate::Dropped(reason),
    }
}

fn view(account: &Account, produced: u64) -> StreamView {
    let books = Books {
        replayed: 0,
        dropping: Dropping::new(),
        stream_id: [1; 16],
        live: true,
        account: account.clone(),
        produced,
        oldest_unacked_ns: 0,
        bytes: 0,
    };
    books.view()
}

#[test]
fn closes_over_batches_and_skips() {
    let mut account = Account::default();
    account.settle(&stored(1, 0, 10));
    account.settle(&dropped(2, 4, 10, 25, v1::DropReason::SpoolOldest));
    account.settle(&stored(5, 35, 5));
    let view = view(&account, 50);
    assert_eq!((view.acked, view.spooled, view.unexplained), (15, 10, 0));
    assert_eq!(view.dropped["spool_oldest"], 25);
    assert_eq!(view.acked_through, 5);
}

#[test]
fn shows_a_record_that_was_booked_nowhere() {
    let mut account = Account::default();
    account.settle(&stored(1, 0, 10));
    account.settle(&stored(3, 17, 5)); // sequence 2 with its 7 readings never settled
    assert_eq!(view(&account, 22).unexplained, 7);
}

#[test]
fn counts_a_second_ack_once() {
    let mut account = Account::default();
    account.settle(&stored(1, 0, 10));
    assert_eq!(account.settle(&stored(1, 0, 10)), Settled::Again);
    assert_eq!((account.stored, account.unexplained()), (10, 0));
}

#[test]
fn moves_what_the_sink_lost_from_stored_to_dropped() {
    let mut account = Account::default();
    account.settle(&stored(1, 0, 10));
    account.settle(&stored(2, 10, 10));
    account.settle(&dropped(1, 2, 0, 20, v1::DropReason::SinkRolledBack));
    assert_eq!((account.stored, account.dropped_total()), (0, 20));
    assert_eq!(account.unexplained(), 0);
}

#[test]
fn names_every_reason_of_the_wire() {
    for number in 1..=7 {
        assert_ne!(reason_name(number), "unspecified");
    }
}
