//! `weir-sink run`: a plain list of what is started, in the order in which each needs the one
//! before, and of what stops, in the order in which data flows.
//!
//! Stop: agents are told first and what they sent is made durable and acknowledged; then the fold
//! writes what it holds; then the journal is closed. One deadline bounds it all; what is late is
//! named, and nothing is lost by it: the journal has it.

mod endpoints;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weir_journal::{Committer, Disk, Journal, OpenError, Options};
use weir_process::clock::{Clock, SystemClock};
use weir_process::exit::Exit;
use weir_process::health::Health;
use weir_process::metrics::{Registry, version_with_commit};
use weir_process::shutdown::Shutdown;

use crate::catalog::Catalog;
use crate::config::Config;
use crate::fold::{self, Fold, FoldConfig, FoldError, FoldParts};
use crate::http::{Books, Front, sql::Sql};
use crate::ingest::Ingest;
use crate::maintenance::{Maintenance, MaintenanceConfig};
use crate::metrics::{IngestMetrics, Parts};
use crate::store::Store;
use crate::{grpc, http};

pub use endpoints::Endpoints;

/// Everything that runs, and how to ask it to stop.
struct Running {
    shutdown: Shutdown,
    /// The first reason to end with something else than success.
    verdict: Verdict,
}

/// Why the sink ends, when it is not because it was told to.
#[derive(Clone, Default)]
struct Verdict(Arc<std::sync::OnceLock<Exit>>);

impl Verdict {
    fn is(&self, exit: Exit) {
        // The first one counts.
        let _ = self.0.set(exit);
    }
}

/// What was opened and not yet started.
struct Opened {
    journal: Journal,
    catalog: Catalog,
    store: Store,
    fold: Fold,
    ingest: Ingest,
    clock: Arc<dyn Clock>,
    health: Health,
    registry: Registry,
}

/// Runs the sink until it is told to stop or cannot go on.
pub async fn run(config: Config) -> anyhow::Result<Exit> {
    let version = version_with_commit(env!("CARGO_PKG_VERSION"));
    tracing::info!(version, data_dir = %config.data_dir.display(), "starting");
    let (journal, committer) = open_journal(&config)?;
    let opened = open(&config, journal).await?;
    let grpc = grpc::listen(config.grpc_listen).await?;
    let http = TcpListener::bind(config.http_listen)
        .await
        .with_context(|| format!("cannot listen on {} for HTTP", config.http_listen))?;
    let endpoints = Endpoints {
        grpc: grpc.local_addr().context("the gRPC port has no address")?,
        http: http.local_addr().context("the HTTP port has no address")?,
    };
    warn_of_plaintext(&[endpoints.grpc, endpoints.http]);
    let running = start(&config, opened, committer, (grpc, http))?;
    endpoints
        .write(&config.data_dir)
        .context("cannot write endpoints.json")?;
    tracing::info!(grpc = %endpoints.grpc, http = %endpoints.http, "listening");
    let exit = running.until_stopped(&config).await;
    Endpoints::remove(&config.data_dir);
    Ok(exit)
}

/// A journal that cannot be opened means another sink: nothing else was touched before.
async fn open(config: &Config, journal: Journal) -> anyhow::Result<Opened> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let health = Health::new(Arc::clone(&clock));
    let registry = Registry::new("weir_sink");
    registry.build_info(env!("CARGO_PKG_VERSION"));
    registry.process_metrics(clock.wall_ns());
    let catalog = open_catalog(config).await?;
    let store = Store::open(&config.store_dir)?;
    let fold = Fold::open(FoldParts {
        journal: journal.clone(),
        catalog: catalog.clone(),
        store: store.clone(),
        clock: Arc::clone(&clock),
        stage: health.stage("fold", None),
        config: fold_config(config),
    })
    .await
    .map_err(name_recover)?;
    let handle = fold.handle();
    let position = handle.position();
    let ingest = Ingest::new(
        journal.clone(),
        Arc::new(move |arrival| handle.offer(arrival)),
        Arc::clone(&clock),
        config.ingest,
        IngestMetrics::register(&registry),
    );
    ingest.restore(&catalog, position).await?;
    Ok(Opened {
        journal,
        catalog,
        store,
        fold,
        ingest,
        clock,
        health,
        registry,
    })
}

async fn open_catalog(config: &Config) -> anyhow::Result<Catalog> {
    if let Some(directory) = config.catalog_file.parent() {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
    }
    Catalog::open(&config.catalog_file)
        .await
        .with_context(|| format!("cannot open the catalog {}", config.catalog_file.display()))
}

/// The command that helps where nothing can be restored.
fn name_recover(error: FoldError) -> anyhow::Error {
    let missing = matches!(error, FoldError::Missing { .. });
    let error = anyhow::Error::new(error);
    if missing {
        return error.context(
            "records are missing; `weir-sink recover` counts them as lost where they cannot be restored",
        );
    }
    error
}

/// `weir-sink recover`: counts the records between catalog and journal as lost, so that the sink
/// starts again. Answers the range, or nothing when none is missing.
pub async fn recover(config: &Config) -> anyhow::Result<Option<(u64, u64)>> {
    let directory = &config.journal_dir;
    anyhow::ensure!(
        directory.is_dir(),
        "there is no journal at {}: set WEIR_SINK_DATA_DIR to the directory of the sink that does not start",
        directory.display()
    );
    let (journal, _committer) = open_journal(config)?;
    let catalog = open_catalog(config).await?;
    let lost = fold::recover(&journal, &catalog).await?;
    catalog.close().await;
    Ok(lost)
}

fn open_journal(config: &Config) -> Result<(Journal, Committer), OpenError> {
    let options = Options {
        segment_bytes: config.journal.segment_bytes,
        max_bytes: config.journal.max_bytes,
        queue_bytes: size(config.journal.queue_bytes),
        ..Options::default()
    };
    let opened = Journal::open(Arc::new(Disk), &config.journal_dir, options)?;
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

fn start(
    config: &Config,
    opened: Opened,
    committer: Committer,
    (grpc, http): (TcpListener, TcpListener),
) -> anyhow::Result<Running> {
    let running = Running {
        shutdown: Shutdown::new(),
        verdict: Verdict::default(),
    };
    let shutdown = &running.shutdown;
    shutdown.on_signal().context("cannot handle signals")?;
    shutdown
        .thread("journal", move || committer.run())
        .context("cannot start the journal's thread")?;
    let handle = opened.fold.handle();
    opened.registry.collect(Parts {
        ingest: opened.ingest.clone(),
        journal: opened.journal.clone(),
        fold: handle.clone(),
    });
    let books = Books {
        ingest: opened.ingest.clone(),
        fold: handle,
        catalog: opened.catalog.clone(),
        store: opened.store.clone(),
        clock: Arc::clone(&opened.clock),
    };
    let front = Arc::new(Front {
        sql: Sql::new(books.clone(), &config.query).context("cannot start the query threads")?,
        health: opened.health.clone(),
        registry: opened.registry.clone(),
        books,
    });
    shutdown.spawn("http", http::serve(http, front, shutdown.token()));
    running.watch_gate(&opened);
    let maintaining = running.maintain(config, &opened);
    running.deliver_and_fold(grpc, opened, maintaining);
    Ok(running)
}

impl Running {
    /// `/readyz` follows the journal; a journal that accepts nothing more ends the process.
    fn watch_gate(&self, opened: &Opened) {
        let stage = opened.health.stage("journal", None);
        let gate = opened.ingest.gate().clone();
        let (shutdown, verdict) = (self.shutdown.clone(), self.verdict.clone());
        self.shutdown.spawn("gate", async move {
            if let Err(fault) = gate.watch(&stage, &shutdown.token()).await {
                tracing::error!(
                    reason = %fault,
                    "the journal failed and accepts nothing more: stopping, a restart recovers what is durable"
                );
                verdict.is(Exit::Io);
                shutdown.stop();
            }
        });
    }

    fn maintain(&self, config: &Config, opened: &Opened) -> JoinHandle<()> {
        let maintenance = Maintenance::new(
            &opened.fold,
            opened.catalog.clone(),
            opened.store.clone(),
            Arc::clone(&opened.clock),
            maintenance_config(config),
        );
        let token = self.shutdown.token();
        self.shutdown.spawn("maintenance", maintenance.run(token))
    }

    /// Agents, then the fold, then the journal: each stops when the one before has. The catalog is
    /// closed when nobody asks it any more.
    fn deliver_and_fold(&self, grpc: TcpListener, opened: Opened, maintaining: JoinHandle<()>) {
        let (shutdown, verdict) = (self.shutdown.clone(), self.verdict.clone());
        let fold_token = CancellationToken::new();
        let served = grpc::serve(grpc, opened.ingest, shutdown.token());
        let serving = shutdown.spawn("grpc", {
            let (shutdown, verdict) = (shutdown.clone(), verdict.clone());
            async move {
                if let Err(error) = served.await {
                    tracing::error!(%error, "stopping");
                    verdict.is(Exit::Software);
                    shutdown.stop();
                }
            }
        });
        let folding = shutdown.spawn("fold", {
            let (shutdown, token) = (shutdown.clone(), fold_token.clone());
            let fold = opened.fold;
            async move {
                if let Err(error) = fold.run(token).await {
                    tracing::error!(%error, "stopping");
                    verdict.is(Exit::Io);
                    shutdown.stop();
                }
            }
        });
        let (journal, catalog) = (opened.journal, opened.catalog);
        shutdown.spawn("close", async move {
            // A panic was reported by whoever runs the tasks; the order is kept all the same.
            let _ = serving.await;
            fold_token.cancel();
            let _ = folding.await;
            let _ = maintaining.await;
            catalog.close().await;
            journal.close();
        });
    }

    async fn until_stopped(self, config: &Config) -> Exit {
        self.shutdown.token().cancelled().await;
        let late = self.shutdown.finish(config.shutdown_grace).await;
        if late.is_empty() {
            tracing::info!("stopped");
        } else {
            tracing::warn!(
                late = late.join(", "),
                "stopped before these were done: what they held is in the journal"
            );
        }
        if !self.shutdown.panicked().is_empty() {
            self.verdict.is(Exit::Software);
        }
        self.verdict.0.get().copied().unwrap_or(Exit::Ok)
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

fn warn_of_plaintext(addresses: &[SocketAddr]) {
    for address in addresses
        .iter()
        .filter(|address| !address.ip().is_loopback())
    {
        tracing::warn!(%address, "listening beyond loopback without TLS, as WEIR_SINK_ALLOW_PLAINTEXT allows");
    }
}

fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
