//! What a segment's id does to the checksums of its frames: the state it leaves CRC-32C in.
//!
//! The checksum of a frame begins with the segment id. CRC runs backwards as well as forwards, so a frame and its
//! checksum tell which state the id must have left, without the id. Two frames that tell the same, or one frame and the
//! bytes where the id should stand, vouch for each other: so the records of a segment outlive its header.

/// See the module. Two segments have the same one by a chance of one in 2^32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seed(u32);

/// Castagnoli's polynomial, reflected.
const POLYNOMIAL: u32 = 0x82F6_3B78;
const FORWARD: [u32; 256] = forward();
/// Which entry of [`FORWARD`] has this highest byte: each is there once.
const BACKWARD: [u8; 256] = backward();

impl Seed {
    /// The one of a segment.
    pub(crate) fn of(segment: u64) -> Seed {
        Seed(crc32c::crc32c(&segment.to_le_bytes()))
    }

    /// Checksum of what stands in a frame of this segment, given in two parts.
    pub(crate) fn checksum(self, head: &[u8], body: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c_append(self.0, head), body)
    }

    /// The only one under which these parts have this checksum.
    pub(crate) fn behind(checksum: u32, head: &[u8], body: &[u8]) -> Seed {
        let bytes = body.iter().rev().chain(head.iter().rev());
        Seed(!bytes.fold(!checksum, |state, byte| unwind(state, *byte)))
    }
}

/// The state before a byte was taken in.
fn unwind(state: u32, byte: u8) -> u32 {
    let index = BACKWARD[(state >> 24) as usize];
    ((state ^ FORWARD[index as usize]) << 8) | u32::from(index ^ byte)
}

const fn forward() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut state = index as u32;
        let mut bit = 0;
        while bit < 8 {
            let carry = if state & 1 == 1 { POLYNOMIAL } else { 0 };
            state = (state >> 1) ^ carry;
            bit += 1;
        }
        table[index] = state;
        index += 1;
    }
    table
}

const fn backward() -> [u8; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        table[(FORWARD[index] >> 24) as usize] = index as u8;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen red with the highest byte looked up in the low one (`state & 0xff`).
    #[test]
    fn a_checksum_leads_back_to_the_segment_it_was_made_for() {
        for segment in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            let seed = Seed::of(segment);
            let whole = [&segment.to_le_bytes()[..], b"head", b"and a body"].concat();
            let checksum = seed.checksum(b"head", b"and a body");
            assert_eq!(checksum, crc32c::crc32c(&whole));
            assert_eq!(Seed::behind(checksum, b"head", b"and a body"), seed);
            assert_ne!(Seed::behind(checksum, b"heat", b"and a body"), seed);
        }
    }
}
