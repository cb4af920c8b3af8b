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

/// What a stream's letters refer to.
fn defining(references: std::ops::RangeInclusive<u32>) -> Vec<u8> {
    let series = references.map(|reference| v1::Series {
        r#ref: reference,
        metric: format!("metric.{reference}"),
        ..v1::Series::default()
    });
    let definitions = v1::Definitions {
        series: series.collect(),
    };
    let record = v1::record::Record::Definitions(definitions);
    let record = v1::Record {
        record: Some(record),
    };
    record::encode(&record).to_vec()
}

fn batch() -> Vec<u8> {
    let record = v1::record::Record::Batch(v1::Batch::default());
    let record = v1::Record {
        record: Some(record),
    };
    record::encode(&record).to_vec()
}

/// Mutations: definitions that take the place of those that are there; definitions that stay when the last letter goes;
/// an older letter's own definitions left out.
#[test]
fn the_letters_of_a_stream_share_their_definitions() {
    let data = tempfile::tempdir().unwrap();
    let letters = DeadLetters::new(data.path());
    letters.keep(&note(1), &batch(), &defining(1..=2)).unwrap();
    letters.keep(&note(2), &batch(), &defining(2..=3)).unwrap();
    let files = || {
        fs::read_dir(data.path().join("dead-letter"))
            .unwrap()
            .count()
    };
    assert_eq!(files(), 5);
    let refs = |sequence| {
        let (_, series) = letters.read(&note(sequence)).unwrap().unwrap();
        series.into_keys().collect::<Vec<_>>()
    };
    assert_eq!((refs(1), refs(2)), (vec![1, 2, 3], vec![1, 2, 3]));
    let own = format!("{}.series", note(1).name());
    fs::write(data.path().join("dead-letter").join(own), defining(7..=7)).unwrap();
    assert_eq!(refs(1), [1, 2, 3, 7]);

    letters.remove(&note(1).stream_id, 1).unwrap();
    letters.remove_series().unwrap();
    assert_eq!(files(), 3);
    letters.remove(&note(2).stream_id, 2).unwrap();
    letters.remove_series().unwrap();
    assert_eq!(files(), 0);
}

/// Mutations: no look before the first letter; a letter that is kept again counted again.
#[test]
fn letters_of_earlier_runs_and_removed_ones_count() {
    let data = tempfile::tempdir().unwrap();
    let open = || DeadLetters::on(Arc::new(Disk), data.path(), 2_000);
    open().keep(&note(1), &[1; 1_000], b"series").unwrap();
    let letters = open();
    let full = letters.keep(&note(2), &[2; 1_000], b"series");
    assert!(matches!(full, Err(KeepError::Full(_))), "{full:?}");
    assert!(letters.full().is_some());
    letters.keep(&note(1), &[1; 1_000], b"series").unwrap();
    letters.remove(&note(1).stream_id, 1).unwrap();
    assert_eq!(letters.full(), None);
    letters.keep(&note(2), &[2; 1_000], b"series").unwrap();
}
