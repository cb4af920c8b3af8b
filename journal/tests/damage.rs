//! A small journal with any one byte flipped, or any file cut anywhere: it opens, says exactly what is missing, yields
//! exactly the rest, goes on, and says the same after the next start.
//!
//! What must be missing follows from the test's own record of what it appended and from the documented layout, not from
//! the journal's answers. Seen red with: the checksum not compared (flips yield wrong bodies), no search behind a bad
//! frame (holes reach to the end of the segment), a damaged header not made up for by what the frames say of their segment
//! (the whole segment is a hole), the cut decided by the first bad frame alone (records behind it gone).

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/harness.rs"]
mod harness;

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use harness::{body, dir, open, read, record, segment, settle, small};
use weir_journal::{Hole, Item, Memory, Options};

const RECORDS: u64 = 14;
const PREAMBLE: &[u8] = b"what readers need";
const SEGMENT_HEADER: usize = 64;
const FRAME_HEADER: usize = 24;

/// Where a record should be, from the documented layout.
struct Place {
    segment: u64,
    start: usize,
    end: usize,
}

struct Layout {
    places: BTreeMap<u64, Place>,
    /// First record to end of content.
    segments: BTreeMap<u64, usize>,
}

fn length_of(number: u64) -> usize {
    (number as usize * 37) % 120
}

fn layout() -> Layout {
    let head = SEGMENT_HEADER + FRAME_HEADER + PREAMBLE.len();
    let mut layout = Layout {
        places: BTreeMap::new(),
        segments: BTreeMap::from([(1, head)]),
    };
    for number in 1..=RECORDS {
        let frame = FRAME_HEADER + length_of(number);
        let (mut first, mut at) = layout.segments.pop_last().unwrap();
        if at + frame > 512 {
            layout.segments.insert(first, at);
            (first, at) = (number, head);
        }
        let place = Place {
            segment: first,
            start: at,
            end: at + frame,
        };
        layout.segments.insert(first, place.end);
        layout.places.insert(number, place);
    }
    layout
}

/// The journal, closed or as a crash leaves it.
fn build(close: bool) -> Memory {
    let memory = Memory::new();
    let (journal, mut committer) = open(&memory, small()).unwrap();
    journal.set_preamble(Some(Bytes::from_static(PREAMBLE)));
    for number in 1..=RECORDS {
        let body = body(number, length_of(number));
        assert_eq!(journal.try_append(1, &[&body]), Ok(number));
        settle(&mut committer);
    }
    if close {
        journal.close();
        settle(&mut committer);
    }
    drop((journal, committer));
    let layout = layout();
    for (first, end) in &layout.segments {
        let file = memory.read(&segment(*first)).unwrap();
        let last = first == layout.segments.last_key_value().unwrap().0;
        let expected = if last && !close { 512 } else { *end };
        assert_eq!(
            file.len(),
            expected,
            "the layout is what the test takes it for"
        );
    }
    memory
}

/// Opens twice, with an append in between, and compares all that can be seen with what must be: these records missing
/// in the middle, and the next number.
fn check(memory: &Memory, missing: &[u64], next: u64, what: &str) {
    let mut holes: Vec<Hole> = Vec::new();
    for number in missing {
        match holes.last_mut() {
            Some(last) if last.through + 1 == *number => last.through = *number,
            _ => holes.push(Hole {
                from: *number,
                through: *number,
            }),
        }
    }
    let mut expected = Vec::new();
    let mut number = 1;
    while number < next {
        if let Some(hole) = holes.iter().find(|hole| hole.from == number) {
            expected.push(Item::Hole {
                from: hole.from,
                through: hole.through,
            });
            number = hole.through + 1;
        } else {
            expected.push(record(number, &body(number, length_of(number))));
            number += 1;
        }
    }
    for extra in 0..2 {
        let (journal, mut committer) = open(memory, small()).unwrap();
        assert_eq!(journal.recovery().holes, holes, "{what}");
        assert_eq!(journal.next(), next + extra, "{what}");
        assert_eq!(records(&journal), expected, "{what}");
        let body = body(1000 + extra, 50);
        assert_eq!(journal.try_append(1, &[&body]), Ok(next + extra), "{what}");
        settle(&mut committer);
        expected.push(record(next + extra, &body));
        assert_eq!(records(&journal), expected, "{what}");
    }
}

/// Fails when the journal gives numbers again that its reader has taken, or forgets about them at the next start.
#[test]
fn numbers_go_on_behind_where_the_reader_stands() {
    let memory = Memory::new();
    let behind = Options {
        resume_behind: 10,
        ..small()
    };
    let (journal, mut committer) = open(&memory, small()).unwrap();
    for number in 1..=3 {
        assert_eq!(journal.try_append(1, &[&body(number, 9)]), Ok(number));
    }
    settle(&mut committer);
    drop((journal, committer));
    // Nothing is written before the second of these.
    for appends in [false, true, true] {
        let (journal, mut committer) = open(&memory, behind.clone()).unwrap();
        let next = journal.next();
        if appends {
            assert_eq!(journal.try_append(1, &[&body(next, 9)]), Ok(next));
            settle(&mut committer);
        }
    }
    let (journal, _committer) = open(&memory, small()).unwrap();
    assert_eq!(journal.next(), 13);
    let hole = Item::Hole {
        from: 4,
        through: 10,
    };
    let numbered = |number| record(number, &body(number, 9));
    let expected = [1, 2, 3].map(numbered).into_iter().chain([hole]);
    let expected: Vec<Item> = expected.chain([11, 12].map(numbered)).collect();
    assert_eq!(records(&journal), expected);
}

fn records(journal: &weir_journal::Journal) -> Vec<Item> {
    let mut items = read(journal, 1);
    items.retain(|item| !matches!(item, Item::Preamble { .. }));
    items
}

#[test]
fn any_flipped_byte_costs_its_record_and_no_other() {
    let layout = layout();
    let last_segment = *layout.segments.last_key_value().unwrap().0;
    assert!(layout.segments.len() >= 3);
    for close in [true, false] {
        let pristine = build(close);
        for first in layout.segments.keys() {
            let bytes = pristine.read(&segment(*first)).unwrap();
            for offset in 0..bytes.len() {
                let memory = pristine.duplicate();
                let mut bytes = bytes.clone();
                bytes[offset] ^= if offset % 2 == 0 { 0x01 } else { 0xFF };
                memory.write(&segment(*first), bytes);
                let of_segment = layout
                    .places
                    .iter()
                    .filter(|(_, place)| place.segment == *first);
                let missing: Vec<u64> = of_segment
                    .filter(|(_, place)| (place.start..place.end).contains(&offset))
                    .map(|(number, _)| *number)
                    .collect();
                let what = format!("segment {first}, offset {offset}, closed {close}");
                if *first == last_segment && missing == [RECORDS] {
                    // Nothing stands behind it, so it cannot be told from a torn tail.
                    check(&memory, &[], RECORDS, &what);
                } else {
                    check(&memory, &missing, RECORDS + 1, &what);
                }
            }
        }
    }
}

#[test]
fn any_cut_file_costs_what_was_cut_off() {
    let layout = layout();
    let last_segment = *layout.segments.last_key_value().unwrap().0;
    for close in [true, false] {
        let pristine = build(close);
        for first in layout.segments.keys() {
            let bytes = pristine.read(&segment(*first)).unwrap();
            for length in 0..bytes.len() {
                let memory = pristine.duplicate();
                memory.write(&segment(*first), bytes[..length].to_vec());
                let of_segment = layout
                    .places
                    .iter()
                    .filter(|(_, place)| place.segment == *first);
                let missing: Vec<u64> = of_segment
                    .filter(|(_, place)| place.end > length || length < SEGMENT_HEADER)
                    .map(|(number, _)| *number)
                    .collect();
                let what = format!("segment {first}, length {length}, closed {close}");
                if *first == last_segment {
                    let next = missing.first().copied().unwrap_or(RECORDS + 1);
                    check(&memory, &[], next, &what);
                } else {
                    check(&memory, &missing, RECORDS + 1, &what);
                }
            }
        }
    }
}

#[test]
fn a_missing_segment_is_a_hole_of_its_numbers() {
    let layout = layout();
    let firsts: Vec<u64> = layout.segments.keys().copied().collect();
    let pristine = build(true);
    let memory = Memory::new();
    for path in pristine.paths() {
        if path != segment(firsts[1]) {
            memory.write(&path, pristine.read(&path).unwrap());
        }
    }
    let missing: Vec<u64> = (firsts[1]..firsts[2]).collect();
    check(&memory, &missing, RECORDS + 1, "a missing segment");
}

#[test]
fn a_segment_of_another_journal_is_a_hole() {
    let layout = layout();
    let firsts: Vec<u64> = layout.segments.keys().copied().collect();
    let memory = build(true);
    let foreign = build(true).read(&segment(firsts[1])).unwrap();
    memory.write(&segment(firsts[1]), foreign);
    let missing: Vec<u64> = (firsts[1]..firsts[2]).collect();
    check(&memory, &missing, RECORDS + 1, "a foreign segment");
}

#[test]
fn the_identity_survives_damage_to_its_file() {
    let pristine = build(true);
    let path = dir().join("identity");
    let bytes = pristine.read(&path).unwrap();
    let id: [u8; 16] = bytes[12..28].try_into().unwrap();
    for offset in 0..bytes.len() {
        let memory = pristine.duplicate();
        let mut damaged = bytes.clone();
        damaged[offset] ^= 0x10;
        memory.write(&path, damaged);
        let (journal, committer) = open(&memory, small()).unwrap();
        assert_eq!(journal.id(), id, "offset {offset}");
        assert_eq!(journal.recovery().next, RECORDS + 1);
        drop((journal, committer));
        assert_eq!(memory.read(&path).unwrap(), bytes, "it is restored");
    }
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let memory = build(true);
    let mut bytes = memory.read(&segment(1)).unwrap();
    bytes[8..12].copy_from_slice(&7_u32.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    memory.write(&segment(1), bytes);
    let refused = open(&memory, small()).unwrap_err().to_string();
    assert!(refused.contains("version 7"), "{refused}");
    assert!(refused.contains("00000000000000000001.seg"), "{refused}");
}

/// Red when only the version that is written is read.
#[test]
fn format_1_is_read_as_groups_of_one() {
    let memory = build(false);
    let identity = dir().join("identity");
    for path in layout().segments.keys().map(|first| segment(*first)) {
        set_version_1(&memory, &path, 60);
    }
    set_version_1(&memory, &identity, 28);
    check(&memory, &[], RECORDS + 1, "format 1");
    let memory = build(false);
    let last = layout().places[&(RECORDS - 1)].start + FRAME_HEADER - 1;
    let path = segment(layout().places[&(RECORDS - 1)].segment);
    let mut bytes = memory.read(&path).unwrap();
    bytes[last] ^= 1;
    memory.write(&path, bytes);
    set_version_1(&memory, &path, 60);
    check(&memory, &[RECORDS - 1], RECORDS + 1, "format 1, damaged");
}

fn set_version_1(memory: &Memory, path: &std::path::Path, crc_at: usize) {
    let mut bytes = memory.read(path).unwrap();
    bytes[8..12].copy_from_slice(&1_u32.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..crc_at]);
    bytes[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
    memory.write(path, bytes);
}

#[test]
fn what_is_cut_is_kept_aside_within_bounds() {
    let memory = build(true);
    let last = *layout().segments.last_key_value().unwrap().0;
    for round in 0..12_u8 {
        let mut bytes = memory.read(&segment(last)).unwrap();
        let torn = [b'x'; 40].map(|byte| byte + round);
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        bytes.resize(end.max(bytes.len()) + torn.len(), 0);
        bytes[end..end + torn.len()].copy_from_slice(&torn);
        memory.write(&segment(last), bytes);
        let (journal, committer) = open(&memory, small()).unwrap();
        assert!(journal.recovery().cut_bytes >= 40);
        drop((journal, committer));
        let is_cut = |path: &PathBuf| path.to_string_lossy().contains("/cut-");
        let cuts: Vec<PathBuf> = memory.paths().into_iter().filter(is_cut).collect();
        assert!(cuts.len() <= 8 && !cuts.is_empty(), "{cuts:?}");
        let kept = |path: &PathBuf| {
            memory
                .read(path)
                .unwrap()
                .windows(40)
                .any(|bytes| bytes == torn)
        };
        assert!(cuts.iter().any(kept), "the newest is among them");
    }
}

#[test]
fn a_frame_inside_a_body_is_not_taken_for_one() {
    let foreign = build(true);
    let place = &layout().places[&10];
    let file = foreign.read(&segment(place.segment)).unwrap();
    let frame = &file[place.start..place.end];
    let memory = Memory::new();
    let (journal, mut committer) = open(&memory, small()).unwrap();
    for body in [b"one", frame, b"three"] {
        journal.try_append(1, &[body]).unwrap();
        settle(&mut committer);
    }
    drop((journal, committer));
    let mut bytes = memory.read(&segment(1)).unwrap();
    bytes[SEGMENT_HEADER + FRAME_HEADER + 3] ^= 1;
    memory.write(&segment(1), bytes);
    let (journal, _committer) = open(&memory, small()).unwrap();
    let hole = Item::Hole {
        from: 2,
        through: 2,
    };
    let expected = [record(1, b"one"), hole, record(3, b"three")];
    assert_eq!(read(&journal, 1), expected);
}
