//! The columns of `samples` and `latest`, and building them from rows.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, DictionaryArray, Float64Array, Int32Array, RecordBatch, StringArray, StringBuilder,
    TimestampNanosecondArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use weir_proto::batch::Values;

use super::Picked;
use crate::catalog::SeriesKey;
use crate::fold::latest::{Latest, Value};
use crate::fold::rows::{Quality, Rows};

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
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// The columns of `latest`: one row per series.
pub fn latest_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let samples = schema();
        let names = [
            "device",
            "metric",
            "attributes",
            "value",
            "text",
            "unit",
            "time",
            "agent",
            "received",
            "time_quality",
            "kind",
            "source",
        ];
        let field = |name: &str| {
            samples
                .field_with_name(name)
                .expect("a column of samples")
                .clone()
        };
        Arc::new(Schema::new(names.map(field).to_vec()))
    });
    Arc::clone(&SCHEMA)
}

/// A dictionary column under construction.
#[derive(Default)]
struct Words {
    numbers: HashMap<Arc<str>, i32>,
    words: StringBuilder,
    keys: Vec<i32>,
}

impl Words {
    fn push(&mut self, word: &Arc<str>, rows: usize) {
        let key = match self.numbers.get(word) {
            Some(key) => *key,
            None => {
                let key = i32::try_from(self.numbers.len()).expect("fewer words than rows");
                self.numbers.insert(Arc::clone(word), key);
                self.words.append_value(word);
                key
            }
        };
        self.keys.resize(self.keys.len() + rows, key);
    }

    fn finish(mut self) -> ArrayRef {
        let keys = Int32Array::from(self.keys);
        let words: StringArray = self.words.finish();
        Arc::new(DictionaryArray::try_new(keys, Arc::new(words)).expect("every key has its word"))
    }
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
                self.received
                    .resize(self.received.len() + count, mark.received_ns);
                self.push_quality(mark.quality, count);
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
        let mark = rows.mark_at(row);
        self.received.push(mark.received_ns);
        self.push_quality(mark.quality, 1);
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

    fn push_quality(&mut self, quality: Quality, rows: usize) {
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

    /// Appends one series' latest value.
    pub(crate) fn push_latest(&mut self, key: &SeriesKey, latest: &Latest) {
        self.push_series(key, 1);
        self.times.push(latest.time);
        match &latest.value {
            Value::Number(number) => {
                self.values.push(*number);
                self.numbers.push(true);
            }
            Value::Text(text) => self.push_text(text),
        }
        self.received.push(latest.received_ns);
        self.push_quality(latest.quality, 1);
    }

    /// The rows as a batch of `samples`.
    pub(crate) fn finish(mut self) -> RecordBatch {
        let moments = |times: Vec<i64>| -> ArrayRef {
            Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC"))
        };
        for _ in self.text_rows..self.values.len() {
            self.texts.append_null();
        }
        let numbers = NullBuffer::new(BooleanBuffer::from(self.numbers));
        let numbers = (numbers.null_count() > 0).then_some(numbers);
        let values = Float64Array::new(ScalarBuffer::from(self.values), numbers);
        let columns: Vec<ArrayRef> = vec![
            moments(self.times),
            self.device.finish(),
            self.metric.finish(),
            self.attributes.finish(),
            Arc::new(values),
            Arc::new(self.texts.finish()),
            self.unit.finish(),
            self.agent.finish(),
            moments(self.received),
            self.quality.finish(),
            self.kind.finish(),
            self.source.finish(),
        ];
        RecordBatch::try_new(schema(), columns).expect("columns are built after the schema")
    }

    /// The rows as a batch of `latest`.
    pub(crate) fn finish_latest(self) -> RecordBatch {
        let samples = self.finish();
        let schema = latest_schema();
        let columns = schema.fields().iter().map(|field| {
            let column = samples
                .column_by_name(field.name())
                .expect("a column of samples");
            Arc::clone(column)
        });
        RecordBatch::try_new(Arc::clone(&schema), columns.collect()).expect("the same columns")
    }
}
