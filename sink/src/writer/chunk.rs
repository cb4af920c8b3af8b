//! One column of one row group, page by page: what `words` and `numbers` write is put together here.
//!
//! A chunk is a dictionary page, then data pages (v1), each compressed by zstd 1 by itself, with an
//! offset index and a column index beside them. The offsets in its metadata count from the chunk's
//! own beginning; Parquet's writer moves them when it appends the chunk to the file.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, Type, ZstdLevel};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder};
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;
use zstd::bulk::Compressor;

use super::WriteError;

/// The level of zstd that all columns are compressed with.
pub(super) const LEVEL: i32 = 1;

/// A data page before it is compressed.
pub(super) struct DataPage<'a> {
    /// Levels, if the column has any, and values.
    pub(super) plain: &'a [u8],
    pub(super) rows: usize,
    pub(super) nulls: usize,
    pub(super) encoding: Encoding,
    /// The least and the greatest value as the column index has them; both empty where all is null.
    pub(super) ends: (Vec<u8>, Vec<u8>),
}

/// A chunk under construction.
pub(super) struct Chunk<'a> {
    packer: &'a mut Compressor<'static>,
    sink: TrackedWrite<Vec<u8>>,
    columns: ColumnIndexBuilder,
    offsets: OffsetIndexBuilder,
    uncompressed: usize,
    first_data: Option<i64>,
    rows: usize,
}

impl<'a> Chunk<'a> {
    /// Begins with the dictionary: `words` entries, PLAIN.
    pub(super) fn begin(
        kind: Type,
        packer: &'a mut Compressor<'static>,
        dictionary: &[u8],
        words: usize,
    ) -> Result<Self, WriteError> {
        let mut chunk = Self {
            packer,
            sink: TrackedWrite::new(Vec::new()),
            columns: ColumnIndexBuilder::new(kind),
            offsets: OffsetIndexBuilder::new(),
            uncompressed: 0,
            first_data: None,
            rows: 0,
        };
        let page = Page::DictionaryPage {
            buf: chunk.pack(dictionary)?,
            num_values: count(words),
            encoding: Encoding::PLAIN,
            is_sorted: false,
        };
        chunk.write(CompressedPage::new(page, dictionary.len()))?;
        Ok(chunk)
    }

    /// Appends a page.
    pub(super) fn push(&mut self, page: DataPage<'_>) -> Result<(), WriteError> {
        let data = Page::DataPage {
            buf: self.pack(page.plain)?,
            num_values: count(page.rows),
            encoding: page.encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let (offset, size) = self.write(CompressedPage::new(data, page.plain.len()))?;
        self.first_data.get_or_insert(offset);
        self.offsets.append_offset_and_size(offset, size);
        self.offsets.append_row_count(signed(page.rows));
        let (least, most) = page.ends;
        let empty = page.nulls == page.rows;
        self.columns.append(empty, least, most, signed(page.nulls));
        self.rows += page.rows;
        Ok(())
    }

    /// The bytes, and what the footer says of them.
    pub(super) fn finish(
        self,
        column: &ColumnDescPtr,
        encodings: Vec<Encoding>,
        statistics: Statistics,
    ) -> Result<(Bytes, ColumnCloseResult), WriteError> {
        let bytes = Bytes::from(self.sink.into_inner()?);
        let level = ZstdLevel::try_new(LEVEL).expect("zstd has this level");
        let metadata = ColumnChunkMetaData::builder(Arc::clone(column))
            .set_compression(Compression::ZSTD(level))
            .set_encodings(encodings)
            .set_num_values(signed(self.rows))
            .set_total_compressed_size(signed(bytes.len()))
            .set_total_uncompressed_size(signed(self.uncompressed))
            .set_dictionary_page_offset(Some(0))
            .set_data_page_offset(self.first_data.unwrap_or(0))
            .set_statistics(statistics)
            .build()?;
        let close = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: self.rows as u64,
            metadata,
            bloom_filter: None,
            column_index: Some(self.columns.build()?),
            offset_index: Some(self.offsets.build()),
        };
        Ok((bytes, close))
    }

    /// Where the page is in the chunk and how long, header included.
    fn write(&mut self, page: CompressedPage) -> Result<(i64, i32), WriteError> {
        let written = SerializedPageWriter::new(&mut self.sink).write_page(page)?;
        self.uncompressed += written.uncompressed_size;
        let size = i32::try_from(written.compressed_size).expect("a page is small");
        Ok((written.offset.cast_signed(), size))
    }

    fn pack(&mut self, plain: &[u8]) -> Result<Bytes, WriteError> {
        let packed = self.packer.compress(plain);
        packed
            .map(Bytes::from)
            .map_err(|e| WriteError::Foreign(format!("zstd: {e}")))
    }
}

/// What compresses the pages of a file, one after the other.
pub(super) fn packer() -> Compressor<'static> {
    Compressor::new(LEVEL).expect("zstd has this level")
}

/// A run of Parquet's RLE: `varint(rows << 1)`, then the key in `bytes` whole bytes.
pub(super) fn push_run(plain: &mut Vec<u8>, rows: usize, key: u32, bytes: u8) {
    push_varint(plain, (rows as u64) << 1);
    plain.extend_from_slice(&key.to_le_bytes()[..usize::from(bytes)]);
}

/// LEB128.
pub(super) fn push_varint(plain: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        plain.push((number as u8 & 0x7f) | 0x80);
        number >>= 7;
    }
    plain.push(number as u8);
}

fn count(n: usize) -> u32 {
    u32::try_from(n).expect("a page is small")
}

fn signed(n: usize) -> i64 {
    i64::try_from(n).expect("smaller than memory")
}
