//! Torn, lost and foreign writes of the state file.

use weir_journal::Disk;

use super::*;

const ID: [u8; 16] = [9; 16];

fn state(n: u64) -> State {
    let mut account = Account {
        acked_through: n,
        acked_crc: 0xfeed,
        readings_through: 10 * n,
        stored: 9 * n,
        ..Account::default()
    };
    account.dropped[3] = n;
    State {
        ends_lost: n % 2 == 1,
        account,
        announced: n.is_multiple_of(2),
        given_up: n.is_multiple_of(3),
        partial: n.is_multiple_of(5),
        copied_from: n.is_multiple_of(2).then_some([7; 16]),
        known_through: n + 5,
        known_readings: 10 * n + 50,
        dropped_through: n + 2,
        dropped_readings: 10 * n + 20,
        replayed: n + 1,
        replayed_into: [7; 16],
    }
}

#[test]
fn reads_back_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let mut file = StateFile::create(&Disk, &path, ID).unwrap();
    let (_, found) = StateFile::open(&Disk, &path, ID).unwrap();
    assert_eq!(found, None);
    for n in 1..=5 {
        file.write(&state(n)).unwrap();
        let (_, found) = StateFile::open(&Disk, &path, ID).unwrap();
        assert_eq!(found, Some(state(n)));
    }
    assert_eq!(std::fs::metadata(&path).unwrap().len(), FILE_BYTES);
}

#[test]
fn a_write_torn_at_any_byte_leaves_the_former_state() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let mut file = StateFile::create(&Disk, &path, ID).unwrap();
    for n in 1..=3 {
        file.write(&state(n)).unwrap();
    }
    let before = std::fs::read(&path).unwrap();
    file.write(&state(4)).unwrap();
    let after = std::fs::read(&path).unwrap();
    for torn_at in 0..SLOT_BYTES {
        let mut torn = before.clone();
        torn[..torn_at].copy_from_slice(&after[..torn_at]); // generation 4 stands in slot 0
        std::fs::write(&path, &torn).unwrap();
        let (_, found) = StateFile::open(&Disk, &path, ID).unwrap();
        assert_eq!(found, Some(state(3)), "torn at {torn_at}");
    }
}

#[test]
fn goes_on_after_the_state_it_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let mut file = StateFile::create(&Disk, &path, ID).unwrap();
    file.write(&state(1)).unwrap();
    drop(file);
    let (mut file, _) = StateFile::open(&Disk, &path, ID).unwrap();
    file.write(&state(2)).unwrap();
    let (_, found) = StateFile::open(&Disk, &path, ID).unwrap();
    assert_eq!(found, Some(state(2)));
}

#[test]
fn another_streams_state_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let mut file = StateFile::create(&Disk, &path, ID).unwrap();
    file.write(&state(1)).unwrap();
    let (_, found) = StateFile::open(&Disk, &path, [8; 16]).unwrap();
    assert_eq!(found, None);
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let mut file = StateFile::create(&Disk, &path, ID).unwrap();
    file.write(&state(1)).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let at = SLOT_STRIDE as usize; // generation 1
    bytes[at + 8] = 2;
    let crc = crc32c::crc32c(&bytes[at..at + CRC_AT]);
    bytes[at + CRC_AT..at + SLOT_BYTES].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    let error = StateFile::open(&Disk, &path, ID).unwrap_err();
    assert!(error.to_string().contains("format version 2"), "{error}");
}
