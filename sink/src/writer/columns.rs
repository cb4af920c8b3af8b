//! The columns of `samples` and `latest`, and building them from rows.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringBuilder, TimestampNanosecondArray,
    new_null_array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use weir_proto::batch::Values;

use super::Picked;
use super::numbers::Numbers;
use super::words::Words;
use crate::catalog::SeriesKey;
use crate::fold::rows::{Quality, Received, Rows};

mod latest;

pub(crate) use latest::Labels;
pub use latest::latest_schema;

fn word() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

fn moment() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

/// The stored form of readings. Columns are only ever added, nullable.
pub fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            Field::new("time", moment(), false),
            Field::new("device", word(), false),
            Field::new("metric", word(), false),
            Field::new("attributes", word(), false),
            Field::new("value", DataType::Float64, true),
            Field::new("text", DataType::Utf8, true),
            Field::new("unit", word(), false),
            Field::new("agent", word(), false),
            Field::new("received", moment(), false),
            Field::new("time_quality", word(), false),
            Field::new("kind", word(), false),
            Field::new("source", word(), false),
            Field::new("time_shift_ns", DataType::Int64, true),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// `batch` as [`schema`] has it, if it can be: a column that a file of an older program lacks is null.
pub(crate) fn conform(batch: &RecordBatch) -> Option<RecordBatch> {
    let ours = schema();
    let there = batch.schema();
    let known = |name: &str| ours.field_with_name(name).is_ok();
    if !there.fields().iter().all(|field| known(field.name())) {
        return None;
    }
    let columns = ours
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => Some(Arc::clone(column)),
            None if field.is_nullable() => {
                Some(new_null_array(field.data_type(), batch.num_rows()))
            }
            _ => None,
        });
    let columns = columns.collect::<Option<Vec<_>>>()?;
    RecordBatch::try_new(ours, columns).ok()
}

/// A finished column.
pub(super) enum Column {
    /// As Arrow has it.
    Array(ArrayRef),
    /// Repeated strings, still as runs.
    Words(Words),
    /// Values by a dictionary.
    Numbers(Numbers),
}

/// Rows of `samples` under construction.
#[derive(Default)]
pub(crate) struct Columns {
    times: Vec<i64>,
    values: Vec<f64>,
    texts: StringBuilder,
    text_rows: usize,
    /// Rows with a number; the others have a text.
    numbers: Vec<bool>,
    received: Vec<i64>,
    /// 0 where times were not moved.
    shifts: Vec<i64>,
    quality: Words,
    quality_words: Vec<(Quality, Arc<str>)>,
    device: Words,
    metric: Words,
    attributes: Words,
    unit: Words,
    agent: Words,
    kind: Words,
    source: Words,
}

impl Columns {
    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }

    /// Appends these rows of a series, in this order.
    pub(crate) fn push(&mut self, key: &SeriesKey, rows: &Rows, picked: &Picked) {
        self.push_series(key, picked.len());
        match picked {
            Picked::Range(range) => self.push_range(rows, range.clone()),
            Picked::List(list) => {
                for row in list {
                    self.push_row(rows, *row as usize);
                }
            }
        }
    }

    fn push_range(&mut self, rows: &Rows, range: std::ops::Range<usize>) {
        self.times.extend_from_slice(&rows.times[range.clone()]);
        match &rows.values {
            Values::Numbers(numbers) => {
                self.values.extend_from_slice(&numbers[range.clone()]);
                self.numbers.resize(self.times.len(), true);
            }
            Values::Texts(texts) => {
                for text in &texts[range.clone()] {
                    self.push_text(text);
                }
            }
        }
        for (stretch, mark) in rows.stretches() {
            let from = stretch.start.max(range.start);
            let count = stretch.end.min(range.end).saturating_sub(from);
            if count > 0 {
                self.push_received(mark.received, count);
            }
        }
    }

    /// Appends one row of one series; used where series of one order key take turns.
    pub(crate) fn push_one(&mut self, key: &SeriesKey, rows: &Rows, row: usize) {
        self.push_series(key, 1);
        self.push_row(rows, row);
    }

    fn push_row(&mut self, rows: &Rows, row: usize) {
        self.times.push(rows.times[row]);
        match &rows.values {
            Values::Numbers(numbers) => {
                self.values.push(numbers[row]);
                self.numbers.push(true);
            }
            Values::Texts(texts) => self.push_text(&texts[row]),
        }
        self.push_received(rows.mark_at(row).received, 1);
    }

    fn push_text(&mut self, text: &str) {
        // Rows with numbers since the last text have none.
        for _ in self.text_rows..self.values.len() {
            self.texts.append_null();
        }
        self.texts.append_value(text);
        self.values.push(0.0);
        self.numbers.push(false);
        self.text_rows = self.values.len();
    }

    fn push_series(&mut self, key: &SeriesKey, rows: usize) {
        self.device.push(&key.device, rows);
        self.metric.push(&key.metric, rows);
        self.attributes.push(&key.attributes, rows);
        self.unit.push(&key.unit, rows);
        self.agent.push(&key.agent, rows);
        self.kind.push(&key.kind, rows);
        self.source.push(&key.source, rows);
    }

    fn push_received(&mut self, received: Received, rows: usize) {
        let total = self.received.len() + rows;
        self.received.resize(total, received.at_ns);
        self.shifts.resize(total, received.shift_ns);
        let quality = received.quality;
        let word = match self
            .quality_words
            .iter()
            .find(|(known, _)| *known == quality)
        {
            Some((_, word)) => Arc::clone(word),
            None => {
                let word: Arc<str> = quality.name().into();
                self.quality_words.push((quality, Arc::clone(&word)));
                word
            }
        };
        self.quality.push(&word, rows);
    }

    /// The columns of `samples`, in the order of the schema.
    pub(super) fn into_columns(mut self) -> Vec<Column> {
        let moments = |times: Vec<i64>| {
            let column = TimestampNanosecondArray::from(times).with_timezone("UTC");
            Column::Array(Arc::new(column))
        };
        for _ in self.text_rows..self.values.len() {
            self.texts.append_null();
        }
        let shifts = if self.shifts.iter().all(|ns| *ns == 0) {
            Int64Array::new_null(self.shifts.len())
        } else {
            let shifts = self.shifts.into_iter();
            shifts.map(|ns| (ns != 0).then_some(ns)).collect()
        };
        let numbers = NullBuffer::new(BooleanBuffer::from(self.numbers));
        let numbers = (numbers.null_count() > 0).then_some(numbers);
        let values = Float64Array::new(ScalarBuffer::from(self.values), numbers);
        vec![
            moments(self.times),
            Column::Words(self.device),
            Column::Words(self.metric),
            Column::Words(self.attributes),
            Column::Array(Arc::new(values)),
            Column::Array(Arc::new(self.texts.finish())),
            Column::Words(self.unit),
            Column::Words(self.agent),
            moments(self.received),
            Column::Words(self.quality),
            Column::Words(self.kind),
            Column::Words(self.source),
            Column::Array(Arc::new(shifts)),
        ]
    }

    /// The same as Arrow has them.
    fn into_arrays(self) -> Vec<ArrayRef> {
        let columns = self.into_columns().into_iter().map(|column| match column {
            Column::Array(array) => array,
            Column::Words(words) => words.into_array(),
            Column::Numbers(numbers) => Arc::new(numbers.into_array()),
        });
        columns.collect()
    }

    /// The rows as a batch of `samples`.
    pub(crate) fn finish(self) -> RecordBatch {
        RecordBatch::try_new(schema(), self.into_arrays()).expect("columns follow the schema")
    }
}
