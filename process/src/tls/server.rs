//! The certificate that a program serves, and those of clients it accepts: read again when the files change.
//!
//! In: paths. Out: what a handshake is made with. The files are looked at every few seconds, by what is in them, and on
//! SIGHUP; a new pair serves from the next handshake on and connections that are open go on as they are. One that
//! cannot be used (half written, of different halves, expired) is named in the log and counted, and the one before
//! goes on. A client may show a certificate or none: what it may do without is decided where it asks.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::files::{self, FileError, Identity};
use super::listener::{Handshakes, Listener};
use super::{Facts, Fingerprint, provider};
use crate::health::Stage;
use crate::metrics::Registry;
use crate::work;

/// 1.3 where the other side can, 1.2 where it cannot.
pub(super) static VERSIONS: &[&SupportedProtocolVersion] =
    &[&rustls::version::TLS13, &rustls::version::TLS12];

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// From how long before its end on a certificate is spoken of, once a day.
const SOON: Duration = Duration::from_secs(14 * 86_400);
const DAY: Duration = Duration::from_secs(86_400);

/// Where certificates lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// The server's chain, its own certificate first.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// CAs whose client certificates are accepted; without it none is asked for.
    pub ca: Option<PathBuf>,
}

/// What is spoken inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, as gRPC is.
    Http2,
}

/// The serving side. Cloning gives another handle to the same.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    files: ServerFiles,
    current: RwLock<Arc<Material>>,
    handshakes: Handshakes,
    not_after: Gauge,
    reloads: Counter,
    reload_failures: Counter,
}

/// What one state of the files comes to.
struct Material {
    content: Fingerprint,
    http1: Arc<ServerConfig>,
    http2: Arc<ServerConfig>,
    facts: Facts,
}

impl Server {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them cannot be used. A certificate whose time is over is none: its sink can be asked on its own machine.
    pub fn open(files: ServerFiles) -> Result<Self, FileError> {
        let identity = Identity::read(&files.cert, &files.key)?;
        if let Err(error) = identity.judge(&files.cert, SystemTime::now()) {
            tracing::error!(%error, "clients will refuse this certificate");
        }
        if identity.key_is_open {
            tracing::warn!(key = %files.key.display(), "every user of this machine can read the key: chmod 600");
        }
        let material = Material::of(&files, &identity)?;
        let not_after = Gauge::default();
        not_after.set(material.facts.not_after_seconds());
        Ok(Self {
            inner: Arc::new(Inner {
                files,
                current: RwLock::new(Arc::new(material)),
                handshakes: Handshakes::default(),
                not_after,
                reloads: Counter::default(),
                reload_failures: Counter::default(),
            }),
        })
    }

    /// Registers what it counts.
    pub fn register(&self, registry: &Registry) {
        let inner = &self.inner;
        registry.register(
            "tls_cert_not_after_timestamp_seconds",
            "when the certificate that is served ends, in seconds since 1970",
            inner.not_after.clone(),
        );
        registry.register(
            "tls_reloads",
            "times a changed certificate was taken into use",
            inner.reloads.clone(),
        );
        registry.register(
            "tls_reload_failures",
            "times a changed certificate could not be used and the one before went on",
            inner.reload_failures.clone(),
        );
        inner.handshakes.register(registry);
    }

    /// The connections that come in at a port.
    pub fn listen(&self, tcp: TcpListener, protocol: Protocol) -> Listener {
        Listener::tls(tcp, self.clone(), protocol)
    }

    /// What the certificate that is served says.
    pub fn facts(&self) -> Facts {
        self.current().facts.clone()
    }

    /// Where its certificates lie.
    pub fn files(&self) -> &ServerFiles {
        &self.inner.files
    }

    /// Looks at the files until `token`, and says on `stage` and in the log what somebody should see to.
    pub async fn watch(self, stage: Stage, token: CancellationToken) {
        let mut hangups = signal(SignalKind::hangup()).ok();
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut watch = Watch::new(self, stage);
        loop {
            let asked = tokio::select! {
                biased;
                () = token.cancelled() => return,
                () = hangup(&mut hangups) => true,
                _ = ticks.tick() => false,
            };
            watch.look(asked).await;
            watch.remind();
        }
    }

    pub(super) fn config(&self, protocol: Protocol) -> Arc<ServerConfig> {
        let current = self.current();
        match protocol {
            Protocol::Http1 => Arc::clone(&current.http1),
            Protocol::Http2 => Arc::clone(&current.http2),
        }
    }

    pub(super) fn handshakes(&self) -> &Handshakes {
        &self.inner.handshakes
    }

    fn current(&self) -> Arc<Material> {
        // It is replaced as a whole: a panic elsewhere leaves nothing half done.
        let current = self.inner.current.read();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner))
    }
}

async fn hangup(hangups: &mut Option<tokio::signal::unix::Signal>) {
    match hangups {
        Some(hangups) => drop(hangups.recv().await),
        None => std::future::pending().await,
    }
}

/// What is remembered between two looks.
pub(super) struct Watch {
    server: Server,
    stage: Stage,
    /// What was last refused, so that it is said once.
    refused: Option<FileError>,
    reminded: Option<Instant>,
}

impl Watch {
    pub(super) fn new(server: Server, stage: Stage) -> Self {
        Self {
            server,
            stage,
            refused: None,
            reminded: None,
        }
    }

    /// `asked`: by a SIGHUP, which gets an answer in any case.
    pub(super) async fn look(&mut self, asked: bool) {
        let inner = &self.server.inner;
        let (files, before) = (inner.files.clone(), self.server.current());
        let content = before.content;
        let Ok(read) = work::run(move || changed(&files, content)).await else {
            return;
        };
        match read {
            Ok(None) => {
                self.refused = None;
                if asked {
                    tracing::info!("SIGHUP: the certificate is the one that is served");
                }
            }
            Ok(Some(new)) => {
                inner.not_after.set(new.facts.not_after_seconds());
                inner.reloads.inc();
                tracing::info!(
                    issuer = %new.facts.issuer,
                    not_after = %humantime::format_rfc3339_seconds(new.facts.not_after),
                    "serving a new certificate; open connections go on"
                );
                *inner
                    .current
                    .write()
                    .unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                self.refused = None;
                self.reminded = None;
            }
            Err(error) if asked || self.refused.as_ref() != Some(&error) => {
                inner.reload_failures.inc();
                tracing::error!(%error, "the certificate has changed and cannot be used: the one before goes on");
                self.refused = Some(error);
            }
            Err(_) => {}
        }
    }

    /// Says what will end, or what was refused, in words that name no path: anybody may read them.
    pub(super) fn remind(&mut self) {
        let facts = self.server.facts();
        let left = facts.seconds_left(SystemTime::now());
        let (days, over) = (left / 86_400, left < 0);
        let soon = left < i64::try_from(SOON.as_secs()).unwrap_or(i64::MAX);
        let due = self.reminded.is_none_or(|last| last.elapsed() >= DAY);
        if soon && due {
            self.reminded = Some(Instant::now());
            let cert = self.server.inner.files.cert.display();
            let not_after = humantime::format_rfc3339_seconds(facts.not_after);
            if over {
                tracing::error!(%cert, %not_after, "the certificate has expired, clients refuse it: renew it (`weir-sink certs renew-server`)");
            } else {
                tracing::warn!(%cert, %not_after, days, "the certificate expires soon: renew it (`weir-sink certs renew-server`)");
            }
        }
        match (&self.refused, soon) {
            (Some(_), _) => self
                .stage
                .note("a changed certificate cannot be used, the one before goes on"),
            (None, true) if over => self.stage.note("the certificate has expired"),
            (None, true) => self
                .stage
                .note(format!("the certificate expires in {days} days")),
            (None, false) => self.stage.ok(),
        }
    }
}

/// What the files come to, where they are others than those of `content`.
fn changed(files: &ServerFiles, content: Fingerprint) -> Result<Option<Material>, FileError> {
    if content_of(files)? == content {
        return Ok(None);
    }
    let identity = Identity::read(&files.cert, &files.key)?;
    identity.judge(&files.cert, SystemTime::now())?;
    Material::of(files, &identity).map(Some)
}

fn content_of(files: &ServerFiles) -> Result<Fingerprint, FileError> {
    let mut all = Vec::new();
    let named = [
        ("the certificate", Some(&files.cert)),
        ("the key", Some(&files.key)),
        ("the CA file", files.ca.as_ref()),
    ];
    for (what, path) in named {
        if let Some(path) = path {
            let bytes = files::bytes(what, path)?;
            all.extend_from_slice(&Fingerprint::of(&bytes).0);
        }
    }
    Ok(Fingerprint::of(&all))
}

impl Material {
    fn of(files: &ServerFiles, identity: &Identity) -> Result<Self, FileError> {
        let config = |alpn: &[u8]| -> Result<Arc<ServerConfig>, FileError> {
            let unusable =
                |path: &PathBuf, error: String| FileError::new("the certificate", path, error);
            let builder = ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(VERSIONS)
                .map_err(|error| unusable(&files.cert, error.to_string()))?;
            let builder = match &files.ca {
                None => builder.with_no_client_auth(),
                Some(ca) => {
                    let roots = Arc::new(files::roots(ca)?);
                    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                        .allow_unauthenticated()
                        .build()
                        .map_err(|error| unusable(ca, error.to_string()))?;
                    builder.with_client_cert_verifier(verifier)
                }
            };
            let always = AlwaysThis(Arc::clone(&identity.certified));
            let mut config = builder.with_cert_resolver(Arc::new(always));
            config.alpn_protocols = vec![alpn.to_vec()];
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            Ok(Arc::new(config))
        };
        Ok(Self {
            // Read once more: a file that changes meanwhile is looked at again.
            content: content_of(files)?,
            http1: config(b"http/1.1")?,
            http2: config(b"h2")?,
            facts: identity.facts.clone(),
        })
    }
}

/// The one certificate that there is, whatever name is asked for.
#[derive(Debug)]
struct AlwaysThis(Arc<rustls::sign::CertifiedKey>);

impl rustls::server::ResolvesServerCert for AlwaysThis {
    fn resolve(
        &self,
        _: rustls::server::ClientHello<'_>,
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
