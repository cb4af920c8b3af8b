//! Reading our own files back, a stretch of one series at a time.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, AsArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray,
};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampNanosecondType};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use weir_proto::batch::Values;

use crate::catalog::{DataFile, SeriesKey};
use crate::fold::rows::{Quality, Received, Rows};
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

/// Rows of a batch: large enough to read fast, and there is one in memory for each input of a merge.
const BATCH_ROWS: usize = 16 << 10;

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

/// Rows that follow each other in a file and are of one series.
pub(super) struct Run {
    pub(super) key: SeriesKey,
    /// Within the batch at hand.
    pub(super) rows: Range<usize>,
}

/// One file, read from its beginning to its end.
pub(super) struct Source {
    reader: ParquetRecordBatchReader,
    batch: RecordBatch,
    /// Rows of the batch that were handed out.
    at: usize,
    /// Rows of the batches before.
    before: u64,
    /// The series of the last run: most of its words are those of the next.
    last: SeriesKey,
    /// What was handed out last and has not been copied.
    pub(super) head: Option<Run>,
}

impl Source {
    pub(super) fn open(bytes: &Bytes, file: &DataFile) -> Result<Self, WriteError> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone())?
            .with_batch_size(BATCH_ROWS)
            .build()?;
        let none: Arc<str> = "".into();
        Ok(Self {
            reader,
            batch: RecordBatch::new_empty(columns::schema()),
            at: 0,
            before: 0,
            last: SeriesKey {
                tenant: Arc::clone(&file.tenant),
                metric: Arc::clone(&none),
                device: Arc::clone(&none),
                attributes: Arc::clone(&none),
                unit: Arc::clone(&none),
                kind: Arc::clone(&none),
                source: Arc::clone(&none),
                agent: none,
            },
            head: None,
        })
    }

    /// The next run of `file`; at the end there were as many rows as the catalog says, or an error. What
    /// was handed out before cannot be copied any more.
    pub(super) fn next(&mut self, file: &DataFile) -> Result<Option<Run>, WriteError> {
        while self.at == self.batch.num_rows() {
            self.before += self.at as u64;
            self.at = 0;
            let Some(batch) = self.reader.next() else {
                let rows = self.before;
                self.batch = RecordBatch::new_empty(columns::schema());
                self.before = 0;
                if rows == file.rows {
                    return Ok(None);
                }
                let text = format!("{} holds {rows} rows, not {}", file.path, file.rows);
                return Err(WriteError::Foreign(text));
            };
            self.batch = columns::conform(&batch?).ok_or_else(|| {
                WriteError::Foreign(format!("{} has other columns than samples", file.path))
            })?;
        }
        let identity = IDENTITY.map(|name| Words::of(&self.batch, name));
        let from = self.at;
        let ends = identity.iter().map(|words| words.end_of(from));
        let end = ends.min().unwrap_or(from + 1);
        let word = |i: usize, like: &Arc<str>| identity[i].word_like(from, like);
        let last = &self.last;
        let key = SeriesKey {
            tenant: Arc::clone(&last.tenant),
            metric: word(0, &last.metric),
            device: word(1, &last.device),
            attributes: word(2, &last.attributes),
            unit: word(3, &last.unit),
            kind: word(4, &last.kind),
            source: word(5, &last.source),
            agent: word(6, &last.agent),
        };
        self.last = key.clone();
        self.at = end;
        Ok(Some(Run {
            key,
            rows: from..end,
        }))
    }

    /// Appends the rows of the run that was handed out last.
    pub(super) fn copy(&self, run: &Run, to: &mut Rows) {
        let batch = &self.batch;
        let Range { start, end } = run.rows;
        let quality = Words::of(batch, "time_quality");
        let moments = |name: &str| -> &TimestampNanosecondArray {
            column(batch, name).as_primitive::<TimestampNanosecondType>()
        };
        let (times, received) = (moments("time").values(), moments("received").values());
        let shifts: &Int64Array = column(batch, "time_shift_ns").as_primitive::<Int64Type>();
        let values = if &*run.key.kind == "text" {
            let texts: &StringArray = column(batch, "text").as_string();
            Values::Texts(
                (start..end)
                    .map(|row| texts.value(row).to_owned())
                    .collect(),
            )
        } else {
            let numbers: &Float64Array = column(batch, "value").as_primitive::<Float64Type>();
            Values::Numbers(numbers.values()[start..end].to_vec())
        };
        let marks = (start..end).map(|row| Received {
            at_ns: received[row],
            quality: Quality::from_name(quality.word(row)),
            shift_ns: if shifts.is_valid(row) {
                shifts.value(row)
            } else {
                0
            },
        });
        to.push_stored(&times[start..end], values, marks);
    }
}

/// One dictionary column.
struct Words<'a> {
    keys: &'a [i32],
    words: &'a StringArray,
}

impl<'a> Words<'a> {
    fn of(batch: &'a RecordBatch, name: &str) -> Self {
        let dictionary = column(batch, name).as_dictionary::<Int32Type>();
        let keys: &Int32Array = dictionary.keys();
        Self {
            keys: keys.values(),
            words: dictionary.values().as_string(),
        }
    }

    /// Behind the rows that have the same word as this one.
    fn end_of(&self, row: usize) -> usize {
        let word = self.keys[row];
        let rest = &self.keys[row..];
        row + rest
            .iter()
            .position(|key| *key != word)
            .unwrap_or(rest.len())
    }

    fn word(&self, row: usize) -> &'a str {
        self.words
            .value(usize::try_from(self.keys[row]).expect("a key is an index"))
    }

    /// The word as it stands elsewhere already, if it is the same.
    fn word_like(&self, row: usize, like: &Arc<str>) -> Arc<str> {
        let word = self.word(row);
        if word == &**like {
            Arc::clone(like)
        } else {
            word.into()
        }
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> &'a dyn Array {
    batch.column_by_name(name).expect("the schema was compared")
}
