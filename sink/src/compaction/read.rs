//! Reading our own files back into rows by series.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, AsArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray,
};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampNanosecondType};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use weir_proto::batch::Values;

use crate::catalog::{DataFile, SeriesKey};
use crate::fold::rows::{Quality, Received, Rows, SeriesRows};
use crate::model::StreamId;
use crate::writer::{Provenance, WriteError, columns};

/// What the footer says of where the rows came from.
pub(super) fn provenance(bytes: &Bytes, path: &str) -> Result<Provenance, WriteError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes.clone())?;
    let pairs = builder.metadata().file_metadata().key_value_metadata();
    let find = |key: &str| {
        let pair = pairs.and_then(|all| all.iter().find(|pair| pair.key == format!("weir.{key}")));
        pair.and_then(|pair| pair.value.as_deref())
            .ok_or_else(|| WriteError::Foreign(format!("{path} has no weir.{key} in its footer")))
    };
    let wrong = |key: &str| WriteError::Foreign(format!("{path}: weir.{key} cannot be read"));
    let version = find("format_version")?;
    if version != "1" {
        let text = format!("{path} has format {version}, this program knows 1: upgrade weir-sink");
        return Err(WriteError::Foreign(text));
    }
    let journal_id = StreamId::from_hex(find("journal_id")?).ok_or_else(|| wrong("journal_id"))?;
    let streams = find("streams")?.split_whitespace().map(|pair| {
        let (stream, watermark) = pair.split_once('=')?;
        Some((StreamId::from_hex(stream)?, watermark.parse().ok()?))
    });
    Ok(Provenance {
        journal_id: journal_id.0,
        from: find("from")?.parse().map_err(|_| wrong("from"))?,
        through: find("through")?.parse().map_err(|_| wrong("through"))?,
        streams: streams
            .collect::<Option<_>>()
            .ok_or_else(|| wrong("streams"))?,
    })
}

/// Rows of several files, by series.
pub(super) struct Gathered {
    tenant: Arc<str>,
    series: HashMap<SeriesKey, Rows>,
}

/// The columns of a batch that make a series, in the order of [`SeriesKey`] after the tenant.
const IDENTITY: [&str; 7] = [
    "metric",
    "device",
    "attributes",
    "unit",
    "kind",
    "source",
    "agent",
];

impl Gathered {
    pub(super) fn new(tenant: Arc<str>) -> Self {
        Self {
            tenant,
            series: HashMap::new(),
        }
    }

    /// The rows of `file`: as many as the catalog says, or an error.
    pub(super) fn add(&mut self, bytes: &Bytes, file: &DataFile) -> Result<(), WriteError> {
        let (path, mut rows) = (&file.path, 0);
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone())?
            .with_batch_size(64 << 10)
            .build()?;
        for batch in reader {
            let batch = batch?;
            let batch = columns::conform(&batch).ok_or_else(|| {
                WriteError::Foreign(format!("{path} has other columns than samples"))
            })?;
            self.add_batch(&batch);
            rows += batch.num_rows() as u64;
        }
        if rows != file.rows {
            let text = format!("{path} holds {rows} rows, not {}", file.rows);
            return Err(WriteError::Foreign(text));
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Vec<SeriesRows> {
        let series = self.series.into_iter();
        series
            .map(|(key, rows)| SeriesRows {
                key: Arc::new(key),
                rows,
            })
            .collect()
    }

    fn add_batch(&mut self, batch: &RecordBatch) {
        let identity = IDENTITY.map(|name| Words::of(batch, name));
        let quality = Words::of(batch, "time_quality");
        let moments = |name: &str| -> &TimestampNanosecondArray {
            column(batch, name).as_primitive::<TimestampNanosecondType>()
        };
        let (times, received) = (moments("time").values(), moments("received").values());
        let numbers: &Float64Array = column(batch, "value").as_primitive::<Float64Type>();
        let shifts: &Int64Array = column(batch, "time_shift_ns").as_primitive::<Int64Type>();
        let texts: &StringArray = column(batch, "text").as_string();
        let mut from = 0;
        while from < batch.num_rows() {
            let same = |row: usize| identity.iter().all(|words| words.same(from, row));
            let through = (from + 1..batch.num_rows()).find(|row| !same(*row));
            let end = through.unwrap_or(batch.num_rows());
            let word = |i: usize| -> Arc<str> { identity[i].word(from).into() };
            let key = SeriesKey {
                tenant: Arc::clone(&self.tenant),
                metric: word(0),
                device: word(1),
                attributes: word(2),
                unit: word(3),
                kind: word(4),
                source: word(5),
                agent: word(6),
            };
            let values = if &*key.kind == "text" {
                Values::Texts((from..end).map(|row| texts.value(row).to_owned()).collect())
            } else {
                Values::Numbers(numbers.values()[from..end].to_vec())
            };
            let marks = (from..end).map(|row| Received {
                at_ns: received[row],
                quality: Quality::from_name(quality.word(row)),
                shift_ns: if shifts.is_valid(row) {
                    shifts.value(row)
                } else {
                    0
                },
            });
            let rows = self.series.entry(key).or_default();
            rows.push_stored(&times[from..end], values, marks);
            from = end;
        }
    }
}

/// One dictionary column.
struct Words<'a> {
    keys: &'a Int32Array,
    words: &'a StringArray,
}

impl<'a> Words<'a> {
    fn of(batch: &'a RecordBatch, name: &str) -> Self {
        let dictionary = column(batch, name).as_dictionary::<Int32Type>();
        Self {
            keys: dictionary.keys(),
            words: dictionary.values().as_string(),
        }
    }

    fn same(&self, a: usize, b: usize) -> bool {
        let (a, b) = (self.keys.value(a), self.keys.value(b));
        a == b
    }

    fn word(&self, row: usize) -> &'a str {
        self.words
            .value(usize::try_from(self.keys.value(row)).expect("a key is an index"))
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> &'a dyn Array {
    batch.column_by_name(name).expect("the schema was compared")
}
