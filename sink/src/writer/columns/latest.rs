//! The rows of `latest`. What says which series a row is of stays the same from one reading to the next, and is most of
//! the work: so it is made by itself, and used again.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};

use super::{Columns, schema};
use crate::catalog::SeriesKey;
use crate::fold::latest::{Latest, Value};
use crate::fold::rows::Received;

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
            "time_shift_ns",
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

/// The columns that say which series each row is of.
const OF_SERIES: [&str; 7] = [
    "device",
    "metric",
    "attributes",
    "unit",
    "agent",
    "kind",
    "source",
];

/// These columns of some rows, each where `samples` has it; the others are empty.
#[derive(Debug)]
pub(crate) struct Labels(Vec<ArrayRef>);

impl Labels {
    /// One row for each series.
    pub(crate) fn of<'a>(series: impl Iterator<Item = &'a SeriesKey>) -> Self {
        let mut columns = Columns::default();
        for key in series {
            columns.push_series(key, 1);
        }
        Self(columns.into_arrays())
    }

    /// The latest values of these series, in the same order, as a batch of `latest`.
    pub(crate) fn with(&self, values: &[Latest]) -> RecordBatch {
        let mut columns = Columns::default();
        for latest in values {
            columns.push_latest(latest);
        }
        let values = columns.into_arrays();
        let (samples, schema) = (schema(), latest_schema());
        let columns = schema.fields().iter().map(|field| {
            let name = field.name().as_str();
            let at = samples.index_of(name).expect("a column of samples");
            let is_label = OF_SERIES.contains(&name);
            Arc::clone(if is_label { &self.0[at] } else { &values[at] })
        });
        RecordBatch::try_new(Arc::clone(&schema), columns.collect())
            .expect("as many values as series")
    }
}

impl Columns {
    fn push_latest(&mut self, latest: &Latest) {
        self.times.push(latest.time);
        match &latest.value {
            Value::Number(number) => {
                self.values.push(*number);
                self.numbers.push(true);
            }
            Value::Text(text) => self.push_text(text),
        }
        let received = Received {
            at_ns: latest.received_ns,
            quality: latest.quality,
            shift_ns: latest.shift_ns,
        };
        self.push_received(received, 1);
    }
}
