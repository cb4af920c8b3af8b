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
//! Both compressed by zstd 1, with an offset index and a column index.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Int32Array, StringArray};
use bytes::Bytes;
use parquet::basic::{Compression, Encoding, Type, ZstdLevel};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::ByteArray;
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder};
use parquet::file::statistics::{Statistics, ValueStatistics};
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use super::WriteError;

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
    ) -> Result<(Bytes, ColumnCloseResult), WriteError> {
        let mut sink = TrackedWrite::new(Vec::new());
        let mut chunk = Chunk::default();
        let mut pages = SerializedPageWriter::new(&mut sink);
        chunk.add(&mut pages, self.dictionary()?)?;
        let mut column_index = ColumnIndexBuilder::new(Type::BYTE_ARRAY);
        let mut offset_index = OffsetIndexBuilder::new();
        let bits = bit_width(self.words.len());
        for (runs, rows) in split(&self.runs, PAGE_ROWS) {
            let (least, most) = self.ends(runs.iter().map(|(number, _)| *number));
            column_index.append(false, least.into(), most.into(), 0);
            let (offset, size) = chunk.add(&mut pages, page(&runs, rows, bits)?)?;
            offset_index.append_offset_and_size(offset, size);
            offset_index.append_row_count(signed(rows));
        }
        let (least, most) = self.ends(0..u32::try_from(self.words.len()).unwrap_or(u32::MAX));
        let word = |text: &str| Some(ByteArray::from(text.as_bytes().to_vec()));
        let statistics = ValueStatistics::new(word(least), word(most), None, Some(0), false);
        let bytes = Bytes::from(sink.into_inner()?);
        let encodings = [Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY];
        let metadata = ColumnChunkMetaData::builder(Arc::clone(column))
            .set_compression(Compression::ZSTD(
                ZstdLevel::try_new(1).expect("zstd has level 1"),
            ))
            .set_encodings(encodings.to_vec())
            .set_num_values(signed(self.rows))
            .set_total_compressed_size(signed(bytes.len()))
            .set_total_uncompressed_size(signed(chunk.uncompressed))
            .set_dictionary_page_offset(Some(0))
            .set_data_page_offset(chunk.first_data.unwrap_or(0))
            .set_statistics(Statistics::ByteArray(statistics))
            .build()?;
        let close = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: self.rows as u64,
            metadata,
            bloom_filter: None,
            column_index: Some(column_index.build()?),
            offset_index: Some(offset_index.build()),
        };
        Ok((bytes, close))
    }

    fn dictionary(&self) -> Result<CompressedPage, WriteError> {
        let mut plain = Vec::new();
        for word in &self.words {
            let length = u32::try_from(word.len()).expect("a name is short");
            plain.extend_from_slice(&length.to_le_bytes());
            plain.extend_from_slice(word.as_bytes());
        }
        let page = Page::DictionaryPage {
            buf: compress(&plain)?,
            num_values: u32::try_from(self.words.len()).expect("fewer words than rows"),
            encoding: Encoding::PLAIN,
            is_sorted: false,
        };
        Ok(CompressedPage::new(page, plain.len()))
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

/// What has been written of a chunk.
#[derive(Default)]
struct Chunk {
    uncompressed: usize,
    first_data: Option<i64>,
}

impl Chunk {
    /// Writes a page; answers where it is in the chunk and how long, header included.
    fn add(
        &mut self,
        pages: &mut SerializedPageWriter<'_, Vec<u8>>,
        page: CompressedPage,
    ) -> Result<(i64, i32), WriteError> {
        let data = matches!(page.compressed_page(), Page::DataPage { .. });
        let written = pages.write_page(page)?;
        self.uncompressed += written.uncompressed_size;
        let offset = written.offset.cast_signed();
        if data && self.first_data.is_none() {
            self.first_data = Some(offset);
        }
        Ok((
            offset,
            i32::try_from(written.compressed_size).expect("a page is small"),
        ))
    }
}

fn page(runs: &[Run], rows: usize, bits: u8) -> Result<CompressedPage, WriteError> {
    let mut plain = vec![bits];
    for (number, length) in runs {
        let mut header = (*length as u64) << 1;
        while header >= 0x80 {
            plain.push((header as u8 & 0x7f) | 0x80);
            header >>= 7;
        }
        plain.push(header as u8);
        plain.extend_from_slice(&number.to_le_bytes()[..usize::from(bits.div_ceil(8))]);
    }
    let page = Page::DataPage {
        buf: compress(&plain)?,
        num_values: u32::try_from(rows).expect("a page has few rows"),
        encoding: Encoding::RLE_DICTIONARY,
        def_level_encoding: Encoding::RLE,
        rep_level_encoding: Encoding::RLE,
        statistics: None,
    };
    Ok(CompressedPage::new(page, plain.len()))
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

fn compress(plain: &[u8]) -> Result<Bytes, WriteError> {
    let packed = zstd::bulk::compress(plain, 1);
    packed
        .map(Bytes::from)
        .map_err(|e| WriteError::Foreign(format!("zstd: {e}")))
}

fn signed(n: usize) -> i64 {
    i64::try_from(n).expect("smaller than memory")
}
