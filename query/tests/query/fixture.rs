//! A small lake in a temporary directory, and shorthand for asking it.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, DictionaryArray, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef, TimeUnit};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use parquet::arrow::ArrowWriter;
use tempfile::TempDir;
use weir_query::{Answer, DataFile, Engine, Limits, Names, QueryError, Tables, View};

/// 2026-03-01T00:00:00Z.
pub(crate) const START: i64 = 1_772_323_200_000_000_000;
pub(crate) const SECOND: i64 = 1_000_000_000;
pub(crate) const HOUR: i64 = 3600 * SECOND;

pub(crate) type Row<'a> = (i64, &'a str, &'a str, f64);

pub(crate) fn word() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// time, device, metric, value.
pub(crate) fn schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("time", time, false),
        Field::new("device", word(), true),
        Field::new("metric", word(), true),
        Field::new("value", DataType::Float64, true),
    ]))
}

pub(crate) fn batch(rows: &[Row<'_>]) -> RecordBatch {
    let times = TimestampNanosecondArray::from_iter_values(rows.iter().map(|r| r.0));
    let devices: DictionaryArray<Int32Type> = rows.iter().map(|r| r.1).collect();
    let metrics: DictionaryArray<Int32Type> = rows.iter().map(|r| r.2).collect();
    let values = Float64Array::from_iter_values(rows.iter().map(|r| r.3));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(times.with_timezone("UTC")),
        Arc::new(devices),
        Arc::new(metrics),
        Arc::new(values),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

pub(crate) struct Lake {
    pub(crate) dir: TempDir,
    pub(crate) tables: Tables,
}

impl Lake {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn ObjectStore> =
            Arc::new(LocalFileSystem::new_with_prefix(dir.path()).unwrap());
        let tables = Tables {
            owner: "owner".into(),
            store,
            samples_schema: schema(),
            files: Arc::default(),
            fresh: Vec::new(),
            views: Vec::new(),
        };
        Self { dir, tables }
    }

    /// Writes one file and adds it to the snapshot.
    pub(crate) fn file(&mut self, name: &str, batch: &RecordBatch) -> &mut Self {
        let path = format!("samples/tenant=default/{name}.parquet");
        let full = self.dir.path().join(&path);
        std::fs::create_dir_all(full.parent().unwrap()).unwrap();
        let file = File::create(&full).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
        let times = batch.column_by_name("time").unwrap();
        let times: &TimestampNanosecondArray = times.as_any().downcast_ref().unwrap();
        let ends = |name: &str| {
            let words = cast(batch.column_by_name(name)?, &DataType::Utf8).unwrap();
            let words: &StringArray = words.as_any().downcast_ref().unwrap();
            let (least, most) = (words.iter().flatten().min()?, words.iter().flatten().max()?);
            Some((least.into(), most.into()))
        };
        let names = ends("metric").zip(ends("device"));
        Arc::make_mut(&mut self.tables.files).push(DataFile {
            path,
            bytes: full.metadata().unwrap().len(),
            rows: batch.num_rows() as u64,
            min_ns: *times.values().iter().min().unwrap(),
            max_ns: *times.values().iter().max().unwrap(),
            crc: Some(crc32c::crc32c(&std::fs::read(&full).unwrap())),
            names: names.map(|(metrics, devices)| Names { metrics, devices }),
        });
        self
    }

    pub(crate) fn fresh(&mut self, batch: RecordBatch) -> &mut Self {
        self.tables.fresh.push(batch);
        self
    }

    pub(crate) fn view(&mut self, name: &str, batch: RecordBatch) -> &mut Self {
        self.tables.views.push(View {
            name: name.to_owned(),
            schema: batch.schema(),
            batches: vec![batch],
        });
        self
    }

    pub(crate) async fn ask(&self, sql: &str) -> Result<Answer, QueryError> {
        engine(limits()).run(sql, self.tables.clone()).await
    }

    /// The rows as JSON.
    pub(crate) async fn rows(&self, sql: &str) -> serde_json::Value {
        let answer = self.ask(sql).await.unwrap();
        json(&answer)["rows"].take()
    }
}

/// Four files of one hour each, one row a minute for two devices; value = minute within the hour.
pub(crate) fn four_hours() -> Lake {
    let mut lake = Lake::new();
    for hour in 0..4 {
        let mut rows = Vec::new();
        for device in ["a", "b"] {
            for minute in 0..60 {
                let time = START + hour * HOUR + minute * 60 * SECOND;
                rows.push((time, device, "load", minute as f64));
            }
        }
        lake.file(&format!("hour-{hour}"), &batch(&rows));
    }
    lake
}

pub(crate) fn limits() -> Limits {
    Limits {
        max_rows: 1000,
        timeout: Duration::from_secs(60),
        memory_bytes: 64 << 20,
        owner_bytes: 64 << 20,
        threads: 2,
    }
}

pub(crate) fn engine(limits: Limits) -> Engine {
    Engine::new(limits).unwrap()
}

pub(crate) fn json(answer: &Answer) -> serde_json::Value {
    serde_json::from_slice(&answer.to_json().unwrap()).unwrap()
}
