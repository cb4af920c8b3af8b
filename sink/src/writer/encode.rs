//! Parquet itself: which encodings, which properties, in which order the rows go in.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::Schema;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;
use zstd::bulk::Compressor;

use super::chunk::{LEVEL, packer};
use super::columns::{Column, Columns, schema};
use super::numbers::Numbers;
use super::{Part, Provenance, WriteError};

/// Rows of a row group: enough to compress well, few enough for a reader to hold.
pub(crate) const GROUP_ROWS: usize = 1 << 20;

/// Where `value` stands in the schema.
const VALUE: usize = 4;

/// Rows the trial of encodings looks at.
const TRIAL_ROWS: usize = 16 << 10;

/// How values are written that are too many for [`super::numbers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValueEncoding {
    Dictionary,
    ByteStreamSplit,
    Plain,
}

/// A file under construction.
struct Open {
    file: SerializedFileWriter<Vec<u8>>,
    columns: ArrowRowGroupWriterFactory,
    packer: Compressor<'static>,
    groups: usize,
}

/// Writes the parts, which are sorted by series and belong to one tenant. A row group ends with
/// the series that fills `group_rows`.
pub(crate) fn encode(
    parts: &[Part<'_>],
    tenant: &str,
    provenance: &Provenance,
    group_rows: usize,
) -> Result<Bytes, WriteError> {
    let mut open: Option<Open> = None;
    let mut write = |columns: &mut Columns| -> Result<(), WriteError> {
        let columns = numbered(std::mem::take(columns).into_columns());
        let open = match &mut open {
            Some(open) => open,
            None => open.insert(begin(&columns, tenant, provenance)?),
        };
        write_group(open, columns)
    };
    let mut columns = Columns::default();
    for group in parts.chunk_by(same_order) {
        push_group(&mut columns, group);
        if columns.len() >= group_rows {
            write(&mut columns)?;
        }
    }
    if columns.len() > 0 {
        write(&mut columns)?;
    }
    let open = open.expect("a file has rows");
    Ok(open.file.into_inner()?.into())
}

/// The columns, with a dictionary for the values if they are few enough.
fn numbered(mut columns: Vec<Column>) -> Vec<Column> {
    if let Column::Array(values) = &columns[VALUE]
        && let Some(numbers) = Numbers::of(values.as_primitive())
    {
        columns[VALUE] = Column::Numbers(numbers);
    }
    columns
}

/// Opens the file; its first rows decide how values are written where they are many.
fn begin(columns: &[Column], tenant: &str, provenance: &Provenance) -> Result<Open, WriteError> {
    let encoding = match &columns[VALUE] {
        Column::Array(values) => trial(values)?,
        Column::Numbers(_) | Column::Words(_) => ValueEncoding::Plain,
    };
    let properties = properties(encoding)
        .set_key_value_metadata(Some(footer(tenant, provenance)))
        .build();
    let writer = ArrowWriter::try_new(Vec::new(), schema(), Some(properties))?;
    let (file, columns) = writer.into_serialized_writer()?;
    Ok(Open {
        file,
        columns,
        packer: packer(),
        groups: 0,
    })
}

fn write_group(open: &mut Open, columns: Vec<Column>) -> Result<(), WriteError> {
    let writers = open.columns.create_column_writers(open.groups)?;
    open.groups += 1;
    let described = open.file.schema_descr().columns().to_vec();
    let mut group = open.file.next_row_group()?;
    let schema = schema();
    for (i, (column, mut writer)) in columns.into_iter().zip(writers).enumerate() {
        match column {
            Column::Array(array) => {
                for leaf in compute_leaves(schema.field(i), &array)? {
                    writer.write(&leaf)?;
                }
                writer.close()?.append_to_row_group(&mut group)?;
            }
            Column::Words(words) => {
                let (bytes, close) = words.into_chunk(&described[i], &mut open.packer)?;
                group.append_column(&bytes, close)?;
            }
            Column::Numbers(numbers) => {
                let (bytes, close) = numbers.into_chunk(&described[i], &mut open.packer)?;
                group.append_column(&bytes, close)?;
            }
        }
    }
    group.close()?;
    Ok(())
}

/// Series that differ only in what the order does not look at.
fn same_order(a: &Part<'_>, b: &Part<'_>) -> bool {
    let (a, b) = (&a.series.key, &b.series.key);
    a.metric == b.metric && a.device == b.device && a.attributes == b.attributes
}

/// Appends parts of one order key: one after the other, or in turns when there are several.
fn push_group(columns: &mut Columns, group: &[Part<'_>]) {
    if let [only] = group {
        columns.push(&only.series.key, &only.series.rows, &only.rows);
        return;
    }
    let mut order: Vec<(i64, usize, usize)> = Vec::new();
    for (i, part) in group.iter().enumerate() {
        order.extend(
            part.rows
                .iter()
                .map(|row| (part.series.rows.times[row], i, row)),
        );
    }
    order.sort_by_key(|(time, part, _)| (*time, *part));
    for (_, part, row) in order {
        let series = group[part].series;
        columns.push_one(&series.key, &series.rows, row);
    }
}

fn footer(tenant: &str, provenance: &Provenance) -> Vec<KeyValue> {
    let pair = |key: &str, value: String| KeyValue::new(format!("weir.{key}"), value);
    let streams: Vec<String> = provenance
        .streams
        .iter()
        .map(|(stream, watermark)| format!("{stream}={watermark}"))
        .collect();
    vec![
        pair("format_version", "1".into()),
        pair("tenant", tenant.into()),
        pair(
            "journal_id",
            format!("{:032x}", u128::from_be_bytes(provenance.journal_id)),
        ),
        pair("from", provenance.from.to_string()),
        pair("through", provenance.through.to_string()),
        pair("streams", streams.join(" ")),
    ]
}

fn column(name: &str) -> ColumnPath {
    ColumnPath::from(name)
}

fn properties(values: ValueEncoding) -> WriterPropertiesBuilder {
    let schema = schema();
    let sorting = ["metric", "device", "attributes", "time"].map(|name| SortingColumn {
        column_idx: i32::try_from(schema.index_of(name).expect("a column of samples"))
            .expect("a small number"),
        descending: false,
        nulls_first: false,
    });
    let builder = WriterProperties::builder()
        .set_created_by(concat!("weir-sink/", env!("CARGO_PKG_VERSION")).into())
        .set_compression(Compression::ZSTD(
            ZstdLevel::try_new(LEVEL).expect("zstd has this level"),
        ))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_sorting_columns(Some(sorting.to_vec()))
        .set_column_dictionary_enabled(column("time"), false)
        .set_column_encoding(column("time"), Encoding::DELTA_BINARY_PACKED);
    with_values(builder, values)
}

fn with_values(builder: WriterPropertiesBuilder, values: ValueEncoding) -> WriterPropertiesBuilder {
    let value = column("value");
    match values {
        ValueEncoding::Dictionary => builder.set_column_dictionary_enabled(value, true),
        ValueEncoding::ByteStreamSplit => builder
            .set_column_dictionary_enabled(value.clone(), false)
            .set_column_encoding(value, Encoding::BYTE_STREAM_SPLIT),
        ValueEncoding::Plain => builder
            .set_column_dictionary_enabled(value.clone(), false)
            .set_column_encoding(value, Encoding::PLAIN),
    }
}

/// Writes some of the values each way and answers the smallest.
fn trial(values: &ArrayRef) -> Result<ValueEncoding, WriteError> {
    // From the middle: the first series are no more typical than any other.
    let rows = values.len().min(TRIAL_ROWS);
    let values = values.slice((values.len() - rows) / 2, rows);
    if values.null_count() == rows {
        return Ok(ValueEncoding::Plain);
    }
    let only = Arc::new(Schema::new(vec![schema().field(VALUE).clone()]));
    let values = RecordBatch::try_new(Arc::clone(&only), vec![values])?;
    let mut best = (usize::MAX, ValueEncoding::Plain);
    for encoding in [
        ValueEncoding::Dictionary,
        ValueEncoding::ByteStreamSplit,
        ValueEncoding::Plain,
    ] {
        let builder = WriterProperties::builder().set_compression(Compression::ZSTD(
            ZstdLevel::try_new(LEVEL).expect("zstd has this level"),
        ));
        let properties = with_values(builder, encoding).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&only), Some(properties))?;
        writer.write(&values)?;
        let size = writer.into_inner()?.len();
        if size < best.0 {
            best = (size, encoding);
        }
    }
    Ok(best.1)
}
