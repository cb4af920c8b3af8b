//! Blocks to bytes.
//!
//! Lengths of nested messages come before their content, so a column is worked out in scratch
//! space first and a block is assembled beside the payload. The scratch and the compression
//! context belong to the thread and are used again: encoding allocates only what it returns.

use std::cell::RefCell;

use bytes::Bytes;
use zstd::bulk::Compressor;

use super::wire::{bytes_field_len, put_bytes_head, put_uint_field, uint_field_len};
use super::{Block, Column, Encoded, Values, decimal, times};
use crate::v1::Encoding;

const ZSTD_LEVEL: i32 = 1;

/// A shorter message is sent as it is. zstd would take some 30 bytes off a single scrape of ten
/// series, and then cost the sink more time than all the rest of decoding it (measured: 1.7 of
/// 2.4 us), and the agent three times what encoding costs.
const MIN_COMPRESSED_BYTES: usize = 192;

/// What the thread keeps of each buffer; more is given back after the batch that needed it.
const KEEP_BYTES: usize = 1 << 20;

#[derive(Default)]
struct Scratch {
    message: Vec<u8>,
    block: Vec<u8>,
    packed: Vec<u8>,
    mantissas: Vec<i64>,
    compressed: Vec<u8>,
    compressor: Option<Compressor<'static>>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Encodes blocks into one payload.
///
/// Columns without a value are left out, and so are blocks without a column. The caller stays
/// under the limits of [`crate::limits`]: what exceeds them is encoded all the same, and refused
/// by [`super::decode`]. So is a column whose values are not as many as its present moments.
pub fn encode(blocks: &[Block]) -> Encoded {
    SCRATCH.with_borrow_mut(|scratch| {
        let encoded = scratch.encode(blocks);
        scratch.shrink();
        encoded
    })
}

impl Scratch {
    fn encode(&mut self, blocks: &[Block]) -> Encoded {
        self.message.clear();
        let mut readings = 0;
        let mut span = Span::default();
        for block in blocks {
            let taken = self.put_block(block);
            if taken > 0 {
                readings += taken;
                span.extend(&block.times);
            }
        }
        let (payload, encoding) = match self.compress() {
            Some(compressed) => (compressed, Encoding::Zstd),
            None => (Bytes::copy_from_slice(&self.message), Encoding::Plain),
        };
        let (first_ns, last_ns) = span.ends();
        Encoded {
            crc: crc32c::crc32c(&payload),
            payload,
            encoding,
            readings,
            decoded_bytes: self.message.len() as u64,
            first_ns,
            last_ns,
        }
    }

    /// Appends one block to the message; says how many readings went in.
    fn put_block(&mut self, block: &Block) -> u64 {
        self.block.clear();
        self.packed.clear();
        times::put(&mut self.packed, &block.times, &mut self.block);
        self.block.clear();
        put_bytes_head(&mut self.block, 1, self.packed.len());
        self.block.extend_from_slice(&self.packed);
        let mut readings = 0;
        for column in &block.columns {
            if !column.values.is_empty() {
                self.put_column(column, block.times.len());
                readings += column.values.len() as u64;
            }
        }
        if readings > 0 {
            put_bytes_head(&mut self.message, 1, self.block.len());
            self.message.extend_from_slice(&self.block);
        }
        readings
    }

    /// Appends one column to the block.
    fn put_column(&mut self, column: &Column, moments: usize) {
        debug_assert_eq!(column.values.len(), present(column, moments));
        self.packed.clear();
        let (number, exponent) = match &column.values {
            Values::Texts(texts) => {
                put_texts(&mut self.packed, texts);
                (4, None)
            }
            Values::Numbers(numbers) => match self.put_decimal(numbers) {
                Some(exponent) => (2, Some(exponent)),
                None => {
                    self.put_doubles(numbers);
                    (3, None)
                }
            },
        };
        // Texts stand as fields of their own; decimals and doubles are one packed field.
        let exponent = exponent.map_or(0, |exponent| super::wire::zigzag(exponent.into()));
        let (inner_number, inner) = match number {
            2 => (
                2,
                uint_field_len(exponent) + bytes_field_len(self.packed.len()),
            ),
            3 => (1, bytes_field_len(self.packed.len())),
            _ => (0, self.packed.len()),
        };
        let absent = column.present.as_deref().and_then(absent_bits);
        let length = uint_field_len(column.series.into())
            + bytes_field_len(inner)
            + absent
                .as_ref()
                .map_or(0, |bits| bytes_field_len(bits.len()));
        let out = &mut self.block;
        put_bytes_head(out, 2, length);
        put_uint_field(out, 1, column.series.into());
        put_bytes_head(out, number, inner);
        if inner_number != 0 {
            put_uint_field(out, 1, exponent);
            put_bytes_head(out, inner_number, self.packed.len());
        }
        out.extend_from_slice(&self.packed);
        if let Some(bits) = absent {
            put_bytes_head(out, 5, bits.len());
            out.extend_from_slice(&bits);
        }
    }

    /// Fills `packed` by decimal deltas, if they are exact and not longer than doubles.
    fn put_decimal(&mut self, numbers: &[f64]) -> Option<i32> {
        let exponent = decimal::find(numbers, &mut self.mantissas)?;
        decimal::put_deltas(&mut self.packed, &self.mantissas);
        (self.packed.len() <= 8 * numbers.len()).then_some(exponent)
    }

    fn put_doubles(&mut self, numbers: &[f64]) {
        self.packed.clear();
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
        self.packed.extend(bytes);
    }

    /// The message as one zstd frame, if it is worth it and that is smaller.
    fn compress(&mut self) -> Option<Bytes> {
        if self.message.len() < MIN_COMPRESSED_BYTES {
            return None;
        }
        if self.compressor.is_none() {
            self.compressor = Compressor::new(ZSTD_LEVEL).ok();
        }
        let compressor = self.compressor.as_mut()?;
        self.compressed.clear();
        let bound = zstd::zstd_safe::compress_bound(self.message.len());
        self.compressed.reserve(bound);
        let length = compressor
            .compress_to_buffer(&self.message, &mut self.compressed)
            .ok()?;
        (length < self.message.len()).then(|| Bytes::copy_from_slice(&self.compressed))
    }

    fn shrink(&mut self) {
        self.message.shrink_to(KEEP_BYTES);
        self.block.shrink_to(KEEP_BYTES);
        self.packed.shrink_to(KEEP_BYTES);
        self.mantissas.shrink_to(KEEP_BYTES / size_of::<i64>());
        self.compressed.shrink_to(KEEP_BYTES);
    }
}

fn put_texts(out: &mut Vec<u8>, texts: &[String]) {
    for text in texts {
        put_bytes_head(out, 1, text.len());
        out.extend_from_slice(text.as_bytes());
    }
}

/// One bit per moment, set where it has no value; `None` when every moment has one.
fn absent_bits(present: &[bool]) -> Option<Vec<u8>> {
    if present.iter().all(|present| *present) {
        return None;
    }
    let byte = |chunk: &[bool]| {
        let bit = |(at, present): (usize, &bool)| u8::from(!present) << at;
        chunk.iter().enumerate().map(bit).sum()
    };
    Some(present.chunks(8).map(byte).collect())
}

fn present(column: &Column, moments: usize) -> usize {
    match &column.present {
        None => moments,
        Some(present) => present.iter().filter(|present| **present).count(),
    }
}

/// The earliest and the latest moment so far.
#[derive(Default)]
pub(super) struct Span(Option<(i64, i64)>);

impl Span {
    pub(super) fn extend(&mut self, times: &[i64]) {
        for &time in times {
            let (first, last) = self.0.unwrap_or((time, time));
            self.0 = Some((first.min(time), last.max(time)));
        }
    }

    /// Both are 0 when there was no moment.
    pub(super) fn ends(&self) -> (i64, i64) {
        self.0.unwrap_or_default()
    }
}
