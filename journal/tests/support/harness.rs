//! A journal on a memory disk, stepped by the test, beside the test's own record of what it appended.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use weir_journal::{Committer, Item, Journal, Memory, OpenError, Options};

/// Where it is on the memory disk.
pub(crate) fn dir() -> PathBuf {
    PathBuf::from("/journal")
}

/// Path of the segment whose first record is this.
pub(crate) fn segment(first: u64) -> PathBuf {
    Path::new("/journal").join(format!("{first:020}.seg"))
}

/// Small segments, so that a few records span several.
pub(crate) fn small() -> Options {
    Options {
        segment_bytes: 512,
        ..Options::default()
    }
}

pub(crate) fn open(memory: &Memory, options: Options) -> Result<(Journal, Committer), OpenError> {
    Journal::open(Arc::new(memory.clone()), &dir(), options)
}

/// Steps until there is nothing to do.
pub(crate) fn settle(committer: &mut Committer) {
    while committer.step() {}
}

/// Everything a fresh reader yields from a number on, at most as many items as could ever be right.
pub(crate) fn read(journal: &Journal, from: u64) -> Vec<Item> {
    let mut reader = journal.reader(from);
    let mut items = Vec::new();
    while let Some(item) = reader.next().unwrap() {
        items.push(item);
        assert!(items.len() < 100_000, "the reader goes round in circles");
    }
    items
}

pub(crate) fn record(number: u64, body: &[u8]) -> Item {
    Item::Record {
        number,
        kind: 1,
        body: Bytes::copy_from_slice(body),
    }
}

/// A body nobody else has: its length and content follow from the seed.
pub(crate) fn body(seed: u64, length: usize) -> Vec<u8> {
    let seed = seed.to_le_bytes();
    (0..length)
        .map(|index| seed[index % 8] ^ (index as u8))
        .collect()
}
