//! Values come back bit by bit from every kind of page, by Parquet's own reader.

use std::sync::Arc;

use arrow::array::{AsArray, Float64Array};
use arrow::datatypes::Float64Type;
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelector,
};
use parquet::basic::Encoding;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::*;
use crate::writer::chunk::packer;

/// The column as a file of its own; nothing where it has no dictionary.
fn write(values: &Float64Array) -> Option<Bytes> {
    let numbers = Numbers::of(values)?;
    let schema = parse_message_type("message m { optional double value; }").expect("a schema");
    let properties = Arc::new(WriterProperties::default());
    let mut file =
        SerializedFileWriter::new(Vec::new(), Arc::new(schema), properties).expect("a file");
    let column = file.schema_descr().column(0);
    let mut group = file.next_row_group().expect("a group");
    let (bytes, close) = numbers.into_chunk(&column, &mut packer()).expect("a chunk");
    group.append_column(&bytes, close).expect("appended");
    group.close().expect("closed");
    Some(file.into_inner().expect("written").into())
}

/// All rows, by bits; and these alone, skipped to by the page index.
fn read(bytes: &Bytes, part: std::ops::Range<usize>) -> (Vec<Option<u64>>, Vec<Option<u64>>) {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    let rows = |selection: Option<Vec<RowSelector>>| {
        let open =
            ParquetRecordBatchReaderBuilder::try_new_with_options(bytes.clone(), options.clone());
        let mut builder = open.expect("opened with its page index");
        if let Some(selection) = selection {
            builder = builder.with_row_selection(selection.into());
        }
        let batches = builder
            .build()
            .expect("a reader")
            .map(|batch| batch.expect("a batch"));
        let values = |batch: arrow::array::RecordBatch| {
            let column = batch.column(0).as_primitive::<Float64Type>().clone();
            column
                .iter()
                .map(|value| value.map(f64::to_bits))
                .collect::<Vec<_>>()
        };
        batches.flat_map(values).collect()
    };
    let selection = vec![
        RowSelector::skip(part.start),
        RowSelector::select(part.len()),
    ];
    (rows(None), rows(Some(selection)))
}

fn metadata(bytes: &Bytes) -> Arc<ParquetMetaData> {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    let open = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes.clone(), options);
    Arc::clone(open.expect("opened").metadata())
}

/// No two neighbours are near each other, and none is like another.
fn noise(row: usize) -> f64 {
    (row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) as f64 / 3.0
}

fn cases() -> Vec<(&'static str, Float64Array)> {
    let some = |f: fn(usize) -> f64, rows: usize| -> Float64Array {
        (0..rows).map(|r| Some(f(r))).collect()
    };
    let nulls = |f: fn(usize) -> f64, keep: fn(usize) -> bool| -> Float64Array {
        (0..10_000).map(|r| keep(r).then(|| f(r))).collect()
    };
    vec![
        ("two rows", some(|_| 7.25, 2)),
        ("the same", some(|_| -1e300, 9_001)),
        (
            "zeros of both signs",
            some(|r| if r % 3 == 0 { -0.0 } else { 0.0 }, 4_100),
        ),
        (
            "infinite ends",
            some(|r| [f64::INFINITY, 1.0, f64::NEG_INFINITY][r % 3], 50),
        ),
        ("256 values", some(|r| (r * 7 % 256) as f64 / 10.0, 9_000)),
        ("257 values", some(|r| (r * 7 % 257) as f64 / 10.0, 9_000)),
        (
            "a walk",
            some(
                |r| ((r as f64 / 90.0).sin() * 5000.0).round() / 100.0,
                50_003,
            ),
        ),
        ("65,536 values", some(|r| (r / 4 % 65_536) as f64, 300_000)),
        (
            "noise in between",
            some(
                |r| {
                    if (4_000..13_000).contains(&r) {
                        noise(r)
                    } else {
                        (r % 900) as f64
                    }
                },
                40_000,
            ),
        ),
        (
            "every other is null",
            nulls(|r| (r % 77) as f64, |r| r % 2 == 0),
        ),
        (
            "pages of nulls",
            nulls(|r| (r % 77) as f64, |r| !(3_000..9_500).contains(&r)),
        ),
        (
            "noise and nulls",
            nulls(|r| if r < 4_096 { noise(r) } else { 1.5 }, |r| r % 5 != 0),
        ),
    ]
}

/// Fails when a key is not moved to its place in the order, when keys of rows without a value are
/// written, or with keys of one byte for 257 values.
#[test]
fn values_come_back_bit_by_bit() {
    for (name, values) in cases() {
        let bytes = write(&values).unwrap_or_else(|| panic!("{name}: no dictionary"));
        let expected: Vec<Option<u64>> = values.iter().map(|v| v.map(f64::to_bits)).collect();
        let part = values.len() * 2 / 5..(values.len() * 2 / 5 + 700).min(values.len());
        let (all, some) = read(&bytes, part.clone());
        assert_eq!(all, expected, "{name}");
        assert_eq!(some, expected[part], "{name}, a part");
        let column = metadata(&bytes).row_group(0).column(0).clone();
        let statistics = column.statistics().expect("statistics");
        assert_eq!(
            statistics.null_count_opt(),
            Some(values.null_count() as u64),
            "{name}"
        );
        let least = values.iter().flatten().fold(f64::INFINITY, f64::min);
        let found = statistics.min_bytes_opt().expect("the least");
        assert_eq!(
            f64::from_le_bytes(found.try_into().expect("eight bytes")),
            least,
            "{name}"
        );
    }
}

/// Fails when all pages are given a dictionary, when one page of noise takes it from the others, and when the values of such a
/// page stay in the table.
#[test]
fn noise_has_no_dictionary_and_does_not_swell_that_of_others() {
    let all: Float64Array = (0..20_000).map(|r| Some(noise(r))).collect();
    assert!(write(&all).is_none());
    let nan: Float64Array = (0..20)
        .map(|r| Some(if r == 9 { f64::NAN } else { 1.0 }))
        .collect();
    assert!(write(&nan).is_none());
    let mixed: Float64Array = (0..40_960)
        .map(|r| {
            Some(if r < 4_096 {
                noise(r)
            } else {
                (r % 100) as f64
            })
        })
        .collect();
    let bytes = write(&mixed).expect("a dictionary");
    assert!(bytes.len() < 4_096 * 8 + 4_000, "{} bytes", bytes.len());
    let encodings: Vec<_> = metadata(&bytes)
        .row_group(0)
        .column(0)
        .encodings()
        .collect();
    assert!(
        encodings.contains(&Encoding::RLE_DICTIONARY),
        "{encodings:?}"
    );
}

/// A device may choose its values so that all fall on one slot: that costs space, not time. Fails
/// when the table is searched without a limit (300,000 values take minutes then).
#[test]
fn values_made_to_collide_are_found_in_few_steps() {
    let mut table = Table::new(1 << 20);
    let place = |bits: u64| (bits ^ bits >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> table.shift;
    let same = place(0);
    let colliding: Vec<u64> = (0..200_000_000_u64)
        .filter(|bits| place(*bits) == same)
        .take(200)
        .collect();
    assert_eq!(colliding.len(), 200);
    let numbered = colliding
        .iter()
        .filter(|bits| table.number(**bits, MOST_VALUES).is_some());
    assert_eq!(numbered.count(), MOST_STEPS);
}
