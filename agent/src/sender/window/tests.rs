//! The window's rules.

use weir_proto::v1;

use super::*;
use crate::ledger::Fate;

fn batch(sequence: u64) -> Piece {
    Piece {
        from: sequence,
        through: sequence,
        readings_before: sequence * 10,
        readings: 10,
        fate: Fate::Stored { crc: 0 },
    }
}

fn skip(from: u64, through: u64) -> Piece {
    Piece {
        from,
        through,
        readings_before: from * 10,
        readings: 10,
        fate: Fate::Dropped(v1::DropReason::SpoolOldest),
    }
}

#[test]
fn one_batch_is_always_allowed() {
    let mut window = Window::default();
    window.set_limit(0);
    assert!(window.admits(1, 1_000_000));
    window.push(batch(1), 1_000_000, 5);
    assert!(!window.admits(2, 1));
    assert_eq!(window.pop_through(1), Some((batch(1), 1_000_000)));
    assert!(window.admits(2, 1));
}

#[test]
fn holds_back_what_does_not_fit() {
    let mut window = Window::default();
    window.set_limit(100);
    window.push(batch(1), 60, 5);
    assert!(window.admits(2, 40));
    assert!(!window.admits(2, 41));
}

#[test]
fn a_skip_takes_no_room_and_settles_whole() {
    let mut window = Window::default();
    window.set_limit(10);
    window.push(skip(1, 5), 0, 5);
    assert!(window.admits(6, 100));
    assert_eq!(window.pop_through(4), None);
    assert_eq!(window.pop_through(5), Some((skip(1, 5), 0)));
    assert!(window.is_empty());
}

#[test]
fn forgets_what_the_sink_discards() {
    let mut window = Window::default();
    window.set_limit(1000);
    for sequence in 1..=5 {
        window.push(batch(sequence), 10, 5);
    }
    window.forget_from(3);
    assert_eq!(window.back(), Some(&batch(2)));
    assert_eq!(window.outstanding_bytes(), 20);
}

#[test]
fn steps_singly_until_the_suspects_are_through() {
    let mut window = Window::default();
    window.set_limit(1000);
    window.single_step_through(3);
    window.push(batch(2), 10, 5);
    assert!(!window.admits(3, 10));
    assert!(window.admits(4, 10));
}
