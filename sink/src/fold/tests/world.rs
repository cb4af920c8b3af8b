//! A whole sink behind the journal, in a temporary directory, and agents that remember what
//! they sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, TimestampNanosecondType};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use prost::Message;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weir_journal::{Committer, Disk, Journal, Options};
use weir_process::clock::{Clock, ManualClock};
use weir_process::health::Health;
use weir_proto::batch::{self, Block, Column, Values};
use weir_proto::v1;

use crate::catalog::Catalog;
use crate::envelope::{self, Envelope};
use crate::fold::{Arrival, Decoded, Fold, FoldConfig, FoldError, FoldHandle, FoldParts};
use crate::model::DEFAULT_TENANT;
use crate::store::Store;

/// 2026-03-01T12:00:00Z.
pub(crate) const NOON: i64 = 1_772_366_400_000_000_000;
pub(crate) const SECOND: i64 = 1_000_000_000;

pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) health: Health,
}

/// A sink that runs.
pub(crate) struct Running {
    pub(crate) journal: Journal,
    committer: std::thread::JoinHandle<()>,
    pub(crate) catalog: Catalog,
    pub(crate) store: Store,
    pub(crate) fold: FoldHandle,
    pub(crate) lease_epoch: i64,
    task: JoinHandle<Result<(), FoldError>>,
    token: CancellationToken,
}

/// One reading as a test remembers it: (device, metric, attributes, agent, time, value).
pub(crate) type Reading = (String, String, String, String, i64, String);

impl World {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(ManualClock::new(NOON));
        let shared: Arc<dyn Clock> = Arc::clone(&clock) as _;
        Self {
            dir: tempfile::tempdir().expect("a directory"),
            clock,
            health: Health::new(shared),
        }
    }

    pub(crate) fn journal(&self) -> (Journal, Committer) {
        let options = Options {
            segment_bytes: 1 << 20,
            ..Options::default()
        };
        Journal::open(Arc::new(Disk), &self.dir.path().join("journal"), options).expect("a journal")
    }

    pub(crate) async fn catalog(&self) -> Catalog {
        Catalog::open(&self.dir.path().join("catalog.sqlite"))
            .await
            .expect("a catalog")
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.dir.path().join("store")).expect("a store")
    }

    /// A config under which nothing is flushed unless asked for.
    pub(crate) fn quiet() -> FoldConfig {
        FoldConfig {
            flush_interval: Duration::from_secs(3600),
            retry: (Duration::from_millis(5), Duration::from_millis(20)),
            ..FoldConfig::default()
        }
    }

    pub(crate) async fn start(&self) -> Running {
        self.start_with(Self::quiet())
            .await
            .expect("the fold opens")
    }

    pub(crate) async fn start_with(&self, config: FoldConfig) -> Result<Running, FoldError> {
        let (journal, committer) = self.journal();
        let committer = committer.spawn().expect("a thread");
        let (catalog, store) = (self.catalog().await, self.store());
        let parts = FoldParts {
            journal: journal.clone(),
            catalog: catalog.clone(),
            store: store.clone(),
            clock: Arc::clone(&self.clock) as _,
            stage: self.health.stage("fold", None),
            config,
        };
        let opened = Fold::open(parts).await;
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                journal.close();
                committer.join().expect("the committer ends");
                return Err(error);
            }
        };
        let token = CancellationToken::new();
        Ok(Running {
            journal,
            committer,
            catalog,
            store,
            fold: opened.handle(),
            lease_epoch: opened.lease_epoch(),
            task: tokio::spawn(opened.run(token.clone())),
            token,
        })
    }
}

impl Running {
    /// Journals an envelope and answers its number once it is durable.
    pub(crate) async fn journal(&self, envelope: &Envelope) -> u64 {
        let body = envelope.encode_to_vec();
        let number = self
            .journal
            .append(envelope::KIND, &[&body])
            .await
            .expect("appended");
        self.journal.committed(number).await.expect("committed");
        number
    }

    /// The same, handed over to the fold as ingest does.
    pub(crate) async fn deliver(&self, envelope: &Envelope) -> u64 {
        let body = envelope.encode_to_vec();
        let number = self
            .journal
            .append(envelope::KIND, &[&body])
            .await
            .expect("appended");
        let decoded = match envelope.parse_record() {
            Ok(Some(v1::record::Record::Batch(batch))) => {
                let header = batch.header.expect("a header");
                let blocks = batch::decode(&header, &batch.payload).expect("decodes");
                Some(Decoded {
                    header,
                    series_defined: batch.series_defined,
                    blocks,
                })
            }
            _ => None,
        };
        self.fold.offer(Arrival {
            number,
            envelope: envelope.clone(),
            decoded,
        });
        self.journal.committed(number).await.expect("committed");
        number
    }

    pub(crate) async fn folded(&self, number: u64) {
        until("the fold gets there", || self.fold.position() >= number).await;
    }

    /// Flushes what is folded and waits until it is committed.
    pub(crate) async fn flush(&self) {
        let before = self.fold.flushes().flushes;
        self.fold.flush();
        until("the flush is committed", || {
            self.fold.flushes().flushes > before && self.fold.buffered().0 == 0
        })
        .await;
    }

    /// Every durable reading a query would see, sorted.
    pub(crate) async fn readings(&self) -> Vec<Reading> {
        let view = self.fold.view(DEFAULT_TENANT);
        let mut found = Vec::new();
        for file in &view.files {
            let bytes = self
                .store
                .get(&file.path)
                .await
                .expect("a live file is there");
            let rows = read_file(bytes);
            assert_eq!(
                rows.iter().map(RecordBatch::num_rows).sum::<usize>() as u64,
                file.rows
            );
            rows.iter().for_each(|batch| readings_of(batch, &mut found));
        }
        view.fresh
            .iter()
            .for_each(|batch| readings_of(batch, &mut found));
        found.sort();
        found
    }

    /// Ends everything at once; rows that are not in files are only in the journal.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
        self.catalog.close().await;
        self.journal.close();
        self.committer.join().expect("the committer ends");
    }

    /// Ends as told to.
    pub(crate) async fn stop(self) -> Result<(), FoldError> {
        self.token.cancel();
        let result = self.task.await.expect("the fold does not panic");
        self.catalog.close().await;
        self.journal.close();
        self.committer.join().expect("the committer ends");
        result
    }

    /// Waits for the fold to end by itself.
    pub(crate) async fn ended(&mut self) -> Result<(), FoldError> {
        let deadline = Duration::from_secs(20);
        let ended = tokio::time::timeout(deadline, &mut self.task)
            .await
            .expect("the fold ends");
        self.task = tokio::spawn(async { Ok(()) });
        ended.expect("the fold does not panic")
    }
}

pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(tokio::time::Instant::now() < deadline, "in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) fn read_file(bytes: Bytes) -> Vec<RecordBatch> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).expect("a parquet file");
    let reader = builder.build().expect("a reader");
    reader.map(|batch| batch.expect("a batch")).collect()
}

fn texts(batch: &RecordBatch, name: &str) -> Vec<String> {
    let column = batch.column_by_name(name).expect("a column");
    let plain = arrow::compute::cast(column, &DataType::Utf8).expect("text");
    let plain = plain.as_string::<i32>();
    (0..plain.len())
        .map(|i| plain.value(i).to_owned())
        .collect()
}

/// Rows of `samples` or `latest` as readings.
pub(crate) fn readings_of(batch: &RecordBatch, found: &mut Vec<Reading>) {
    let [device, metric, attributes, agent] =
        ["device", "metric", "attributes", "agent"].map(|name| texts(batch, name));
    let time = batch.column_by_name("time").expect("time");
    let time = time.as_primitive::<TimestampNanosecondType>();
    let value = batch
        .column_by_name("value")
        .expect("value")
        .as_primitive::<Float64Type>();
    let text = batch
        .column_by_name("text")
        .expect("text")
        .as_string::<i32>();
    for i in 0..batch.num_rows() {
        let shown = if value.is_null(i) {
            text.value(i).to_owned()
        } else {
            assert!(text.is_null(i), "a row has a number or a text");
            format!("{:016x}", value.value(i).to_bits())
        };
        found.push((
            device[i].clone(),
            metric[i].clone(),
            attributes[i].clone(),
            agent[i].clone(),
            time.value(i),
            shown,
        ));
    }
}

/// One stream of one agent. Remembers every reading it made into a batch.
pub(crate) struct Sender {
    pub(crate) agent: String,
    pub(crate) stream: [u8; 16],
    pub(crate) sequence: u64,
    pub(crate) readings: u64,
    pub(crate) sent: Vec<Reading>,
    defined: BTreeMap<(String, String), u32>,
    pub(crate) received_ns: i64,
}

impl Sender {
    pub(crate) fn new(number: u8) -> Self {
        Self {
            agent: format!("agent-{number}"),
            stream: [number; 16],
            sequence: 0,
            readings: 0,
            sent: Vec::new(),
            defined: BTreeMap::new(),
            received_ns: NOON,
        }
    }

    pub(crate) fn envelope(&self, record: v1::record::Record) -> Envelope {
        Envelope {
            received_ns: self.received_ns,
            tenant: DEFAULT_TENANT.into(),
            agent: self.agent.clone(),
            stream_id: Bytes::copy_from_slice(&self.stream),
            clock_offset_ns: 0,
            report: None,
            record: v1::Record {
                record: Some(record),
            }
            .encode_to_vec()
            .into(),
        }
    }

    /// A batch of numbers of one device: every metric has a value at every time.
    pub(crate) fn numbers(&mut self, device: &str, metrics: &[&str], times: &[i64]) -> Envelope {
        let sequence = self.sequence;
        let columns: Vec<(&str, Values)> = (0u32..)
            .zip(metrics)
            .map(|(m, metric)| {
                let value = |i: u32| f64::from(m) * 1000.0 + sequence as f64 + f64::from(i) / 10.0;
                (
                    *metric,
                    Values::Numbers((0u32..).take(times.len()).map(value).collect()),
                )
            })
            .collect();
        self.batch(device, columns, times)
    }

    pub(crate) fn batch(
        &mut self,
        device: &str,
        columns: Vec<(&str, Values)>,
        times: &[i64],
    ) -> Envelope {
        self.sequence += 1;
        let mut series_defined = Vec::new();
        let mut block = Block {
            times: times.to_vec(),
            columns: Vec::new(),
        };
        for (metric, values) in columns {
            let reference = self.reference(device, metric, &values, &mut series_defined);
            for (i, time) in times.iter().enumerate() {
                let shown = match &values {
                    Values::Numbers(numbers) => format!("{:016x}", numbers[i].to_bits()),
                    Values::Texts(texts) => texts[i].clone(),
                };
                self.sent.push((
                    device.into(),
                    metric.into(),
                    r#"{"a":"1","b":"2"}"#.into(),
                    self.agent.clone(),
                    *time,
                    shown,
                ));
            }
            block.columns.push(Column {
                series: reference,
                values,
                present: None,
            });
        }
        let encoded = batch::encode(&[block]);
        let header = v1::BatchHeader {
            sequence: self.sequence,
            readings_before: self.readings,
            ..encoded.header()
        };
        self.readings += encoded.readings;
        self.envelope(v1::record::Record::Batch(v1::Batch {
            header: Some(header),
            series_defined,
            payload: encoded.payload,
        }))
    }

    fn reference(
        &mut self,
        device: &str,
        metric: &str,
        values: &Values,
        defined: &mut Vec<v1::Series>,
    ) -> u32 {
        let next = u32::try_from(self.defined.len()).expect("few") + 1;
        *self
            .defined
            .entry((device.into(), metric.into()))
            .or_insert_with(|| {
                let kind = match values {
                    Values::Numbers(_) => v1::Kind::Gauge,
                    Values::Texts(_) => v1::Kind::Text,
                };
                defined.push(v1::Series {
                    r#ref: next,
                    device: device.into(),
                    metric: metric.into(),
                    unit: "1".into(),
                    kind: kind.into(),
                    source: "test".into(),
                    attributes: BTreeMap::from([
                        ("b".into(), "2".into()),
                        ("a".into(), "1".into()),
                    ]),
                });
                next
            })
    }

    pub(crate) fn skip(&mut self, records: u64, readings: u64, reason: v1::DropReason) -> Envelope {
        let skip = v1::Skip {
            from: self.sequence + 1,
            through: self.sequence + records,
            reason: reason.into(),
            readings_before: self.readings,
            readings,
        };
        self.sequence += records;
        self.readings += readings;
        self.envelope(v1::record::Record::Skip(skip))
    }

    pub(crate) fn sorted(&self) -> Vec<Reading> {
        let mut sent = self.sent.clone();
        sent.sort();
        sent
    }
}

/// Every second from `from` seconds after noon on.
pub(crate) fn seconds(from: i64, count: i64) -> Vec<i64> {
    (from..from + count)
        .map(|second| NOON + second * SECOND)
        .collect()
}
