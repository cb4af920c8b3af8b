//! `weir-sink run`: the sink of this machine, with its ports, its signals and the end of its process.
//!
//! A plain list of what is opened, in the order in which each needs the one before; what runs and in
//! which order it stops is `assembly`. One deadline bounds a stop; what is late is named, and nothing
//! is lost by it: the journal has it.

mod endpoints;
mod local;
mod reload;
mod reserve;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use weir_journal::{Committer, Disk, Journal};
use weir_process::clock::SystemClock;
use weir_process::exit::Exit;
use weir_process::health::Stage;
use weir_process::memory;
use weir_process::metrics::version_with_commit;
use weir_process::place::Place;
use weir_process::progress::LOOK_EVERY;
use weir_process::shutdown::Shutdown;
use weir_process::tls::{self, Listener, Protocol};

use crate::access::{Access, Asking, Authority, Enrolment};
use crate::assembly::{Parts, Running, Sink, StartError, Writer, open_journal, resume_journal};
use crate::catalog::Catalog;
use crate::config::{Again, Config};
use crate::fold::{self, FoldError};
use crate::http::{Front, sql::Sql};
use crate::metrics::QueryMetrics;
use crate::store::Store;
use crate::{grpc, http};

pub use endpoints::Endpoints;
pub use local::LocalToken;
use reload::Reload;
use reserve::Reserve;

/// Runs the sink until it is told to stop or cannot go on. `again`: how its settings are read when it is asked to.
pub async fn run(config: Config, again: Again) -> anyhow::Result<Exit> {
    let version = version_with_commit(env!("CARGO_PKG_VERSION"));
    tracing::info!(version, data_dir = %config.data_dir.display(), "starting");
    let hangups = reload::hangups();
    let tls = config.tls.clone().map(tls::Server::open);
    let tls = tls.transpose().context("cannot serve TLS")?;
    let reserve = Reserve::beside(&config.catalog_file);
    let sink = reserve.start(|| open(&config)).await?;
    let grpc = grpc::listen(config.grpc_listen).await?;
    let http = TcpListener::bind(config.http_listen)
        .await
        .with_context(|| format!("cannot listen on {} for HTTP", config.http_listen))?;
    let endpoints = Endpoints {
        grpc: grpc.local_addr().context("the gRPC port has no address")?,
        http: http.local_addr().context("the HTTP port has no address")?,
        tls: served_file(tls.as_ref()),
    };
    let shutdown = Shutdown::new();
    let ports = match tls {
        Some(tls) => encrypted(tls, (grpc, http), &sink, &shutdown),
        None => {
            warn_of_plaintext(&[endpoints.grpc, endpoints.http]);
            (grpc.into(), http.into())
        }
    };
    shutdown.spawn("reserve", reserve.keep(shutdown.token()));
    let stage = sink.health().stage("data", None);
    let watching = watch(Places::of(&config)?, stage, shutdown.clone());
    let watching = shutdown.spawn("data", watching);
    let stage = sink.health().stage("settings", None);
    let reload = Reload::new(again, sink.books().ingest.clone(), stage);
    shutdown.spawn("settings", reload.watch(hangups, shutdown.token()));
    let running = start(&config, shutdown, sink, ports)?;
    if let Err(error) = endpoints.write(&config.data_dir) {
        tracing::warn!(%error, "cannot write endpoints.json: the commands on this machine need --url");
    }
    let encrypted = endpoints.tls.is_some();
    tracing::info!(grpc = %endpoints.grpc, http = %endpoints.http, tls = encrypted, "listening");
    let exit = running.until_stopped(config.shutdown_grace).await;
    Endpoints::remove(&config.data_dir);
    LocalToken::remove(&config.data_dir);
    let gone = watching.await.unwrap_or(false);
    Ok(if gone { Exit::Io } else { exit })
}

/// A journal that cannot be opened means another sink: nothing else was touched before.
async fn open(config: &Config) -> anyhow::Result<Sink> {
    let opened = open_journal(config, Arc::new(Disk), None)?;
    let catalog = open_catalog(config).await?;
    let (journal, committer) = not_behind(config, opened, &catalog).await?;
    let parts = Parts {
        journal,
        committer,
        writer: Writer::Thread,
        catalog,
        store: Store::open(&config.store_dir)?,
        clock: Arc::new(SystemClock),
    };
    let clock = Arc::clone(&parts.clock);
    let sink = Sink::open(config, parts).await.map_err(name_recover)?;
    let asking = Asking {
        required: credentials_required(config),
        local: Some(LocalToken::renew(&config.data_dir)?),
        enrolment: enrolment(config)?,
    };
    let access = Access::load(&sink.books().catalog, clock, asking).await?;
    access.register(sink.registry());
    Ok(sink.asking(access))
}

/// Whether whoever shows no credential is turned away.
fn credentials_required(config: &Config) -> bool {
    config.tls.is_some()
}

/// How agents get certificates, where the sink has the key of their CA.
fn enrolment(config: &Config) -> anyhow::Result<Option<Enrolment>> {
    let ca = config.tls.as_ref().and_then(|files| files.ca.as_ref());
    let (Some(ca), Some(key)) = (ca, &config.tls_ca_key) else {
        return Ok(None);
    };
    let authority = Authority::open(ca, key).context("agents cannot enrol")?;
    let (lifetime, grace) = config.enroll;
    Ok(Some(Enrolment {
        authority,
        lifetime,
        grace,
    }))
}

/// What must stay where it was found.
struct Places {
    /// Journal and catalog: without them an ack would promise what is lost.
    books: Place,
    /// The files: what comes while they are away stays in the journal.
    files: Place,
}

impl Places {
    fn of(config: &Config) -> anyhow::Result<Places> {
        let place = |paths: &[&PathBuf]| Place::of(paths.iter().map(PathBuf::from));
        let places = || {
            Ok::<_, std::io::Error>(Places {
                books: place(&[&config.journal_dir, &config.catalog_file])?,
                files: place(&[&config.store_dir])?,
            })
        };
        places().context("cannot look at the data directory")
    }
}

/// Ends the sink when its books are removed or replaced, and is not ready while its files are. Answers
/// whether it had to end.
async fn watch(places: Places, stage: Stage, shutdown: Shutdown) -> bool {
    let token = shutdown.token();
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            biased;
            () = token.cancelled() => return false,
            _ = ticks.tick() => {}
        }
        if let Err(reason) = places.books.check() {
            tracing::error!(reason, "what is accepted now would be lost: stopping");
            stage.dead(reason);
            shutdown.stop();
            return true;
        }
        match places.files.check() {
            Ok(()) => stage.ok(),
            Err(reason) => stage.failing(reason),
        }
    }
}

/// A journal that ends before the catalog's position goes on behind it: numbers are never given twice.
async fn not_behind(
    config: &Config,
    (journal, committer): (Journal, Committer),
    catalog: &Catalog,
) -> anyhow::Result<(Journal, Committer)> {
    let position = catalog.position().await?;
    let position = position.filter(|found| found.journal_id == journal.id());
    let (position, next) = (position.map_or(0, |found| found.number), journal.next());
    if next > position {
        return Ok((journal, committer));
    }
    tracing::error!(
        position,
        next,
        missing = position - next + 1,
        "the journal ends before the catalog's position: its end was damaged, or it is an older copy. What is missing \
         is stored; what was accepted after it is gone from here: agents send it again or count it as sink_rolled_back"
    );
    // It has one owner, and that is still this one.
    drop((journal, committer));
    Ok(resume_journal(config, Arc::new(Disk), position)?)
}

fn start(
    config: &Config,
    shutdown: Shutdown,
    sink: Sink,
    (grpc, http): (Listener, Listener),
) -> anyhow::Result<Running> {
    shutdown.on_signal().context("cannot handle signals")?;
    let books = sink.books();
    let ingest = books.ingest.clone();
    tokio::spawn(memory::give_back_at_rest(move || {
        ingest.metrics().readings.get()
    }));
    let access = sink.access().clone();
    shutdown.spawn("access", access.clone().follow(shutdown.token()));
    let front = Arc::new(Front {
        access,
        sql: Sql::new(&config.query, QueryMetrics::register(sink.registry()))
            .context("cannot start the query threads")?,
        health: sink.health().clone(),
        registry: sink.registry().clone(),
        books,
    });
    shutdown.spawn("http", http::serve(http, front, shutdown.token()));
    Ok(sink.start(shutdown, grpc::incoming(grpc))?)
}

/// Both ports within TLS, with a certificate that is read again when it changes.
fn encrypted(
    server: tls::Server,
    (grpc, http): (TcpListener, TcpListener),
    sink: &Sink,
    shutdown: &Shutdown,
) -> (Listener, Listener) {
    server.register(sink.registry());
    let facts = server.facts();
    tracing::info!(
        names = facts.names.join(", "),
        issuer = facts.issuer,
        not_after = %humantime::format_rfc3339_seconds(facts.not_after),
        client_certificates = server.files().ca.is_some(),
        "both ports speak TLS"
    );
    let stage = sink.health().stage("tls", None);
    shutdown.spawn("tls", server.clone().watch(stage, shutdown.token()));
    (
        server.listen(grpc, Protocol::Http2),
        server.listen(http, Protocol::Http1),
    )
}

/// The file whose certificate is served, from wherever it is looked for.
fn served_file(server: Option<&tls::Server>) -> Option<PathBuf> {
    let cert = &server?.files().cert;
    Some(std::path::absolute(cert).unwrap_or_else(|_| cert.clone()))
}

/// The catalog of these settings, made if it is not there.
pub(crate) async fn open_catalog(config: &Config) -> anyhow::Result<Catalog> {
    if let Some(directory) = config.catalog_file.parent() {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
    }
    Catalog::open(&config.catalog_file)
        .await
        .with_context(|| format!("cannot open the catalog {}", config.catalog_file.display()))
}

/// The command that helps where nothing can be restored.
fn name_recover(error: StartError) -> anyhow::Error {
    let missing = matches!(error, StartError::Fold(FoldError::Missing { .. }));
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
    let (journal, _committer) = open_journal(config, Arc::new(Disk), None)?;
    let catalog = open_catalog(config).await?;
    let lost = fold::recover(&journal, &catalog).await?;
    catalog.close().await;
    Ok(lost)
}

fn warn_of_plaintext(addresses: &[SocketAddr]) {
    for address in addresses
        .iter()
        .filter(|address| !address.ip().is_loopback())
    {
        tracing::warn!(%address, "listening beyond loopback without TLS, as WEIR_SINK_ALLOW_PLAINTEXT allows");
    }
}
