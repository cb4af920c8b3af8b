//! The bytes' way to the sink: TCP or what a simulation brings, counted, and within TLS where the URL says `https://`.
//!
//! In: the sink's URL, and whom to trust. Out: a channel, and what it is encrypted with. The deadline is the caller's.

use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::ServiceExt;
use weir_process::metrics::Registry;
use weir_process::tls::{self, Client, ClientSettings, Encryption, Facts};

use super::failure::{Failure, reason_of};
use super::traffic::{Counted, Traffic};

/// How often this agent's own certificate is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// From how long before its end on it is spoken of, once a day.
const SOON: i64 = 14 * 86_400;
const SAY_EVERY: Duration = Duration::from_secs(86_400);

/// Bytes to and from a sink.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A connection in the making.
pub type Dialling = Pin<Box<dyn Future<Output = io::Result<Box<dyn Wire>>> + Send>>;

/// Opens a connection to the sink at a URL, in place of TCP: a simulation brings its own network.
pub type Dial = Arc<dyn Fn(Uri) -> Dialling + Send + Sync>;

type Unreached = Box<dyn Error + Send + Sync>;

/// See the module. Cloning gives another handle to the same.
#[derive(Clone)]
pub(crate) struct Transport {
    dial: Dial,
    host: String,
    tls: Option<Arc<Client>>,
    traffic: Arc<Traffic>,
    state: watch::Sender<Option<Encryption>>,
    own: watch::Sender<Option<Facts>>,
    gauges: Gauges,
}

#[derive(Clone, Default)]
struct Gauges {
    encrypted: Gauge,
    own_not_after: Gauge<f64, AtomicU64>,
    sink_not_after: Gauge<f64, AtomicU64>,
}

impl Transport {
    /// Over TCP to the sink at `url`; `tls` counts where that is `https://`.
    pub(crate) fn new(url: &Uri, tls: &ClientSettings, connect_timeout: Duration) -> Self {
        let encrypted = url.scheme_str() == Some("https");
        let gauges = Gauges::default();
        for none in [&gauges.own_not_after, &gauges.sink_not_after] {
            none.set(f64::NAN);
        }
        Self {
            dial: tcp(connect_timeout),
            host: url.host().unwrap_or_default().to_owned(),
            tls: encrypted.then(|| Arc::new(Client::new(tls.clone()))),
            traffic: Arc::default(),
            state: watch::Sender::new(None),
            own: watch::Sender::new(None),
            gauges,
        }
    }

    /// By these means from the next connection on.
    pub(super) fn over(&mut self, dial: Dial) {
        self.dial = dial;
    }

    /// What went over the wire so far.
    pub(super) fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }

    /// What the last connection was encrypted with; nothing where it was not.
    pub(crate) fn encryption(&self) -> watch::Receiver<Option<Encryption>> {
        self.state.subscribe()
    }

    /// This agent's own certificate; nothing while it has none.
    pub(crate) fn own(&self) -> watch::Receiver<Option<Facts>> {
        self.own.subscribe()
    }

    pub(super) fn register(&self, registry: &Registry) {
        registry.register(
            "sender_encrypted",
            "1 when the last connection to the sink was within TLS",
            self.gauges.encrypted.clone(),
        );
        registry.register(
            "tls_cert_not_after_timestamp_seconds",
            "when this agent's own certificate ends, in seconds since 1970; NaN where it has none",
            self.gauges.own_not_after.clone(),
        );
        registry.register(
            "tls_sink_cert_not_after_timestamp_seconds",
            "when the certificate that the sink showed last ends, in seconds since 1970; NaN where it showed none",
            self.gauges.sink_not_after.clone(),
        );
    }

    /// Connects to the sink.
    pub(crate) async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, Failure> {
        let this = self.clone();
        let service = tower::service_fn(move |url| {
            let this = this.clone();
            async move { this.wire(url).await.map(TokioIo::new) }
        });
        let connected = endpoint.connect_with_connector(service).await;
        connected.map_err(|error| match tls_error(&error) {
            Some(text) => Failure::Tls(text),
            None => Failure::Unreachable(reason_of(&error)),
        })
    }

    async fn wire(&self, url: Uri) -> Result<Box<dyn Wire>, Unreached> {
        let wire = Counted::new((self.dial)(url).await?, self.traffic());
        let Some(client) = &self.tls else {
            return Ok(Box::new(wire));
        };
        let encrypted = client.connect(wire, &self.host, b"h2").await?;
        let seen = Encryption::of(encrypted.get_ref().1);
        self.gauges.encrypted.set(1);
        if let Some(facts) = &seen.server {
            self.gauges
                .sink_not_after
                .set(facts.not_after_seconds() as f64);
        }
        self.state.send_replace(Some(seen));
        Ok(Box::new(encrypted))
    }

    /// Looks at this agent's own certificate: at once when it is another, by `changes` or since a connection was made with
    /// it, else every hour. Warns while it is about to end, unless the agent renews it by itself.
    pub(super) async fn watch_own(&self, changes: Option<watch::Receiver<u64>>) {
        let Some(client) = &self.tls else {
            return std::future::pending().await;
        };
        let renews = changes.is_some();
        let mut changes = changes.unwrap_or_else(|| watch::Sender::new(0).subscribe());
        let mut connections = self.state.subscribe();
        let mut said: Option<Instant> = None;
        loop {
            if let Ok(own) = client.identity() {
                let seconds = own.as_ref().map(Facts::not_after_seconds);
                let shown = seconds.map_or(f64::NAN, |seconds| seconds as f64);
                self.gauges.own_not_after.set(shown);
                let ends = own.as_ref().filter(|_| !renews);
                if let Some(own) = ends
                    && own.seconds_left(SystemTime::now()) < SOON
                    && said.is_none_or(|at| at.elapsed() >= SAY_EVERY)
                {
                    said = Some(Instant::now());
                    let not_after = humantime::format_rfc3339_seconds(own.not_after);
                    let days = own.seconds_left(SystemTime::now()) / 86_400;
                    tracing::warn!(%not_after, days, "this agent's certificate ends soon: replace the files of tls.cert and tls.key");
                }
                self.own.send_if_modified(|known| {
                    let changed = *known != own;
                    *known = own;
                    changed
                });
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                Ok(()) = changes.changed() => {}
                Ok(()) = connections.changed() => {}
            }
        }
    }
}

/// What TLS has to say about why there is no connection.
fn tls_error(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<tls::ConnectError>() {
            return Some(found.text.clone());
        }
        next = error.source();
    }
    None
}

/// As tonic would make it: its own cannot be counted.
fn tcp(connect_timeout: Duration) -> Dial {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(super::connect::KEEPALIVE_EVERY));
    tcp.set_connect_timeout(Some(connect_timeout));
    Arc::new(move |url| {
        let dialling = tcp.clone().oneshot(url);
        Box::pin(async move {
            let wire = dialling.await.map_err(io::Error::other)?;
            Ok(Box::new(wire.into_inner()) as Box<dyn Wire>)
        })
    })
}
