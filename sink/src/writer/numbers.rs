//! The column of values: a sorted dictionary and keys of whole bytes, which zstd halves once more.
//!
//! A sensor gives decimals with few places, and walks: its values are few and near each other. As
//! plain doubles they are eight bytes in which the last place moves all bits. Numbered in order of
//! their size they are integers again, whose upper byte hardly moves; in keys of whole bytes, and
//! in pages so short that a series has pages of its own, zstd's entropy coder sees just that.
//!
//! | page | form |
//! |---|---|
//! | dictionary | PLAIN: each value once, in order of size |
//! | data (v1) | levels of a nullable column, then RLE_DICTIONARY: one byte of bit width (8, or 16 above 256 values), then one bit-packed run, or one RLE run where all are the same |
//! | data (v1) of noise | levels, then PLAIN: mostly values that occur nowhere else would swell the dictionary |
//!
//! Where more than half of the pages are noise, or there is a NaN (which has no place in an order of
//! size), [`Numbers::of`] answers nothing and Parquet's own writer has the column.

use arrow::array::{Array, Float64Array};
use arrow::buffer::NullBuffer;
use bytes::Bytes;
use parquet::basic::{Encoding, Type};
use parquet::column::writer::ColumnCloseResult;
use parquet::file::statistics::ValueStatistics;
use parquet::schema::types::ColumnDescPtr;
use zstd::bulk::Compressor;

#[cfg(test)]
mod tests;

use super::WriteError;
use super::chunk::{Chunk, DataPage, push_run, push_varint};

/// Rows of a page.
const PAGE_ROWS: usize = 4096;

/// Most values that keys of two bytes can number.
const MOST_VALUES: usize = 1 << 16;

/// So far a value is looked for in the table; further only where a device has chosen its values to
/// collide.
const MOST_STEPS: usize = 64;

/// A column that a dictionary fits.
pub(super) struct Numbers {
    values: Float64Array,
    /// By key, in order of size.
    dictionary: Vec<f64>,
    /// Of each row; of no meaning where the row is null or its page plain.
    keys: Vec<u16>,
    /// By page.
    plain: Vec<bool>,
}

impl Numbers {
    /// The column, if its values are few enough.
    pub(super) fn of(values: &Float64Array) -> Option<Self> {
        if values.values().iter().any(|value| value.is_nan()) {
            return None;
        }
        let mut table = Table::new(values.len());
        let mut keys = Vec::with_capacity(values.len());
        let mut plain = Vec::with_capacity(values.len().div_ceil(PAGE_ROWS));
        for from in (0..values.len()).step_by(PAGE_ROWS) {
            let page = from..values.len().min(from + PAGE_ROWS);
            let before = table.values.len();
            let most = before + page.len() * 3 / 4;
            let fits = number(values, page.clone(), &mut table, &mut keys, most);
            if !fits {
                table.shrink(before);
            }
            keys.resize(page.end, 0);
            plain.push(!fits);
        }
        let noise = plain.iter().filter(|plain| **plain).count();
        if table.values.is_empty() || noise * 2 > plain.len() {
            return None;
        }
        let (dictionary, places) = in_order(&table.values);
        for key in &mut keys {
            // A row without a value, or of a plain page, may have no key at all.
            *key = places.get(usize::from(*key)).copied().unwrap_or(0);
        }
        Some(Self {
            values: values.clone(),
            dictionary,
            keys,
            plain,
        })
    }

    /// The column as Arrow has it.
    pub(super) fn into_array(self) -> Float64Array {
        self.values
    }

    /// The column as one chunk of a Parquet row group: its bytes, and what the footer says.
    pub(super) fn into_chunk(
        self,
        column: &ColumnDescPtr,
        packer: &mut Compressor<'static>,
    ) -> Result<(Bytes, ColumnCloseResult), WriteError> {
        let words: Vec<u8> = self
            .dictionary
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let mut chunk = Chunk::begin(Type::DOUBLE, packer, &words, self.dictionary.len())?;
        let mut ends = Ends::default();
        let mut plain = Vec::new();
        for (page, noise) in self.plain.iter().enumerate() {
            let from = page * PAGE_ROWS;
            let rows = PAGE_ROWS.min(self.values.len() - from);
            let part = self.values.slice(from, rows);
            let keys = &self.keys[from..from + rows];
            plain.clear();
            push_levels(&mut plain, rows, part.nulls());
            let (own, encoding) = if *noise {
                (push_plain(&mut plain, &part), Encoding::PLAIN)
            } else {
                let own = self.push_keys(&mut plain, keys, part.nulls());
                (own, Encoding::RLE_DICTIONARY)
            };
            ends.widen(&own);
            chunk.push(DataPage {
                plain: &plain,
                rows,
                nulls: part.null_count(),
                encoding,
                ends: own.bytes(),
            })?;
        }
        let (least, most) = ends.signed().unzip();
        let nulls = Some(self.values.null_count() as u64);
        let statistics = ValueStatistics::new(least, most, None, nulls, false);
        let encodings = vec![Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY];
        chunk.finish(column, encodings, statistics.into())
    }

    /// Appends the keys of the rows that have a value.
    fn push_keys(&self, plain: &mut Vec<u8>, keys: &[u16], nulls: Option<&NullBuffer>) -> Ends {
        let there: Vec<u16>;
        let keys = match nulls {
            None => keys,
            Some(nulls) => {
                let valid = keys.iter().zip(nulls).filter(|(_, valid)| *valid);
                there = valid.map(|(key, _)| *key).collect();
                &there
            }
        };
        let bytes: u8 = if self.dictionary.len() <= 256 { 1 } else { 2 };
        plain.push(bytes * 8);
        let mut ends = (u16::MAX, 0);
        for key in keys {
            ends = (ends.0.min(*key), ends.1.max(*key));
        }
        if keys.is_empty() {
            return Ends::default();
        }
        if ends.0 == ends.1 {
            push_run(plain, keys.len(), u32::from(ends.0), bytes);
        } else {
            let groups = keys.len().div_ceil(8);
            push_varint(plain, (groups as u64) << 1 | 1);
            if bytes == 1 {
                plain.extend(keys.iter().map(|key| *key as u8));
            } else {
                plain.extend(keys.iter().flat_map(|key| key.to_le_bytes()));
            }
            // A bit-packed run ends with whole groups of eight.
            let missing = groups * 8 - keys.len();
            plain.resize(plain.len() + missing * usize::from(bytes), 0);
        }
        let value = |key: u16| self.dictionary[usize::from(key)];
        Ends(Some((value(ends.0), value(ends.1))))
    }
}

/// The least and the greatest value, if there is any.
#[derive(Default)]
struct Ends(Option<(f64, f64)>);

impl Ends {
    fn widen(&mut self, other: &Self) {
        self.0 = match (self.0, other.0) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (one, None) | (None, one) => one,
        };
    }

    /// Zeros of both signs are one value to a reader: the least is the negative one, the greatest the other.
    fn signed(&self) -> Option<(f64, f64)> {
        self.0.map(|(least, most)| {
            let least = if least == 0.0 { -0.0 } else { least };
            (least, if most == 0.0 { 0.0 } else { most })
        })
    }

    fn bytes(&self) -> (Vec<u8>, Vec<u8>) {
        let bytes = |value: f64| value.to_le_bytes().to_vec();
        self.signed()
            .map_or_else(Default::default, |(least, most)| {
                (bytes(least), bytes(most))
            })
    }
}

/// Gives the values of these rows their numbers in order of appearance; whether no more than `most`
/// have one by then.
fn number(
    values: &Float64Array,
    rows: std::ops::Range<usize>,
    table: &mut Table,
    keys: &mut Vec<u16>,
    most: usize,
) -> bool {
    let most = most.min(MOST_VALUES);
    let nulls = values.nulls();
    let mut last = None;
    for row in rows {
        if nulls.is_some_and(|nulls| nulls.is_null(row)) {
            keys.push(0);
            continue;
        }
        let bits = values.value(row).to_bits();
        let key = match last {
            Some((same, key)) if same == bits => key,
            _ => match table.number(bits, most) {
                Some(key) => key,
                None => return false,
            },
        };
        last = Some((bits, key));
        keys.push(key);
    }
    true
}

/// Numbers for bit patterns, in order of appearance: open addressing, never more than half full.
struct Table {
    slots: Vec<u32>,
    shift: u32,
    values: Vec<u64>,
    /// The slot of each value.
    places: Vec<u32>,
}

impl Table {
    fn new(rows: usize) -> Self {
        let slots = (rows * 2).clamp(64, MOST_VALUES * 2).next_power_of_two();
        Self {
            slots: vec![0; slots],
            shift: 64 - slots.trailing_zeros(),
            values: Vec::new(),
            places: Vec::new(),
        }
    }

    /// The number of a value, new or known; nothing where there would be more than `most`.
    fn number(&mut self, bits: u64, most: usize) -> Option<u16> {
        let mixed = (bits ^ bits >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut slot = (mixed >> self.shift) as usize;
        for _ in 0..MOST_STEPS {
            match self.slots[slot] {
                0 => {
                    if self.values.len() >= most {
                        return None;
                    }
                    self.values.push(bits);
                    self.places.push(slot as u32);
                    self.slots[slot] = self.values.len() as u32;
                    return Some((self.values.len() - 1) as u16);
                }
                found if self.values[found as usize - 1] == bits => {
                    return Some((found - 1) as u16);
                }
                _ => slot = (slot + 1) & (self.slots.len() - 1),
            }
        }
        None
    }

    /// Forgets all but the first values. The last ones stand at the ends of their ways, so that
    /// nothing else is lost.
    fn shrink(&mut self, to: usize) {
        for place in self.places.drain(to..) {
            self.slots[place as usize] = 0;
        }
        self.values.truncate(to);
    }
}

/// The values in order of size, and the place of each in it.
fn in_order(values: &[u64]) -> (Vec<f64>, Vec<u16>) {
    let mut order: Vec<(f64, u16)> = (0..=u16::MAX)
        .zip(values)
        .map(|(number, bits)| (f64::from_bits(*bits), number))
        .collect();
    order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut places = vec![0; order.len()];
    for (place, (_, number)) in (0..=u16::MAX).zip(&order) {
        places[usize::from(*number)] = place;
    }
    (order.into_iter().map(|(value, _)| value).collect(), places)
}

/// The definition levels of a nullable column: their length in four bytes, then runs.
fn push_levels(plain: &mut Vec<u8>, rows: usize, nulls: Option<&NullBuffer>) {
    let begin = plain.len();
    plain.extend_from_slice(&[0; 4]);
    let mut row = 0;
    while row < rows {
        let valid = |row| nulls.is_none_or(|nulls| nulls.is_valid(row));
        let level = valid(row);
        let same = match nulls {
            None => rows,
            Some(_) => (row..rows).find(|row| valid(*row) != level).unwrap_or(rows),
        };
        push_run(plain, same - row, u32::from(level), 1);
        row = same;
    }
    let length = u32::try_from(plain.len() - begin - 4).expect("a page is small");
    plain[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
}

fn push_plain(plain: &mut Vec<u8>, values: &Float64Array) -> Ends {
    let mut ends = Ends::default();
    for value in values.iter().flatten() {
        plain.extend_from_slice(&value.to_le_bytes());
        ends.widen(&Ends(Some((value, value))));
    }
    ends
}
