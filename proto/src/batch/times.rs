//! The time column of a block: moments to the `Times` message and back.
//!
//! All arithmetic wraps at 64 bits, in both directions alike: so every list of `i64` comes back
//! exactly, however far its neighbours lie apart, and no input can overflow.

use super::error::{DecodeError, within};
use super::wire::{
    Field, Fields, count_varints, put_bytes_head, put_uint_field, put_varint, take_varint,
    unzigzag, zigzag,
};
use crate::limits::MAX_BATCH_READINGS;

const RESOLUTIONS: [i64; 3] = [1_000_000_000, 1_000_000, 1_000];

/// Appends the `Times` message of one or more moments. `offsets` is scratch space.
pub(super) fn put(out: &mut Vec<u8>, times: &[i64], offsets: &mut Vec<u8>) {
    let start = times.first().copied().unwrap_or(0);
    if start != 0 {
        out.push(1 << 3 | 1);
        out.extend_from_slice(&start.to_le_bytes());
    }
    let interval = match times {
        [first, second, ..] => second.wrapping_sub(*first),
        _ => 0,
    };
    let count = times.len() as u64;
    if deltas(times).all(|delta| delta == interval) {
        put_uint_field(out, 2, interval.cast_unsigned());
        put_uint_field(out, 3, count);
        return;
    }
    let resolution = resolution(times);
    offsets.clear();
    let mut former = 0_i64;
    for delta in deltas(times) {
        let delta = delta / resolution;
        put_varint(offsets, zigzag(delta.wrapping_sub(former)));
        former = delta;
    }
    put_uint_field(out, 3, count);
    put_uint_field(out, 4, resolution.cast_unsigned());
    put_bytes_head(out, 5, offsets.len());
    out.extend_from_slice(offsets);
}

fn deltas(times: &[i64]) -> impl Iterator<Item = i64> {
    times.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]))
}

/// The largest resolution that divides the distance of all neighbours. A distance that wrapped
/// is divided like any other: multiplying back wraps to the same.
fn resolution(times: &[i64]) -> i64 {
    let mut candidates = RESOLUTIONS.into_iter().peekable();
    for delta in deltas(times) {
        while candidates.next_if(|unit| delta % unit != 0).is_some() {}
        if candidates.peek().is_none() {
            return 1;
        }
    }
    candidates.next().unwrap_or(1)
}

/// What the fields of a `Times` message say before any moment is worked out.
pub(super) struct Header<'a> {
    message: &'a [u8],
    start: i64,
    interval: i64,
    resolution: i64,
    /// Moments announced: at least 1, at most [`MAX_BATCH_READINGS`].
    pub(super) count: usize,
}

impl<'a> Header<'a> {
    /// Reads the scalar fields and checks the count against its limit and the offsets.
    pub(super) fn read(message: &'a [u8]) -> Result<Self, DecodeError> {
        let mut header = Self {
            message,
            start: 0,
            interval: 0,
            resolution: 0,
            count: 0,
        };
        let mut offsets = 0;
        let mut fields = Fields::new(message);
        while let Some((number, field)) = fields.next()? {
            match (number, field) {
                (1, field) => header.start = i64::from_le_bytes(field.fixed64()?),
                (2, field) => header.interval = field.varint()?.cast_signed(),
                (3, field) => header.count = field.uint32()? as usize,
                (4, field) => header.resolution = field.varint()?.cast_signed(),
                (5, Field::Varint(_)) => offsets += 1,
                (5, field) => offsets += count_varints(field.bytes()?),
                _ => {}
            }
        }
        if header.count == 0 {
            return Err(DecodeError::Malformed("a block has no moment"));
        }
        within("number of moments", header.count as u64, MAX_BATCH_READINGS)?;
        if offsets != 0 && offsets != header.count - 1 {
            return Err(DecodeError::CountMismatch {
                what: "offsets of a block's times",
                expected: (header.count - 1) as i128,
                found: offsets as i128,
            });
        }
        if offsets != 0 && header.resolution == 0 {
            return Err(DecodeError::Malformed("times have offsets of resolution 0"));
        }
        if offsets == 0 {
            header.message = &[];
        }
        Ok(header)
    }

    /// Appends the moments: exactly `count` of them.
    pub(super) fn moments(&self, times: &mut Vec<i64>) -> Result<(), DecodeError> {
        times.reserve(self.count);
        let mut at = self.start;
        times.push(at);
        if self.message.is_empty() {
            times.extend((1..self.count).map(|_| {
                at = at.wrapping_add(self.interval);
                at
            }));
            return Ok(());
        }
        let mut step = 0_i64;
        let mut offset = |raw| {
            step = step.wrapping_add(unzigzag(raw));
            at = at.wrapping_add(step.wrapping_mul(self.resolution));
            times.push(at);
        };
        let mut fields = Fields::new(self.message);
        while let Some((number, field)) = fields.next()? {
            match (number, field) {
                (5, Field::Varint(raw)) => offset(raw),
                (5, field) => {
                    let mut packed = field.bytes()?;
                    while !packed.is_empty() {
                        offset(take_varint(&mut packed)?);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
