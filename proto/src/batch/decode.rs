//! Bytes to blocks, taking nothing on trust.
//!
//! Order of the checks: sizes the header announces, checksum, size once decompressed, then
//! structure. Inside, a count is held against what is there before anything is allocated for
//! it, and running totals over all blocks keep what a short message may unfold into under the
//! limits: moments of a regular block and absent values cost next to nothing on the wire. They do
//! cost something: zstd makes at most 128 KiB of four bytes, and a column says of each moment, by a
//! bit at least, whether it has a value. A size or a count beyond that is refused unseen.
//!
//! Stricter than protobuf where no encoder differs: a nested message that may stand once must
//! not stand twice. Unknown fields are skipped, repeated numbers may be packed or not.

use std::cell::RefCell;

use zstd::bulk::Decompressor;

use super::encode::Span;
use super::error::{DecodeError, within};
use super::readings::{Place, Readings};
use super::wire::{Field, Fields};
use super::{Block, decimal, times};
use crate::limits::{
    MAX_BATCH_BYTES, MAX_BATCH_CELLS, MAX_BATCH_COLUMNS, MAX_BATCH_READINGS, MAX_DECODED_BYTES,
    MAX_TEXT_BYTES,
};
use crate::v1;

/// Bytes one byte of a zstd frame may become: a block takes four bytes and holds up to 128 KiB.
pub const INFLATED_PER_BYTE: usize = 32 << 10;

/// What decoding may allocate for each byte of the message, beside 64 KiB: eight moments of eight bytes each
/// and whether they have a value come nearest to it.
pub const UNFOLDED_PER_BYTE: usize = 80;

/// What decoding may allocate at most, whatever the message: 16 MiB of it, and under the limits a million
/// moments, four million places and a million texts.
pub const DECODED_BYTES: usize = 96 << 20;

/// Bytes of the shortest column there is: key, length, ref, and a message of one value.
const COLUMN_BYTES: usize = 8;

/// Moments that one byte of a block may stand for: a column tells those with a value by a bit each.
const MOMENTS_PER_BYTE: usize = 8;

/// What the thread keeps of its buffer; more is given back after the batch that needed it.
const KEEP_BYTES: usize = 1 << 20;

#[derive(Default)]
struct Scratch {
    message: Vec<u8>,
    decompressor: Option<Decompressor<'static>>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Decodes a payload and checks it against its header, which then holds for what is returned:
/// as many readings, the first and the last moment, as many bytes.
pub fn decode(header: &v1::BatchHeader, payload: &[u8]) -> Result<Vec<Block>, DecodeError> {
    let mut blocks = Vec::new();
    let mut scratch = Readings::default();
    open(header, payload, |message| {
        read_message(header, message, |block, totals| {
            read_block(block, totals, &mut scratch)?;
            blocks.push(scratch.drain_block());
            Ok(())
        })
    })?;
    Ok(blocks)
}

/// The same, as a sink keeps it.
pub fn decode_readings(header: &v1::BatchHeader, payload: &[u8]) -> Result<Readings, DecodeError> {
    let mut readings = Readings::default();
    open(header, payload, |message| {
        // A value takes a byte at least.
        let numbers = (header.readings as usize).min(message.len());
        readings.numbers.reserve_exact(numbers);
        read_message(header, message, |block, totals| {
            read_block(block, totals, &mut readings)
        })
    })?;
    Ok(readings)
}

/// Checks what a header announces and hands the message on as it was before compression.
fn open(
    header: &v1::BatchHeader,
    payload: &[u8],
    read: impl FnOnce(&[u8]) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    within("payload size", payload.len() as u64, MAX_BATCH_BYTES)?;
    within("decoded size", header.decoded_bytes, MAX_DECODED_BYTES)?;
    within("number of readings", header.readings, MAX_BATCH_READINGS)?;
    let found = crc32c::crc32c(payload);
    if found != header.crc {
        return Err(DecodeError::Checksum {
            expected: header.crc,
            found,
        });
    }
    match v1::Encoding::try_from(header.encoding) {
        Err(_) => Err(DecodeError::UnknownEncoding(header.encoding)),
        Ok(v1::Encoding::Unspecified) => Err(DecodeError::Malformed("no encoding is named")),
        Ok(v1::Encoding::Plain) => read(payload),
        Ok(v1::Encoding::Zstd) => SCRATCH.with_borrow_mut(|scratch| {
            scratch.decompress(payload, header.decoded_bytes as usize)?;
            let done = read(&scratch.message);
            scratch.message.shrink_to(KEEP_BYTES);
            done
        }),
    }
}

impl Scratch {
    /// Fills `message`, which has room for `size` bytes and is not grown beyond.
    fn decompress(&mut self, payload: &[u8], size: usize) -> Result<(), DecodeError> {
        let announced = zstd::zstd_safe::get_frame_content_size(payload)
            .map_err(|_| DecodeError::Malformed("not a zstd frame"))?;
        if let Some(announced) = announced {
            expect_bytes(size, announced)?;
        }
        if size > payload.len().saturating_mul(INFLATED_PER_BYTE) {
            return Err(DecodeError::Malformed(
                "no zstd frame this short holds as much as is announced",
            ));
        }
        if self.decompressor.is_none() {
            self.decompressor = Decompressor::new().ok();
        }
        let decompressor = self
            .decompressor
            .as_mut()
            .ok_or(DecodeError::Malformed("no memory to decompress"))?;
        self.message.clear();
        self.message.reserve_exact(size);
        decompressor
            .decompress_to_buffer(payload, &mut self.message)
            .map_err(|_| DecodeError::Malformed("the zstd frame is damaged or too long"))?;
        Ok(())
    }
}

fn read_message(
    header: &v1::BatchHeader,
    message: &[u8],
    mut block: impl FnMut(&[u8], &mut Totals) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    expect_bytes(header.decoded_bytes as usize, message.len() as u64)?;
    let mut totals = Totals {
        announced: header.readings,
        ..Totals::default()
    };
    let mut fields = Fields::new(message);
    while let Some((number, field)) = fields.next()? {
        if number == 1 {
            block(field.bytes()?, &mut totals)?;
        }
    }
    expect("readings", header.readings, totals.readings)?;
    let (first, last) = totals.span.ends();
    expect("first moment", header.first_ns, first)?;
    expect("last moment", header.last_ns, last)
}

/// What the blocks read so far add up to.
#[derive(Default)]
struct Totals {
    announced: u64,
    readings: u64,
    moments: u64,
    columns: u64,
    cells: u64,
    span: Span,
}

impl Totals {
    /// Room for the moments of a block, before anything is allocated for them.
    fn open_block(&mut self, moments: usize) -> Result<(), DecodeError> {
        self.moments += moments as u64;
        within("number of moments", self.moments, MAX_BATCH_READINGS)
    }

    /// Room for a column, before anything is allocated for it.
    fn open_column(&mut self, moments: u32) -> Result<(), DecodeError> {
        self.columns += 1;
        self.cells += u64::from(moments);
        within("number of columns", self.columns, MAX_BATCH_COLUMNS)?;
        within("number of places", self.cells, MAX_BATCH_CELLS)
    }

    fn take_readings(&mut self, readings: usize) -> Result<(), DecodeError> {
        self.readings += readings as u64;
        if self.readings > self.announced {
            expect("readings", self.announced, self.readings)?;
        }
        Ok(())
    }
}

fn read_block(message: &[u8], totals: &mut Totals, out: &mut Readings) -> Result<(), DecodeError> {
    let times = times::Header::read(find_times(message)?)?;
    if times.count > message.len() * MOMENTS_PER_BYTE {
        // Found out here rather than by the columns, whose values are fewer: before the moments are made.
        expect(
            "moments the columns of a block can tell of",
            times.count as u64,
            (message.len() * MOMENTS_PER_BYTE) as u64,
        )?;
    }
    totals.open_block(times.count)?;
    let from = out.times.len();
    times.moments(&mut out.times)?;
    totals.span.extend(&out.times[from..]);
    // As many as there are where no value is absent.
    let columns = (totals.announced as usize / times.count).min(message.len() / COLUMN_BYTES);
    out.places.reserve(columns);
    let before = out.places.len();
    let moments = (index(from), index(times.count));
    let mut times = false;
    let mut fields = Fields::new(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 if times => return TWICE,
            1 => times = true,
            2 => {
                totals.open_column(moments.1)?;
                read_column(field.bytes()?, moments, totals, out)?;
            }
            _ => {}
        }
    }
    if out.places.len() == before {
        return Err(DecodeError::Malformed("a block has no column"));
    }
    Ok(())
}

/// The times of a block, which stand first unless somebody else's encoder wrote it.
fn find_times(block: &[u8]) -> Result<&[u8], DecodeError> {
    let mut fields = Fields::new(block);
    while let Some((number, field)) = fields.next()? {
        if number == 1 {
            return field.bytes();
        }
    }
    Err(DecodeError::Malformed("a block has no times"))
}

/// The limits of a batch are far below 2^32.
fn index(index: usize) -> u32 {
    u32::try_from(index).expect("limits are below 2^32")
}

fn read_column(
    message: &[u8],
    times: (u32, u32),
    totals: &mut Totals,
    out: &mut Readings,
) -> Result<(), DecodeError> {
    let mut series = 0;
    let mut values = None;
    let mut absent: &[u8] = &[];
    let mut fields = Fields::new(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => series = field.uint32()?,
            2..=4 => put_once(&mut values, (number, field.bytes()?))?,
            5 => absent = field.bytes()?,
            _ => {}
        }
    }
    if series == 0 {
        return Err(DecodeError::Malformed("a column has no series"));
    }
    let moments = times.1 as usize;
    let absences = count_absent(absent, moments)?;
    let expected = moments - absences;
    if expected == 0 {
        return Err(DecodeError::Malformed("a column has no value"));
    }
    totals.take_readings(expected)?;
    let present =
        (absences > 0).then(|| (0..moments).map(|at| absent[at / 8] >> (at % 8) & 1 == 0));
    let present = out.put_present(present);
    let before = out.end();
    match values {
        Some((2, message)) => decimal::read(message, expected, &mut out.numbers)?,
        Some((3, message)) => read_doubles(message, expected, &mut out.numbers)?,
        Some((_, message)) => read_texts(message, expected, &mut out.texts)?,
        None => return Err(DecodeError::Malformed("a column has no values")),
    };
    let text = matches!(values, Some((4, _)));
    let (from, end) = match text {
        true => (before.1, out.texts.len()),
        false => (before.0, out.numbers.len()),
    };
    expect("values of a column", expected as u64, (end - from) as u64)?;
    out.places.push(Place {
        series,
        times,
        values: (index(from), index(end - from)),
        text,
        present,
    });
    Ok(())
}

/// How many of `moments` have no value by their bits.
fn count_absent(bits: &[u8], moments: usize) -> Result<usize, DecodeError> {
    if bits.is_empty() {
        return Ok(0);
    }
    let bytes = moments.div_ceil(8) as u64;
    expect("bytes of absent bits", bytes, bits.len() as u64)?;
    let unused = bits.len() * 8 - moments;
    if bits[bits.len() - 1].leading_zeros() < unused as u32 {
        return Err(DecodeError::Malformed("an absent bit has no moment"));
    }
    let absent = bits.iter().map(|byte| byte.count_ones() as usize);
    Ok(absent.sum())
}

fn read_doubles(message: &[u8], expected: usize, out: &mut Vec<f64>) -> Result<(), DecodeError> {
    let before = out.len();
    let mut fields = Fields::new(message);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Fixed64(bytes)) => {
                expect_values(expected, out.len() - before + 1)?;
                out.push(f64::from_le_bytes(bytes));
            }
            (1, field) => {
                let (doubles, rest) = field.bytes()?.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(DecodeError::Malformed("a double is cut short"));
                }
                expect_values(expected, out.len() - before + doubles.len())?;
                out.extend(doubles.iter().map(|bytes| f64::from_le_bytes(*bytes)));
            }
            _ => {}
        }
    }
    Ok(())
}

fn read_texts(message: &[u8], expected: usize, out: &mut Vec<String>) -> Result<(), DecodeError> {
    let before = out.len();
    let mut fields = Fields::new(message);
    while let Some((number, field)) = fields.next()? {
        if number == 1 {
            let bytes = field.bytes()?;
            within("size of a text", bytes.len() as u64, MAX_TEXT_BYTES)?;
            let text =
                str::from_utf8(bytes).map_err(|_| DecodeError::Malformed("a text is not utf-8"))?;
            expect_values(expected, out.len() - before + 1)?;
            out.push(text.to_owned());
        }
    }
    Ok(())
}

/// Fails as soon as a column has more values than moments; fewer are seen at its end.
pub(super) fn expect_values(expected: usize, found: usize) -> Result<(), DecodeError> {
    if found > expected {
        return too_many(expected);
    }
    Ok(())
}

/// One value more than a column may have.
#[cold]
pub(super) fn too_many(expected: usize) -> Result<(), DecodeError> {
    expect("values of a column", expected as u64, expected as u64 + 1)
}

const TWICE: Result<(), DecodeError> = Err(DecodeError::Malformed("a field stands twice"));

fn expect_bytes(expected: usize, found: u64) -> Result<(), DecodeError> {
    expect("decoded bytes", expected as u64, found)
}

fn expect<T>(what: &'static str, expected: T, found: T) -> Result<(), DecodeError>
where
    T: Into<i128> + PartialEq,
{
    if expected != found {
        return Err(DecodeError::CountMismatch {
            what,
            expected: expected.into(),
            found: found.into(),
        });
    }
    Ok(())
}

fn put_once<T>(slot: &mut Option<T>, value: T) -> Result<(), DecodeError> {
    if slot.replace(value).is_some() {
        return TWICE;
    }
    Ok(())
}
