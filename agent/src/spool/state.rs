//! The state file of one stream: what must be known before a segment may be removed.
//!
//! In: an [`Account`] and the cumulative count at some later sequence. Out: the same after a crash.
//! Promises: a torn or lost write leaves the former state readable; after creation no write needs
//! new disk space, so it works on a full disk; an unknown version is refused by name.
//!
//! The file is 8192 bytes, allocated when the stream is created. Two slots of 512 bytes, at 0 and
//! at 4096 (so that no device block holds both), are written in turn: the slot of generation `g`
//! stands at `(g % 2) * 4096`. The valid slot with the highest generation counts. All numbers are
//! little endian.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 8 | magic `WEIRSTRM` |
//! | 8 | 2 | format version, 1 |
//! | 10 | 2 | flags: bit 0 = a sink may know this stream (a Hello was sent), bit 1 = all its records were dropped to make room, bit 2 = a copy of a forked stream that is not whole yet, bit 3 = the last sequence of `known_through` is no record: what it counts was dropped (spool_newest) while there was no room for a record that says so |
//! | 12 | 4 | crc32c of the batch at `acked_through`; 0 after a Skip |
//! | 16 | 8 | generation, from 1 |
//! | 24 | 16 | stream id |
//! | 40 | 8 | `acked_through`: every sequence through it is durable at the sink |
//! | 48 | 8 | readings of the stream through `acked_through` |
//! | 56 | 8 | readings of acknowledged batches |
//! | 64 | 128 | readings of acknowledged Skips, 16 numbers by reason |
//! | 192 | 8 | `known_through`: a sequence at or after `acked_through` ... |
//! | 200 | 8 | ... and the readings of the stream through it |
//! | 208 | 8 | the highest sequence ever acknowledged, where a sink that was rolled back has less now; else 0 ... |
//! | 216 | 8 | ... and the readings of the stream through it |
//! | 224 | 8 | `dropped_through`: the last sequence that was dropped to make room ... |
//! | 232 | 8 | ... and the readings of the stream through it |
//! | 240 | 8 | readings of acknowledged Skips (refused) that were put back into the spool since |
//! | 248 | 16 | the stream the last of them were put into |
//! | 264 | 16 | id of the stream this one is a copy of; zero where it is none |
//! | 280 | 228 | zero |
//! | 508 | 4 | crc32c of bytes 0..508 |
//!
//! Numbers are at most 2^48: a slot with a larger one is not valid.

use std::io;
use std::path::Path;
use std::sync::Arc;

use weir_fault::{Point, point};
use weir_journal::{File, Storage};

use crate::ledger::{Account, REASONS};

#[cfg(test)]
mod tests;

const MAGIC: &[u8; 8] = b"WEIRSTRM";
const VERSION: u16 = 1;
const SLOT_BYTES: usize = 512;
const SLOT_STRIDE: u64 = 4096;
const FILE_BYTES: u64 = 8192;
const CRC_AT: usize = 508;
/// Largest number of a valid slot: what claims more is damaged, and sums over thousands of streams fit.
const MAX_NUMBER: u64 = 1 << 48;
const FLAG_ANNOUNCED: u16 = 1;
const FLAG_GIVEN_UP: u16 = 2;
const FLAG_PARTIAL: u16 = 4;
const FLAG_ENDS_LOST: u16 = 8;

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// What the sink acknowledged.
    pub(crate) account: Account,
    /// Whether a Hello of this stream was ever sent.
    pub(crate) announced: bool,
    /// Whether its records were dropped whole to make room.
    pub(crate) given_up: bool,
    /// Whether it is a copy that is not whole yet: what it holds is still in the stream it is copied from.
    pub(crate) partial: bool,
    /// The stream this one was copied from, because it had forked. Once the copy is whole that one no longer counts.
    pub(crate) copied_from: Option<[u8; 16]>,
    /// A sequence at or after the acknowledged ones ...
    pub(crate) known_through: u64,
    /// ... and the readings of the stream through it: what a hole at the very end costs.
    pub(crate) known_readings: u64,
    /// Whether that sequence is no record, but readings that were dropped for want of room.
    pub(crate) ends_lost: bool,
    /// The last sequence dropped to make room: what else is missing is damaged ...
    pub(crate) dropped_through: u64,
    /// ... and the readings of the stream through it.
    pub(crate) dropped_readings: u64,
    /// Readings that were refused and put back since ...
    pub(crate) replayed: u64,
    /// ... the last of them into this stream.
    pub(crate) replayed_into: [u8; 16],
}

/// The open file.
#[derive(Debug)]
pub(crate) struct StateFile {
    file: Arc<dyn File>,
    stream_id: [u8; 16],
    generation: u64,
}

impl StateFile {
    /// Creates the file of a new stream, durable but for its name: the caller syncs the directory.
    pub(crate) fn create(
        storage: &dyn Storage,
        path: &Path,
        stream_id: [u8; 16],
    ) -> io::Result<StateFile> {
        let file = storage.create(path)?;
        file.allocate(FILE_BYTES)?;
        file.sync_all()?;
        Ok(StateFile {
            file,
            stream_id,
            generation: 0,
        })
    }

    /// Opens the file and reads the newest valid slot. `None` when there is none: the stream was
    /// made and never acknowledged, or the file was damaged in both slots.
    pub(crate) fn open(
        storage: &dyn Storage,
        path: &Path,
        stream_id: [u8; 16],
    ) -> io::Result<(StateFile, Option<State>)> {
        let file = storage.open(path)?;
        if file.length()? < FILE_BYTES {
            file.allocate(FILE_BYTES)?;
            file.sync_all()?;
        }
        let (generation, state) = match newest(file.as_ref(), stream_id)? {
            Some((generation, state)) => (generation, Some(state)),
            None => (0, None),
        };
        let opened = StateFile {
            file,
            stream_id,
            generation,
        };
        Ok((opened, state))
    }

    /// What the file holds, without opening it for writing. `None` as for [`StateFile::open`].
    pub(crate) fn look(
        storage: &dyn Storage,
        path: &Path,
        stream_id: [u8; 16],
    ) -> io::Result<Option<State>> {
        let file = storage.open_to_read(path)?;
        Ok(newest(file.as_ref(), stream_id)?.map(|(_, state)| state))
    }

    /// Makes `state` durable. When this returns, it survives a power loss.
    pub(crate) fn write(&mut self, state: &State) -> io::Result<()> {
        let generation = self.generation + 1;
        let slot = encode(state, self.stream_id, generation);
        let at = (generation % 2) * SLOT_STRIDE;
        point(Point::AgentState);
        self.file.write_at(&slot, at)?;
        self.file.sync_data()?;
        point(Point::AgentNoted);
        self.generation = generation;
        Ok(())
    }
}

fn newest(file: &dyn File, stream_id: [u8; 16]) -> io::Result<Option<(u64, State)>> {
    let mut newest: Option<(u64, State)> = None;
    for slot in 0..2 {
        let found = read_slot(file, slot, stream_id)?;
        if let Some(found) = found
            && newest.as_ref().is_none_or(|best| best.0 < found.0)
        {
            newest = Some(found);
        }
    }
    Ok(newest)
}

fn read_slot(file: &dyn File, slot: u64, stream_id: [u8; 16]) -> io::Result<Option<(u64, State)>> {
    let mut bytes = [0; SLOT_BYTES];
    if file.read_at(&mut bytes, slot * SLOT_STRIDE)? < SLOT_BYTES {
        return Ok(None);
    }
    let Some(decoded) = decode(&bytes, stream_id) else {
        return Ok(None);
    };
    match decoded {
        Ok(found) => Ok(Some(found)),
        Err(version) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "state file has format version {version}, this program reads {VERSION}: use the newer program"
            ),
        )),
    }
}

fn encode(state: &State, stream_id: [u8; 16], generation: u64) -> [u8; SLOT_BYTES] {
    let account = &state.account;
    let mut slot = [0; SLOT_BYTES];
    slot[0..8].copy_from_slice(MAGIC);
    slot[8..10].copy_from_slice(&VERSION.to_le_bytes());
    let announced = if state.announced { FLAG_ANNOUNCED } else { 0 };
    let given_up = if state.given_up { FLAG_GIVEN_UP } else { 0 };
    let partial = if state.partial { FLAG_PARTIAL } else { 0 };
    let lost = if state.ends_lost { FLAG_ENDS_LOST } else { 0 };
    let flags = announced | given_up | partial | lost;
    slot[10..12].copy_from_slice(&flags.to_le_bytes());
    slot[12..16].copy_from_slice(&account.acked_crc.to_le_bytes());
    put(&mut slot, 16, generation);
    slot[24..40].copy_from_slice(&stream_id);
    put(&mut slot, 40, account.acked_through);
    put(&mut slot, 48, account.readings_through);
    put(&mut slot, 56, account.stored);
    for (n, readings) in account.dropped.iter().enumerate() {
        put(&mut slot, 64 + 8 * n, *readings);
    }
    put(&mut slot, 192, state.known_through);
    put(&mut slot, 200, state.known_readings);
    put(&mut slot, 208, account.peak.0);
    put(&mut slot, 216, account.peak.1);
    put(&mut slot, 224, state.dropped_through);
    put(&mut slot, 232, state.dropped_readings);
    put(&mut slot, 240, state.replayed);
    slot[248..264].copy_from_slice(&state.replayed_into);
    slot[264..280].copy_from_slice(&state.copied_from.unwrap_or_default());
    let crc = crc32c::crc32c(&slot[..CRC_AT]);
    slot[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    slot
}

/// None: not a valid slot of this stream. `Err`: valid, of a version we do not know.
fn decode(slot: &[u8; SLOT_BYTES], stream_id: [u8; 16]) -> Option<Result<(u64, State), u16>> {
    let crc = crc32c::crc32c(&slot[..CRC_AT]);
    let valid =
        slot[0..8] == MAGIC[..] && slot[CRC_AT..] == crc.to_le_bytes() && slot[24..40] == stream_id;
    if !valid {
        return None;
    }
    let version = u16::from_le_bytes([slot[8], slot[9]]);
    if version != VERSION {
        return Some(Err(version));
    }
    let mut dropped = [0; REASONS];
    for (n, readings) in dropped.iter_mut().enumerate() {
        *readings = get(slot, 64 + 8 * n);
    }
    let account = Account {
        acked_through: get(slot, 40),
        acked_crc: u32::from_le_bytes([slot[12], slot[13], slot[14], slot[15]]),
        readings_through: get(slot, 48),
        stored: get(slot, 56),
        dropped,
        peak: (get(slot, 208), get(slot, 216)),
    };
    let mut numbers = [16].into_iter().chain((40..248).step_by(8));
    if numbers.any(|at| get(slot, at) > MAX_NUMBER) {
        return None;
    }
    let flags = u16::from_le_bytes([slot[10], slot[11]]);
    let mut copied_from = [0; 16];
    copied_from.copy_from_slice(&slot[264..280]);
    let state = State {
        account,
        announced: flags & FLAG_ANNOUNCED != 0,
        given_up: flags & FLAG_GIVEN_UP != 0,
        partial: flags & FLAG_PARTIAL != 0,
        ends_lost: flags & FLAG_ENDS_LOST != 0,
        copied_from: (copied_from != [0; 16]).then_some(copied_from),
        known_through: get(slot, 192),
        known_readings: get(slot, 200),
        dropped_through: get(slot, 224),
        dropped_readings: get(slot, 232),
        replayed: get(slot, 240),
        replayed_into: slot[248..264].try_into().expect("sixteen bytes"),
    };
    Some(Ok((get(slot, 16), state)))
}

fn put(slot: &mut [u8; SLOT_BYTES], at: usize, number: u64) {
    slot[at..at + 8].copy_from_slice(&number.to_le_bytes());
}

fn get(slot: &[u8; SLOT_BYTES], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&slot[at..at + 8]);
    u64::from_le_bytes(bytes)
}
