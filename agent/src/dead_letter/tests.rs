//! Keeping and listing letters.

use std::fs;

use super::*;

fn note(sequence: u64) -> Note {
    Note {
        stream_id: "ab".repeat(16),
        sequence,
        code: "malformed".into(),
        reason: "payload does not decompress".into(),
        readings: 12,
        payload_bytes: 3,
        first_ns: 1,
        last_ns: 2,
        set_aside_ns: i64::try_from(sequence).unwrap(),
        replayed_in: None,
    }
}

#[test]
fn keeps_the_bytes_and_lists_the_note() {
    let data = tempfile::tempdir().unwrap();
    let letters = DeadLetters::new(data.path());
    assert_eq!(letters.list().unwrap(), []);
    let path = letters.keep(&note(2), b"two", b"series").unwrap();
    letters.keep(&note(1), b"one", b"series").unwrap();
    assert_eq!(fs::read(path).unwrap(), b"two");
    assert_eq!(letters.list().unwrap(), [note(1), note(2)]);
}

#[test]
fn keeping_twice_leaves_one_letter() {
    let data = tempfile::tempdir().unwrap();
    let letters = DeadLetters::new(data.path());
    letters.keep(&note(1), b"one", b"series").unwrap();
    letters.keep(&note(1), b"one", b"series").unwrap();
    assert_eq!(letters.list().unwrap().len(), 1);
    assert_eq!(
        fs::read_dir(data.path().join("dead-letter"))
            .unwrap()
            .count(),
        3
    );
}
