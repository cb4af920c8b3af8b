//! A whole sink behind the journal, in a temporary directory.

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
use weir_proto::batch;
use weir_proto::v1;

use crate::catalog::{Catalog, Sqlite};
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
    /// What stands behind the catalog.
    pub(crate) database: Sqlite,
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

    pub(crate) fn now(&self) -> i64 {
        self.clock.wall_ns()
    }

    pub(crate) async fn database(&self) -> Sqlite {
        Sqlite::open(&self.dir.path().join("catalog.sqlite"))
            .await
            .expect("a catalog")
    }

    pub(crate) async fn catalog(&self) -> Catalog {
        Catalog::new(self.database().await)
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
        let (database, store) = (self.database().await, self.store());
        let catalog = Catalog::new(database.clone());
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
            database,
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
                let readings = batch::decode_readings(&header, &batch.payload).expect("decodes");
                Some(Decoded {
                    header,
                    series_defined: batch.series_defined,
                    readings,
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
        for file in view.files.iter() {
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
