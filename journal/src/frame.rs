//! The frame and segment header codec: pure functions over bytes; the layout is in the crate's documentation.

use weir_fault::{Mutant, mutant};

use crate::seed::Seed;

/// Largest body of a record or preamble.
pub const MAX_BODY_BYTES: usize = 16 << 20;
/// Largest number of a record: what claims a larger one is damaged, so that there is always a next one.
pub(crate) const MAX_NUMBER: u64 = 1 << 62;
/// Newest format version this code reads and the one it writes.
pub(crate) const VERSION: u32 = 2;
/// Bytes before a body.
pub(crate) const FRAME_HEADER: usize = 24;
/// Bytes before the first frame.
pub(crate) const SEGMENT_HEADER: usize = 64;
/// Kind of the unnumbered frame at the head of a segment.
pub(crate) const PREAMBLE: u8 = 0;
/// First four bytes of every frame. The first is not zero, so that zeros can be skipped in one go.
pub(crate) const SYNC_WORD: [u8; 4] = [0xF7, b'W', b'E', b'R'];

const SEGMENT_MAGIC: [u8; 8] = *b"WEIRSEG\0";
const MAX_KIND: u8 = 15;
/// Most that a frame can say of its group, for groups that no queue has room for.
const MAX_BEHIND: u32 = 0x00FF_FFFF;

/// What a segment says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) journal: [u8; 16],
    pub(crate) segment: u64,
    pub(crate) first: u64,
}

/// Why a header was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// It is not a header, or its checksum disagrees.
    Damaged,
    /// It is whole, but of a newer format.
    Newer(u32),
}

/// The fixed part of a frame, not yet checked against its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: u8,
    pub(crate) number: u64,
    /// Records before it in its group: what stands before those was synced first.
    pub(crate) behind: u32,
    pub(crate) length: usize,
}

impl SegmentHeader {
    /// What its frames are checked with.
    pub(crate) fn seed(&self) -> Seed {
        Seed::of(self.segment)
    }

    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..28].copy_from_slice(&self.journal);
        bytes[28..36].copy_from_slice(&self.segment.to_le_bytes());
        bytes[36..44].copy_from_slice(&self.first.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<SegmentHeader, HeaderFault> {
        if bytes.len() < SEGMENT_HEADER || bytes[..8] != SEGMENT_MAGIC {
            return Err(HeaderFault::Damaged);
        }
        if crc32c::crc32c(&bytes[..60]) != u32_at(bytes, 60) || u64_at(bytes, 36) > MAX_NUMBER {
            return Err(HeaderFault::Damaged);
        }
        match u32_at(bytes, 8) {
            1..=VERSION => Ok(SegmentHeader {
                journal: bytes[12..28].try_into().expect("sixteen bytes"),
                segment: u64_at(bytes, 28),
                first: u64_at(bytes, 36),
            }),
            newer if newer > VERSION => Err(HeaderFault::Newer(newer)),
            _ => Err(HeaderFault::Damaged),
        }
    }
}

/// Fills in the header of a frame whose body already stands behind it; `behind` records of its group stand before it.
pub(crate) fn seal(frame: &mut [u8], seed: Seed, kind: u8, number: u64, behind: usize) {
    let length = u32::try_from(frame.len() - FRAME_HEADER).expect("bodies are at most 16 MiB");
    frame[..4].copy_from_slice(&SYNC_WORD);
    let behind = u32::try_from(behind).map_or(MAX_BEHIND, |behind| behind.min(MAX_BEHIND));
    frame[4..8].copy_from_slice(&(behind << 8 | u32::from(kind)).to_le_bytes());
    frame[8..16].copy_from_slice(&number.to_le_bytes());
    frame[16..20].copy_from_slice(&length.to_le_bytes());
    let crc = seed.checksum(&frame[..20], &frame[FRAME_HEADER..]);
    frame[20..24].copy_from_slice(&crc.to_le_bytes());
}

/// A frame's fixed part, if these bytes can be one.
pub(crate) fn head(bytes: &[u8]) -> Option<Head> {
    if bytes.len() < FRAME_HEADER || bytes[..4] != SYNC_WORD {
        return None;
    }
    let length = u32_at(bytes, 16) as usize;
    let number = u64_at(bytes, 8);
    if bytes[4] > MAX_KIND || length > MAX_BODY_BYTES || number > MAX_NUMBER {
        return None;
    }
    Some(Head {
        kind: bytes[4],
        number,
        behind: u32_at(bytes, 4) >> 8,
        length,
    })
}

/// Whether a whole frame is what was written into this segment.
pub(crate) fn is_whole(frame: &[u8], seed: Seed) -> bool {
    mutant(Mutant::NoChecksum)
        || seed.checksum(&frame[..20], &frame[FRAME_HEADER..]) == u32_at(frame, 20)
}

/// The seed under which these bytes are a whole frame.
pub(crate) fn seed_of(frame: &[u8]) -> Seed {
    Seed::behind(u32_at(frame, 20), &frame[..20], &frame[FRAME_HEADER..])
}

/// What stands where a header has the segment's id, whatever the header's checksum says.
pub(crate) fn segment_id_at(header: &[u8]) -> Option<u64> {
    (header.len() >= 36).then(|| u64_at(header, 28))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
