//! Accepts connections, and makes their handshakes beside each other.
//!
//! In: a port. Out: connections that are ready to be spoken on. A handshake takes 10 s at most and there are at most
//! [`MOST`] at one time; beyond it connections wait in the kernel, and the oldest handshake that has had
//! [`AT_LEAST`] gives way to the next, so that thousands who connect and say nothing do not keep out the one who
//! speaks. Who speaks no TLS at all is told so: an HTTP/1 client by a response, an HTTP/2 client by a GOAWAY.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use rustls::{AlertDescription, CertificateError, Error};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use super::server::{Protocol, Server};
use super::stream::Stream;
use super::words;
use crate::clock::{Clock as _, SystemClock};
use crate::logging::Throttle;
use crate::metrics::Registry;

/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take in any case, whoever else waits.
const AT_LEAST: Duration = Duration::from_secs(2);
/// Handshakes at one time.
const MOST: usize = 512;
/// The first byte of TLS: a record of a handshake.
const TLS: u8 = 0x16;
/// A line about handshakes that fail for one reason, at most this often.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Accepts connections at one port.
pub struct Listener {
    tcp: TcpListener,
    tls: Option<Arc<dyn Handshaker>>,
    handshakes: JoinSet<Option<Stream>>,
    /// Those that run, the oldest first.
    begun: VecDeque<(Instant, AbortHandle)>,
}

impl From<TcpListener> for Listener {
    /// Without TLS.
    fn from(tcp: TcpListener) -> Self {
        Self {
            tcp,
            tls: None,
            handshakes: JoinSet::new(),
            begun: VecDeque::new(),
        }
    }
}

impl Listener {
    pub(super) fn tls(tcp: TcpListener, server: Server, protocol: Protocol) -> Self {
        Self {
            tls: Some(Arc::new(Shaker { server, protocol })),
            ..Self::from(tcp)
        }
    }

    /// The next connection. Nothing is lost when this is dropped before it is done.
    pub async fn accept(&mut self) -> Stream {
        loop {
            let Some(tls) = self.tls.clone() else {
                let (stream, address) = tcp(&self.tcp).await;
                return Stream::plain(stream, address);
            };
            let in_flight = &tls.handshakes().inner.in_flight;
            in_flight.set(i64::try_from(self.handshakes.len()).unwrap_or(i64::MAX));
            let full_until = self.full_until(tls.handshakes());
            tokio::select! {
                biased;
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(stream)) = done {
                        return stream;
                    }
                }
                () = until(full_until), if full_until.is_some() => {}
                (stream, address) = tcp(&self.tcp), if full_until.is_none() => {
                    let handle = self.handshakes.spawn(tls.shake(stream, address));
                    self.begun.push_back((Instant::now(), handle));
                }
            }
        }
    }

    /// Makes room where there is none; answers when there will be, where that is still to come.
    fn full_until(&mut self, handshakes: &Handshakes) -> Option<Instant> {
        if self.handshakes.len() < MOST {
            // Handles of what is done are let go of before they are many.
            if self.begun.len() >= 2 * MOST {
                self.begun.retain(|(_, handle)| !handle.is_finished());
            }
            return None;
        }
        self.begun.retain(|(_, handle)| !handle.is_finished());
        let (began, oldest) = self.begun.front()?;
        let may_go = *began + AT_LEAST;
        if Instant::now() < may_go {
            return Some(may_go);
        }
        oldest.abort();
        self.begun.pop_front();
        handshakes.gave_way();
        // It is gone once it has been joined.
        Some(Instant::now() + Duration::from_millis(1))
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

async fn tcp(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                // Answers are small and waited for.
                let _ = stream.set_nodelay(true);
                return (stream, address);
            }
            Err(error) => {
                // Out of file descriptors, most often: it passes, and looking at once would burn a core.
                tracing::debug!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

type Shaking = Pin<Box<dyn Future<Output = Option<Stream>> + Send>>;

/// Makes handshakes. Behind a table of functions: a program that serves no TLS does not carry a server's half of it.
trait Handshaker: Send + Sync {
    fn shake(&self, stream: TcpStream, address: SocketAddr) -> Shaking;

    fn handshakes(&self) -> &Handshakes;
}

struct Shaker {
    server: Server,
    protocol: Protocol,
}

impl Handshaker for Shaker {
    fn shake(&self, stream: TcpStream, address: SocketAddr) -> Shaking {
        Box::pin(shake(self.server.clone(), self.protocol, stream, address))
    }

    fn handshakes(&self) -> &Handshakes {
        self.server.handshakes()
    }
}

async fn shake(
    server: Server,
    protocol: Protocol,
    stream: TcpStream,
    address: SocketAddr,
) -> Option<Stream> {
    let shaking = async {
        let mut first = [0; 4];
        let got = stream.peek(&mut first).await.map_err(Fault::Quiet)?;
        match first[..got].first() {
            // A probe of the port, most often.
            None => Err(Fault::Quiet(io::ErrorKind::UnexpectedEof.into())),
            Some(&TLS) => {
                let acceptor = TlsAcceptor::from(server.config(protocol));
                acceptor.accept(stream).await.map_err(Fault::Failed)
            }
            Some(_) => {
                tell(stream, &first[..got]).await;
                Err(Fault::Plain)
            }
        }
    };
    let fault = match timeout(PATIENCE, shaking).await {
        Ok(Ok(stream)) => {
            server.handshakes().inner.done.inc();
            return Some(Stream::tls(stream, address));
        }
        Ok(Err(fault)) => fault,
        Err(_) => Fault::Timeout,
    };
    server.handshakes().failed(&fault, address);
    None
}

/// Says that this port speaks TLS, in the words of who connects, and waits until it has read them: an answer that is
/// followed by a reset would be lost.
async fn tell(mut stream: TcpStream, first: &[u8]) {
    const WORDS: &str = "this port speaks TLS: use https://\n";
    let answer = if first.starts_with(b"PRI") {
        let mut answer = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
        let length = u8::try_from(8 + WORDS.len()).expect("the words are few");
        answer.extend_from_slice(&[0, 0, length, 7, 0, 0, 0, 0, 0]);
        // No stream was processed; INADEQUATE_SECURITY.
        answer.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0x0c]);
        answer.extend_from_slice(WORDS.as_bytes());
        answer
    } else if first.first().is_some_and(u8::is_ascii_uppercase) {
        let length = WORDS.len();
        format!(
            "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{WORDS}"
        )
        .into_bytes()
    } else {
        return;
    };
    if stream.write_all(&answer).await.is_err() || stream.shutdown().await.is_err() {
        return;
    }
    let mut rest = [0; 1024];
    let mut left = 64_u32;
    while left > 0 && matches!(stream.read(&mut rest).await, Ok(bytes) if bytes > 0) {
        left -= 1;
    }
}

/// Why a handshake came to nothing.
enum Fault {
    /// Nobody needs to know.
    Quiet(io::Error),
    Plain,
    Timeout,
    Failed(io::Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    NoTls,
    /// The client does not trust what this server shows.
    Untrusted,
    /// What the client shows is of another CA.
    UnknownCa,
    /// What the client shows is out of its time.
    Expired,
    /// What the client shows is not good for this.
    Unusable,
    Timeout,
    Other,
}

const REASONS: [Why; 7] = [
    Why::NoTls,
    Why::Untrusted,
    Why::UnknownCa,
    Why::Expired,
    Why::Unusable,
    Why::Timeout,
    Why::Other,
];

impl Why {
    fn label(self) -> Reason {
        let reason = match self {
            Self::NoTls => "no_tls",
            Self::Untrusted => "untrusted",
            Self::UnknownCa => "unknown_ca",
            Self::Expired => "expired",
            Self::Unusable => "unusable",
            Self::Timeout => "timeout",
            Self::Other => "other",
        };
        Reason { reason }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// Counts handshakes. Cloning gives another handle to the same.
#[derive(Clone)]
pub(super) struct Handshakes {
    inner: Arc<Counts>,
}

struct Counts {
    in_flight: Gauge,
    done: Counter,
    failed: Family<Reason, Counter>,
    throttles: [Throttle; REASONS.len()],
}

impl Default for Handshakes {
    fn default() -> Self {
        let inner = Counts {
            in_flight: Gauge::default(),
            done: Counter::default(),
            failed: Family::default(),
            throttles: REASONS.map(|_| Throttle::new(SAY_EVERY)),
        };
        for reason in REASONS {
            let _ = inner.failed.get_or_create(&reason.label());
        }
        Self {
            inner: Arc::new(inner),
        }
    }
}

impl Handshakes {
    pub(super) fn register(&self, registry: &Registry) {
        let inner = &self.inner;
        registry.register(
            "tls_handshakes_in_flight",
            "connections whose handshake goes on",
            inner.in_flight.clone(),
        );
        registry.register(
            "tls_handshakes",
            "handshakes that led to a connection",
            inner.done.clone(),
        );
        registry.register(
            "tls_handshake_failures",
            "handshakes that did not lead to a connection, by reason: `no_tls`, `untrusted` (the client does not trust this server), `unknown_ca`, `expired` and `unusable` (the client's certificate), `timeout`, `other`",
            inner.failed.clone(),
        );
    }

    /// A handshake was ended in favour of another.
    fn gave_way(&self) {
        self.count(Why::Timeout);
    }

    fn count(&self, reason: Why) {
        self.inner.failed.get_or_create(&reason.label()).inc();
    }

    fn failed(&self, fault: &Fault, address: SocketAddr) {
        let (reason, text) = match fault {
            Fault::Quiet(error) => {
                tracing::debug!(%address, %error, "a connection came to nothing");
                return;
            }
            Fault::Plain => (
                Why::NoTls,
                "it speaks no TLS: it must use https://".to_owned(),
            ),
            Fault::Timeout => (Why::Timeout, "it took too long".to_owned()),
            Fault::Failed(error) => (reason(error), words::of_client(error)),
        };
        self.count(reason);
        let place = REASONS.iter().position(|other| *other == reason);
        let throttle = &self.inner.throttles[place.unwrap_or_default()];
        if let Some(unsaid) = throttle.permit(SystemClock.monotonic_ns()) {
            tracing::warn!(%address, error = text, unsaid, "a TLS handshake failed");
        }
    }
}

fn reason(error: &io::Error) -> Why {
    use AlertDescription as Alert;
    use CertificateError as Certificate;
    match words::cause(error) {
        Some(Error::AlertReceived(
            Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::CertificateExpired
            | Alert::DecryptError,
        )) => Why::Untrusted,
        Some(Error::InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature)) => {
            Why::UnknownCa
        }
        Some(Error::InvalidCertificate(
            Certificate::Expired
            | Certificate::ExpiredContext { .. }
            | Certificate::NotValidYet
            | Certificate::NotValidYetContext { .. },
        )) => Why::Expired,
        Some(Error::InvalidCertificate(_)) => Why::Unusable,
        _ => Why::Other,
    }
}
