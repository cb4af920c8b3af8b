//! Columns of repeated strings: kept as runs, and written to Parquet as runs.
//!
//! Rows are sorted by series, so that in a column like `device` one word stands for all rows
//! of a series. Parquet's own writer looks at every row of such a column; this one looks at
//! every run, which costs nothing beside the values. What it writes is plain Parquet:
//!
//! | page | form |
//! |---|---|
//! | dictionary | PLAIN: each word once, in order of first use |
//! | data (v1) | RLE_DICTIONARY: one byte of bit width, then `varint(rows << 1)`, key in as few whole bytes as the bit width needs, per run; no levels, the columns are required |
//!
//! Put together by [`super::chunk`].

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Int32Array, StringArray};
use bytes::Bytes;
use parquet::basic::{Encoding, Type};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::ByteArray;
use parquet::file::statistics::ValueStatistics;
use parquet::schema::types::ColumnDescPtr;
use zstd::bulk::Compressor;

use super::WriteError;
use super::chunk::{Chunk, DataPage, push_run};

/// Rows of a page, as Parquet's own writer has it for the other columns.
const PAGE_ROWS: usize = 20_000;

/// So many rows of one word.
type Run = (u32, usize);

/// A column of repeated strings under construction.
#[derive(Default)]
pub(super) struct Words {
    numbers: HashMap<Arc<str>, u32>,
    words: Vec<Arc<str>>,
    runs: Vec<Run>,
    rows: usize,
}

impl Words {
    pub(super) fn push(&mut self, word: &Arc<str>, rows: usize) {
        if rows == 0 {
            return;
        }
        self.rows += rows;
        if let Some((last, length)) = self.runs.last_mut()
            && self.words[*last as usize] == *word
        {
            *length += rows;
            return;
        }
        let number = match self.numbers.get(word) {
            Some(number) => *number,
            None => {
                let number = u32::try_from(self.words.len()).expect("fewer words than rows");
                self.numbers.insert(Arc::clone(word), number);
                self.words.push(Arc::clone(word));
                number
            }
        };
        self.runs.push((number, rows));
    }

    /// The column as Arrow has it.
    pub(super) fn into_array(self) -> ArrayRef {
        let mut keys = Vec::with_capacity(self.rows);
        for (number, rows) in self.runs {
            let key = i32::try_from(number).expect("fewer words than an Arrow key can number");
            keys.resize(keys.len() + rows, key);
        }
        let words: StringArray = self.words.iter().map(|word| Some(&**word)).collect();
        let column = DictionaryArray::try_new(Int32Array::from(keys), Arc::new(words));
        Arc::new(column.expect("every key has its word"))
    }

    /// The column as one chunk of a Parquet row group: its bytes, and what the footer says.
    pub(super) fn into_chunk(
        self,
        column: &ColumnDescPtr,
        packer: &mut Compressor<'static>,
    ) -> Result<(Bytes, ColumnCloseResult), WriteError> {
        let words = self.words.len();
        let mut chunk = Chunk::begin(Type::BYTE_ARRAY, packer, &self.dictionary(), words)?;
        let bits = bit_width(words);
        for (runs, rows) in split(&self.runs, PAGE_ROWS) {
            let (least, most) = self.ends(runs.iter().map(|(number, _)| *number));
            chunk.push(DataPage {
                plain: &page(&runs, bits),
                rows,
                nulls: 0,
                encoding: Encoding::RLE_DICTIONARY,
                ends: (least.into(), most.into()),
            })?;
        }
        let (least, most) = self.ends(0..u32::try_from(words).unwrap_or(u32::MAX));
        let word = |text: &str| Some(ByteArray::from(text.as_bytes().to_vec()));
        let statistics = ValueStatistics::new(word(least), word(most), None, Some(0), false);
        let encodings = [Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY];
        chunk.finish(column, encodings.to_vec(), statistics.into())
    }

    fn dictionary(&self) -> Vec<u8> {
        let mut plain = Vec::new();
        for word in &self.words {
            let length = u32::try_from(word.len()).expect("a name is short");
            plain.extend_from_slice(&length.to_le_bytes());
            plain.extend_from_slice(word.as_bytes());
        }
        plain
    }

    /// The first and the last of these words by their bytes.
    fn ends(&self, numbers: impl Iterator<Item = u32>) -> (&str, &str) {
        let mut ends: Option<(&str, &str)> = None;
        for number in numbers {
            let word = &*self.words[number as usize];
            let (least, most) = ends.unwrap_or((word, word));
            ends = Some((least.min(word), most.max(word)));
        }
        ends.unwrap_or_default()
    }
}

fn page(runs: &[Run], bits: u8) -> Vec<u8> {
    let mut plain = vec![bits];
    for (number, length) in runs {
        push_run(&mut plain, *length, *number, bits.div_ceil(8));
    }
    plain
}

/// The runs of each page, with the rows of the page.
fn split(runs: &[Run], page_rows: usize) -> Vec<(Vec<Run>, usize)> {
    let mut pages = Vec::new();
    let (mut page, mut rows) = (Vec::new(), 0);
    for (number, length) in runs {
        let mut left = *length;
        while left > 0 {
            let taken = left.min(page_rows - rows);
            page.push((*number, taken));
            rows += taken;
            left -= taken;
            if rows == page_rows {
                pages.push((std::mem::take(&mut page), rows));
                rows = 0;
            }
        }
    }
    if rows > 0 {
        pages.push((page, rows));
    }
    pages
}

/// Bits that number `words` words; none for one.
fn bit_width(words: usize) -> u8 {
    let last = words.saturating_sub(1);
    u8::try_from(usize::BITS - last.leading_zeros()).expect("at most 64")
}
