//! What a statement found, and its three encodings.
//!
//! **JSON** (`application/json`): `{"columns":[{"name":..,"type":..}],"rows":[[..],..],"truncated":false}`
//!
//! | type | in JSON |
//! |---|---|
//! | `timestamp` | text, RFC 3339 with nine digits of a second and `Z`; a zone of another name is converted |
//! | `date` | text, `YYYY-MM-DD` |
//! | `float64`, `float32` | number; the texts `"NaN"`, `"Infinity"`, `"-Infinity"`, which JSON has no numbers for |
//! | `int8` .. `int64`, `uint8` .. `uint64`, `decimal` | number, all digits, also beyond 2^53 |
//! | `bool` | `true`, `false` |
//! | `text` | text; a dictionary is answered as its values |
//! | `list`, `struct` | array, object |
//! | `binary` | text, hexadecimal |
//! | `interval`, `duration`, `time`, others | text |
//!
//! An absent value is `null` in every type.
//!
//! **CSV** (`text/csv`): RFC 4180 with a header line, CRLF, quotes only where needed. An absent value is empty, an
//! empty text is `""`. Values as in JSON without its quotes; lists and structs as JSON.
//!
//! **Arrow** (`application/vnd.apache.arrow.stream`): one IPC stream of the batches as they are. Dictionaries may differ
//! between batches and are then sent again, as the stream format allows.
//!
//! JSON and CSV stop with an error when they pass the engine's limit for one answer: a dictionary of long texts is small
//! in memory and large on the wire.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use datafusion::execution::memory_pool::MemoryReservation;

use crate::error::QueryError;

mod cell;
mod csv;
mod json;
mod time;

pub(crate) use time::text_of_ns;

/// Rows of an answered statement.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answer {
    /// Columns, also when there are no rows.
    pub schema: SchemaRef,
    /// Rows, in the order of the statement.
    pub batches: Vec<RecordBatch>,
    /// Whether rows beyond `Limits::max_rows` were cut.
    pub truncated: bool,
    /// Files of `samples` that the snapshot held, counted once for each time the statement names the table.
    pub files_known: usize,
    /// How many of them could hold rows of the asked time; the others were not opened.
    pub files_scanned: usize,
    /// Largest encoding.
    max_bytes: usize,
    /// Accounts for `batches` until the answer is dropped.
    pub(crate) held: Option<MemoryReservation>,
}

impl Answer {
    pub(crate) fn new(schema: SchemaRef, max_bytes: usize) -> Self {
        Self {
            schema,
            batches: Vec::new(),
            truncated: false,
            files_known: 0,
            files_scanned: 0,
            max_bytes,
            held: None,
        }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// See the module.
    pub fn to_json(&self) -> Result<Vec<u8>, QueryError> {
        json::encode(self)
    }

    /// See the module.
    pub fn to_csv(&self) -> Result<Vec<u8>, QueryError> {
        csv::encode(self)
    }

    /// See the module.
    pub fn to_arrow_ipc(&self) -> Result<Vec<u8>, QueryError> {
        let encode = || {
            let mut writer = StreamWriter::try_new(Vec::new(), &self.schema)?;
            for batch in &self.batches {
                writer.write(batch)?;
            }
            writer.into_inner()
        };
        encode().map_err(|error| QueryError::internal("the answer could not be encoded", &error))
    }

    fn check_size(&self, encoded: &[u8]) -> Result<(), QueryError> {
        if encoded.len() > self.max_bytes {
            return Err(QueryError::answer_too_large(self.max_bytes));
        }
        Ok(())
    }
}
