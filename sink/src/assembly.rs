//! The sink put together from given parts: everything but signals, HTTP and the end of the process.
//!
//! In: [`Parts`], that is an opened journal ([`open_journal`]), a catalog, a store and a clock. Out: a
//! [`Sink`] whose [`Books`] answer what `/v1/ledger` answers; [`Sink::start`] serves agents on any
//! stream of connections and runs journal, fold and maintenance. `run` is the one user in the
//! program; a simulation is the other:
//!
//! ```text
//! let _seeded = weir_process::random::seed(1);
//! let _inline = weir_process::work::in_place();
//! let config = Config::from_keys(&[("store.flush_interval", "2s")])?;
//! let (journal, committer) = open_journal(&config, disk, Some(random::number()))?;
//! let sink = Sink::open(&config, Parts {
//!     journal, committer,
//!     writer: Writer::Task { latency: Duration::from_millis(3) },
//!     catalog: Catalog::new(catalog.clone()), // a catalog::Memory that outlives the sink
//!     store: Store::new(store.clone()),       // a store::Memory that does
//!     clock,
//! }).await?;
//! let books = sink.books();
//! let exit = sink.start(shutdown, incoming)?.until_stopped(config.shutdown_grace).await;
//! ```
//!
//! With a seeded thread, work in place and the journal's writer as a task, nothing here uses another
//! thread or depends on anything but the parts. A crash is the end of its runtime, followed by the
//! parts' own `crash`.
//!
//! Stop: agents are told first and what they sent is made durable and acknowledged; then the fold
//! writes what it holds; then the journal is closed.

mod running;

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use weir_journal::{Committer, Journal, OpenError, Options, Storage};
use weir_process::clock::Clock;
use weir_process::health::Health;
use weir_process::metrics::Registry;
use weir_process::shutdown::Shutdown;

use crate::access::Access;
use crate::catalog::Catalog;
use crate::config::Config;
use crate::fold::{Fold, FoldConfig, FoldError, FoldHandle, FoldParts};
use crate::grpc;
use crate::http::Books;
use crate::ingest::{Ingest, RestoreError};
use crate::maintenance::{Maintenance, MaintenanceConfig};
use crate::metrics::{self, IngestMetrics};
use crate::pulse::Pulse;
use crate::store::Store;

pub use running::Running;

/// What runs the journal's writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// A thread: a sync of the disk holds up nobody else.
    Thread,
    /// A task, for a simulation. The disk takes `latency` between writing a group and syncing it; a
    /// crash in between finds it torn.
    Task {
        /// Zero writes and syncs at once.
        latency: Duration,
    },
}

/// What a sink is put together from.
pub struct Parts {
    /// Where accepted records go.
    pub journal: Journal,
    /// Its writer.
    pub committer: Committer,
    /// What runs that.
    pub writer: Writer,
    /// What is known beside the files.
    pub catalog: Catalog,
    /// Where the files go.
    pub store: Store,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// Why the sink could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The fold cannot take the journal over.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// What was accepted before cannot be read.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// No thread for the journal.
    #[error("cannot start the journal's thread: {0}")]
    Thread(#[from] io::Error),
}

/// Opens the journal on a disk, and says what was found. It has one owner: to be opened before
/// anything else of the sink is touched. `salt` is for simulations, see [`Options::salt`].
///
/// # Errors
/// It is another's, or the disk fails.
pub fn open_journal(
    config: &Config,
    storage: Arc<dyn Storage>,
    salt: Option<u64>,
) -> Result<(Journal, Committer), OpenError> {
    open_behind(config, storage, salt, 0)
}

/// Opens a journal anew whose last numbers were cut although the catalog has taken them in, as a flipped
/// bit in its last group brings about: the next record gets a number behind `position`. What was
/// acknowledged behind it and is not there any more is in the agents' spools, or they say that it is gone.
///
/// # Errors
/// As [`open_journal`].
pub fn resume_journal(
    config: &Config,
    storage: Arc<dyn Storage>,
    position: u64,
) -> Result<(Journal, Committer), OpenError> {
    open_behind(config, storage, None, position)
}

fn open_behind(
    config: &Config,
    storage: Arc<dyn Storage>,
    salt: Option<u64>,
    resume_behind: u64,
) -> Result<(Journal, Committer), OpenError> {
    let options = Options {
        segment_bytes: config.journal.segment_bytes,
        max_bytes: config.journal.max_bytes,
        queue_bytes: size(config.journal.queue_bytes),
        salt,
        resume_behind,
        // A simulation has one thread, and nobody else waits yet.
        scan_threads: match salt {
            Some(_) => 1,
            None => std::thread::available_parallelism().map_or(1, usize::from),
        },
        ..Options::default()
    };
    let opened = Journal::open(storage, &config.journal_dir, options)?;
    let recovery = opened.0.recovery();
    for hole in &recovery.holes {
        tracing::error!(
            from = hole.from,
            through = hole.through,
            "journal is damaged: these records cannot be read, the ledger will show what they held"
        );
    }
    tracing::info!(
        oldest = recovery.oldest,
        next = recovery.next,
        cut_bytes = recovery.cut_bytes,
        "journal opened"
    );
    Ok(opened)
}

/// A sink that is put together and does not run yet.
pub struct Sink {
    parts: Parts,
    fold: Fold,
    ingest: Ingest,
    access: Access,
    health: Health,
    registry: Registry,
    maintenance: MaintenanceConfig,
    flush_interval: Duration,
}

impl Sink {
    /// Takes the journal over at the catalog's position and reads what is behind it.
    ///
    /// # Errors
    /// Catalog and journal do not belong together, or cannot be read.
    pub async fn open(config: &Config, parts: Parts) -> Result<Sink, StartError> {
        let health = Health::new(Arc::clone(&parts.clock));
        let registry = Registry::new("weir_sink");
        registry.build_info(env!("CARGO_PKG_VERSION"));
        registry.process_metrics(parts.clock.wall_ns());
        let fold = Fold::open(FoldParts {
            journal: parts.journal.clone(),
            catalog: parts.catalog.clone(),
            store: parts.store.clone(),
            clock: Arc::clone(&parts.clock),
            stage: health.stage("fold", None),
            config: fold_config(config),
        })
        .await?;
        let handle = fold.handle();
        let position = handle.position();
        let ingest = Ingest::new(
            parts.journal.clone(),
            Arc::new(move |parcel| handle.offer(parcel)),
            Arc::clone(&parts.clock),
            config.ingest.clone(),
            IngestMetrics::register(&registry),
        );
        fold.handle().each_series(|key| ingest.know(key));
        ingest.restore(&parts.catalog, position).await?;
        let lost = parts.catalog.lost_files().await;
        parts
            .store
            .damaged()
            .restore(lost.map_err(RestoreError::from)?);
        Ok(Sink {
            parts,
            fold,
            ingest,
            access: Access::open_to_all(),
            health,
            registry,
            maintenance: maintenance_config(config),
            flush_interval: config.store.flush_interval,
        })
    }

    /// Asks agents who they are; without it nobody is.
    #[must_use]
    pub fn asking(mut self, access: Access) -> Sink {
        self.access = access;
        self
    }

    /// Who may speak.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// What the ledger is put together from; answers before, while and after the sink runs.
    pub fn books(&self) -> Books {
        Books {
            ingest: self.ingest.clone(),
            fold: self.fold.handle(),
            catalog: self.parts.catalog.clone(),
            store: self.parts.store.clone(),
            clock: Arc::clone(&self.parts.clock),
        }
    }

    /// Asks the fold: views of files and fresh rows, positions, counts.
    pub fn fold(&self) -> FoldHandle {
        self.fold.handle()
    }

    /// What `/readyz` says.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// What `/metrics` says.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Starts everything, within a runtime, as tasks of `shutdown`. Agents come in by `incoming`,
    /// see [`grpc::serve`].
    ///
    /// # Errors
    /// There is no thread for the journal.
    pub fn start<I, C, E>(self, shutdown: Shutdown, incoming: I) -> Result<Running, StartError>
    where
        I: Stream<Item = Result<C, E>> + Send + 'static,
        C: AsyncRead + AsyncWrite + Connected + Send + Unpin + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
    {
        let Sink {
            parts,
            fold,
            ingest,
            access,
            health,
            registry,
            maintenance,
            flush_interval,
        } = self;
        let committer = parts.committer;
        match parts.writer {
            Writer::Thread => drop(shutdown.thread("journal", move || committer.run())?),
            Writer::Task { latency } => {
                drop(shutdown.spawn("journal", committer.drive_slowly(latency)));
            }
        }
        registry.collect(metrics::Parts {
            ingest: ingest.clone(),
            journal: parts.journal.clone(),
            fold: fold.handle(),
            store: parts.store,
        });
        let running = Running::new(shutdown);
        running.watch_gate(&health, &ingest);
        let pulse = Pulse::new(&health, flush_interval);
        let looking = pulse.watch(
            parts.journal.clone(),
            fold.handle(),
            running.shutdown.token(),
        );
        running.shutdown.spawn("pulse", looking);
        let watching = ingest.clone().watch_spools(running.shutdown.token());
        running.shutdown.spawn("spools", watching);
        let stage = health.stage("files", None);
        stage.ok();
        let maintenance = Maintenance::new(&fold, stage, maintenance);
        let token = running.shutdown.token();
        let maintaining = running
            .shutdown
            .spawn("maintenance", maintenance.run(token.clone()));
        let serving = running.serve(grpc::serve(incoming, ingest, access, token));
        let fold_token = CancellationToken::new();
        let folding = running.fold(fold, fold_token.clone());
        let (journal, catalog) = (parts.journal, parts.catalog);
        running.shutdown.spawn("close", async move {
            // Agents, then the fold, then the journal: each stops when the one before has. A panic
            // was reported by whoever runs the tasks; the order is kept all the same.
            let _ = serving.await;
            fold_token.cancel();
            let _ = folding.await;
            let _ = maintaining.await;
            catalog.close().await;
            journal.close();
        });
        Ok(running)
    }
}

fn fold_config(config: &Config) -> FoldConfig {
    FoldConfig {
        flush_rows: size(config.store.flush_rows),
        flush_interval: config.store.flush_interval,
        max_buffer_bytes: size(config.store.buffer_bytes),
        max_intake_bytes: size(config.store.intake_bytes),
        ..FoldConfig::default()
    }
}

fn maintenance_config(config: &Config) -> MaintenanceConfig {
    let days = config.store.retention_days;
    MaintenanceConfig {
        interval: config.store.compaction_interval,
        min_files: size(config.store.compaction_min_files),
        max_merge_rows: config.store.compaction_max_rows,
        retention_days: (days > 0).then(|| u32::try_from(days).unwrap_or(u32::MAX)),
        // A file must outlive every statement that may still read it.
        grace: config.query.timeout + MaintenanceConfig::default().grace,
    }
}

fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
