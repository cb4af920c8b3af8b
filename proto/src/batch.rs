//! The pure codec between readings and the payload of a batch.
//!
//! In: blocks, that is moments and the columns taken at them. Out: one `Payload` message of
//! `weir/v1/payload.proto`, compressed by zstd where that makes it smaller, with everything a
//! batch header says about it. And back, under the limits of [`crate::limits`].
//!
//! Promises: every `f64` comes back bit by bit, every `i64` time exactly, every text as it was.
//! [`decode`] takes bytes from anyone: it never panics, and allocates in proportion to what it is given
//! ([`UNFOLDED_PER_BYTE`], [`INFLATED_PER_BYTE`]) and never more than [`DECODED_BYTES`].
//!
//! What is written (byte by byte in `docs/protocol.md`):
//!
//! | part | form |
//! |---|---|
//! | times, regular | start, interval, count: no bytes per moment |
//! | times, otherwise | deltas of deltas in the largest of 1 s, 1 ms, 1 us, 1 ns that divides all |
//! | numbers | decimal deltas where every value is bit-exactly an integer over a power of ten |
//! | numbers, otherwise | doubles |
//! | texts | as they are |
//! | absent values | one bit per moment, only in columns that miss one |

mod decimal;
mod decode;
mod encode;
mod error;
mod readings;
mod series;
mod times;
pub(crate) mod wire;

#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::v1;

pub use decode::{DECODED_BYTES, INFLATED_PER_BYTE, UNFOLDED_PER_BYTE, decode, decode_readings};
pub use encode::encode;
pub use error::DecodeError;
pub use readings::{Readings, Slice, Taken};
pub use series::{check_definitions, check_series};

/// One or more moments and the columns that were taken at them together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Block {
    /// Unix nanoseconds, in any order.
    pub times: Vec<i64>,
    /// One column per series.
    pub columns: Vec<Column>,
}

/// What one series read at the moments of its block.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// The series' ref within its stream, never 0.
    pub series: u32,
    /// The values of the present moments only, in the order of the block's times.
    pub values: Values,
    /// Which moments have a value, one entry per moment; `None` when all have.
    pub present: Option<Vec<bool>>,
}

/// The values of a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Gauges, counters and booleans.
    Numbers(Vec<f64>),
    /// Texts.
    Texts(Vec<String>),
}

impl Values {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Numbers(numbers) => numbers.len(),
            Self::Texts(texts) => texts.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A payload and what its header has to say of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// The bytes that are stored, sent and stored again, unchanged.
    pub payload: Bytes,
    /// How `payload` holds the message.
    pub encoding: v1::Encoding,
    /// crc32c of `payload`.
    pub crc: u32,
    /// Present values over all columns.
    pub readings: u64,
    /// Bytes of the message before compression.
    pub decoded_bytes: u64,
    /// The earliest moment of all blocks; 0 when there is none.
    pub first_ns: i64,
    /// The latest moment of all blocks; 0 when there is none.
    pub last_ns: i64,
}

impl Encoded {
    /// The header as far as the payload decides it; sequence, readings before, boot and its
    /// monotonic clock are the stream's to fill in.
    pub fn header(&self) -> v1::BatchHeader {
        v1::BatchHeader {
            readings: self.readings,
            encoding: self.encoding.into(),
            crc: self.crc,
            first_ns: self.first_ns,
            last_ns: self.last_ns,
            decoded_bytes: self.decoded_bytes,
            ..Default::default()
        }
    }
}
