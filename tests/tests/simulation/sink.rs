//! The sink of the simulated world: its machine, the catalog and the store beside it, and the program.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::array::{Array, AsArray, DictionaryArray, StringArray};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampNanosecondType};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use turmoil::net::{TcpListener, TcpStream};
use weir_journal::Memory;
use weir_process::exit::Exit;
use weir_process::random;
use weir_process::shutdown::Shutdown;
use weir_sink::assembly::{self, Parts, Sink, Writer};
use weir_sink::catalog::{self, Catalog};
use weir_sink::config::Config;
use weir_sink::http::Books;
use weir_sink::store::{self, Store};

use crate::clock::{MachineClock, Passing};
use crate::committed::StreamId;
use crate::network::PORT;
use crate::plan::SinkLayout;
use crate::record::place;

/// One stream's line of the ledger.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) stream: StreamId,
    pub(crate) produced: u64,
    pub(crate) stored: u64,
    pub(crate) spooled: u64,
    pub(crate) dropped: BTreeMap<String, u64>,
    pub(crate) unexplained: i64,
    pub(crate) pending: u64,
}

/// A stored reading.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) agent: usize,
    pub(crate) sensor: usize,
    pub(crate) metric: usize,
    pub(crate) value: f64,
    /// When it was, by what the sink made of the agent's clock.
    pub(crate) time_ns: i64,
    /// How far the sink moved that.
    pub(crate) shift_ns: i64,
    /// What the sink holds of the clock.
    pub(crate) quality: String,
}

/// The machine. Disk, catalog and store outlive the program.
pub(crate) struct SinkMachine {
    pub(crate) disk: Memory,
    pub(crate) clock: Arc<MachineClock>,
    catalog: catalog::Memory,
    store: store::Memory,
    layout: SinkLayout,
    asked: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: Option<(Books, Shutdown)>,
    /// The program is between its start and its end.
    alive: bool,
    exits: Vec<Exit>,
    refusals: Vec<String>,
}

impl SinkMachine {
    pub(crate) fn new(layout: &SinkLayout, passing: &Passing) -> Arc<SinkMachine> {
        Arc::new(SinkMachine {
            disk: Memory::new(),
            clock: MachineClock::new(passing, 0),
            catalog: catalog::Memory::new(),
            store: store::Memory::new(),
            layout: layout.clone(),
            asked: AtomicBool::new(false),
            state: Mutex::default(),
        })
    }

    /// What the machine runs when it is switched on: one life of the sink, as [`crate::agent::Machine::run`] is one of an
    /// agent.
    pub(crate) async fn run(self: Arc<Self>) -> turmoil::Result {
        self.lock().alive = true;
        let lived = self.live().await;
        {
            let mut state = self.lock();
            state.running = None;
            state.alive = false;
            match lived {
                Ok(exit) => state.exits.push(exit),
                Err(error) => state.refusals.push(error.to_string()),
            }
        }
        std::future::pending().await
    }

    async fn live(&self) -> Result<Exit, Box<dyn Error>> {
        let config = self.config();
        let disk = Arc::new(self.disk.clone());
        let (journal, committer) = assembly::open_journal(&config, disk, Some(random::number()))?;
        let parts = Parts {
            journal,
            committer,
            writer: Writer::Task {
                latency: self.layout.disk_latency,
            },
            catalog: Catalog::new(self.catalog.clone()),
            store: Store::new(self.store.clone()),
            clock: Arc::clone(&self.clock) as _,
        };
        let sink = Sink::open(&config, parts).await?;
        let shutdown = Shutdown::new();
        self.lock().running = Some((sink.books(), shutdown.clone()));
        let incoming = incoming(TcpListener::bind(("0.0.0.0", PORT)).await?);
        let running = sink.start(shutdown, incoming)?;
        Ok(running.until_stopped(config.shutdown_grace).await)
    }

    fn config(&self) -> Config {
        let layout = &self.layout;
        let mut config = Config::from_keys(&[("data_dir", "/sink"), ("shutdown.grace", "15s")])
            .expect("a valid configuration");
        config.store.flush_rows = layout.flush_rows;
        config.store.flush_interval = layout.flush_interval;
        config.store.compaction_interval = Duration::from_secs(4);
        config.store.compaction_min_files = 3;
        config.journal.segment_bytes = layout.segment_bytes;
        config.ingest.window_bytes = layout.window_bytes;
        config
    }

    /// An orderly stop.
    pub(crate) fn stop(&self) {
        self.asked.store(true, Ordering::SeqCst);
        if let Some((_, shutdown)) = &self.lock().running {
            shutdown.stop();
        }
    }

    /// Whether it was asked to stop, and so is to stay down.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// It may run again.
    pub(crate) fn allow(&self) {
        self.asked.store(false, Ordering::SeqCst);
    }

    /// Whether the program is between its start and its end.
    pub(crate) fn lives(&self) -> bool {
        self.lock().alive
    }

    /// What catalog and store had not made durable is gone.
    pub(crate) fn lose_power(&self) {
        self.store.crash();
    }

    /// Nothing of the program is left.
    pub(crate) fn forget(&self) {
        let mut state = self.lock();
        state.running = None;
        state.alive = false;
    }

    /// Whether files can be written.
    pub(crate) fn fail_store(&self, away: bool) {
        self.store.set_faults(store::Faults {
            away,
            ..store::Faults::default()
        });
    }

    /// Whether the catalog answers.
    pub(crate) fn fail_catalog(&self, away: bool) {
        self.catalog.set_faults(catalog::Faults {
            away,
            ..catalog::Faults::default()
        });
    }

    /// What the ledger says, while the program runs.
    pub(crate) fn ledger(&self) -> Result<Vec<Line>, String> {
        let state = self.lock();
        let (books, _) = state.running.as_ref().ok_or("the sink does not run")?;
        let lines = books.lines().into_iter().map(|line| {
            let stream = u128::from_str_radix(&line.stream_id, 16);
            Line {
                stream: stream.unwrap_or_default().to_be_bytes(),
                produced: line.produced,
                stored: line.stored,
                spooled: line.spooled,
                dropped: line.dropped,
                unexplained: line.unexplained,
                pending: line.pending_fold,
            }
        });
        Ok(lines.collect())
    }

    /// Whether everything that is durable is folded, and in files.
    pub(crate) fn has_taken_all_in(&self) -> bool {
        let folded = self
            .ledger()
            .is_ok_and(|lines| lines.iter().all(|line| line.pending == 0));
        let state = self.lock();
        let buffered = state
            .running
            .as_ref()
            .map(|(books, _)| books.fold.buffered().0);
        folded && buffered == Some(0)
    }

    /// How it ended, each time, and why it did not start.
    pub(crate) fn ends(&self) -> (Vec<Exit>, Vec<String>) {
        let state = self.lock();
        (state.exits.clone(), state.refusals.clone())
    }

    /// Every row of every file the catalog names.
    pub(crate) fn rows(&self) -> Result<Vec<Row>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| error.to_string())?;
        runtime
            .block_on(self.read())
            .map_err(|error| error.to_string())
    }

    async fn read(&self) -> Result<Vec<Row>, Box<dyn Error>> {
        let (catalog, store) = (
            Catalog::new(self.catalog.clone()),
            Store::new(self.store.clone()),
        );
        let mut rows = Vec::new();
        for file in catalog.load().await?.files {
            let before = rows.len();
            let bytes = store.get(&file.path).await?;
            for batch in ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()? {
                take_rows(&batch?, &mut rows)?;
            }
            let found = (rows.len() - before) as u64;
            if found != file.rows {
                let expected = file.rows;
                return Err(format!("{} holds {found} rows of {expected}", file.path).into());
            }
        }
        Ok(rows)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under it")
    }
}

fn take_rows(batch: &arrow::array::RecordBatch, rows: &mut Vec<Row>) -> Result<(), Box<dyn Error>> {
    let column = |name: &str| {
        batch
            .column_by_name(name)
            .ok_or(format!("no column {name}"))
    };
    let (agents, sensors, metrics) = (column("device")?, column("source")?, column("metric")?);
    let values = column("value")?.as_primitive::<Float64Type>();
    let times = column("time")?.as_primitive::<TimestampNanosecondType>();
    let shifts = column("time_shift_ns")?.as_primitive::<Int64Type>();
    let qualities = column("time_quality")?;
    let word = |words: &Arc<dyn Array>, row: usize| {
        let words: &DictionaryArray<Int32Type> = words.as_dictionary();
        let known: &StringArray = words.values().as_string();
        words.key(row).map(|key| known.value(key).to_owned())
    };
    let numbered = |words: &Arc<dyn Array>, row: usize| place(&word(words, row)?);
    for row in 0..batch.num_rows() {
        let found = (
            numbered(agents, row),
            numbered(sensors, row),
            numbered(metrics, row),
        );
        let (Some(agent), Some(sensor), Some(metric)) = found else {
            return Err(format!("row {row} is of nobody").into());
        };
        rows.push(Row {
            agent,
            sensor,
            metric,
            value: values.value(row),
            time_ns: times.value(row),
            shift_ns: if shifts.is_null(row) {
                0
            } else {
                shifts.value(row)
            },
            quality: word(qualities, row).unwrap_or_default(),
        });
    }
    Ok(())
}

/// The connections that come in, until nobody wants them any more.
fn incoming(listener: TcpListener) -> ReceiverStream<io::Result<Accepted>> {
    let (sender, accepted) = mpsc::channel(8);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                biased;
                () = sender.closed() => return,
                accepted = listener.accept() => {
                    let accepted = accepted.map(|(stream, _)| Accepted(stream));
                    if sender.send(accepted).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    ReceiverStream::new(accepted)
}

/// A connection as tonic serves it.
struct Accepted(TcpStream);

impl Connected for Accepted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
