//! One HTTP/1.1 request on its own connection, with a time limit over all of it and a size limit on the answer.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use url::{Host, Position, Url};

use crate::tls;

/// Largest answer that is read unless the caller says otherwise.
const MAX_REPLY_BYTES: usize = 256 << 20;

/// A request.
#[derive(Clone)]
pub struct Call {
    /// What to do.
    pub method: Method,
    /// To what.
    pub url: Url,
    /// Further headers.
    pub headers: HeaderMap,
    /// What to send along.
    pub body: Bytes,
    /// Time for everything, from the connection to the last byte of the answer.
    pub timeout: Duration,
    /// Largest answer that is read.
    pub max_reply_bytes: usize,
    /// For `https://`: whom to trust.
    pub tls: Option<Arc<tls::Client>>,
}

/// Without headers and body, and without user and password of the URL: what a caller shows of itself is there.
impl fmt::Debug for Call {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Call")
            .field("method", &self.method)
            .field("url", &shown(&self.url))
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// An answer, whatever its status.
#[derive(Clone)]
pub struct Reply {
    /// What the server thinks of the request.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Why there is no answer. The text names the URL without user and password.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL is not HTTP, or names no host.
    #[error("cannot use {url}: write an http:// or https:// address with a host")]
    Unsupported {
        /// Where the request was to go.
        url: String,
    },
    /// No connection came about.
    #[error("cannot connect to {url}: {}: is it running and listening there?", system_text(.source))]
    Connect {
        /// Where the request was to go.
        url: String,
        /// What the system says.
        source: io::Error,
    },
    /// No TLS came about.
    #[error("cannot connect to {url}: {source}")]
    Tls {
        /// Where the request was to go.
        url: String,
        /// What went wrong and what to do.
        source: tls::ConnectError,
    },
    /// It was asked in the clear, and speaks TLS.
    #[error(
        "cannot connect to {url}: what listens there speaks TLS: write https:// in place of http://"
    )]
    Encrypted {
        /// Where the request was to go.
        url: String,
    },
    /// Time was up.
    #[error("no answer from {url} within {timeout:?}")]
    Timeout {
        /// Where the request was to go.
        url: String,
        /// How long was waited.
        timeout: Duration,
    },
    /// The other side is not an HTTP server, or hung up.
    #[error("no HTTP answer from {url}: {reason}: is this the right port?")]
    Protocol {
        /// Where the request was to go.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The answer is larger than the caller wants to hold.
    #[error("the answer from {url} is larger than {limit} bytes")]
    TooLarge {
        /// Where the request was to go.
        url: String,
        /// The limit.
        limit: usize,
    },
}

/// What went wrong, without error numbers where the kind says it.
fn system_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::Other | io::ErrorKind::InvalidInput => error.to_string(),
        kind if error.raw_os_error().is_some() => kind.to_string(),
        _ => error.to_string(),
    }
}

/// Asks for `url`.
///
/// # Errors
/// When there is no answer; an answer of any status is none.
pub async fn get(url: &Url, timeout: Duration) -> Result<Reply, ClientError> {
    Call::new(Method::GET, url, timeout).send().await
}

/// Sends `body` to `url` and asks for an answer of the media type `accept`.
///
/// # Errors
/// When there is no answer; an answer of any status is none.
pub async fn post(
    url: &Url,
    content_type: &'static str,
    accept: &'static str,
    body: impl Into<Bytes>,
    timeout: Duration,
) -> Result<Reply, ClientError> {
    let mut call = Call::new(Method::POST, url, timeout);
    let headers = &mut call.headers;
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
    call.body = body.into();
    call.send().await
}

/// Without headers and body: a token that was made is in one.
impl fmt::Debug for Reply {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Reply")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Reply {
    /// The body as text; what is not UTF-8 in it is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Call {
    /// A request without body and further headers.
    pub fn new(method: Method, url: &Url, timeout: Duration) -> Self {
        Self {
            method,
            url: url.clone(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout,
            max_reply_bytes: MAX_REPLY_BYTES,
            tls: None,
        }
    }

    /// Sends it and reads the whole answer.
    ///
    /// # Errors
    /// When there is no answer; an answer of any status is none.
    pub async fn send(self) -> Result<Reply, ClientError> {
        let timeout = self.timeout;
        let url = shown(&self.url);
        match tokio::time::timeout(timeout, self.exchange()).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::Timeout { url, timeout }),
        }
    }

    async fn exchange(self) -> Result<Reply, ClientError> {
        let url = shown(&self.url);
        let limit = self.max_reply_bytes;
        let is_plain = self.url.scheme() == "http";
        let protocol = |error: hyper::Error| ClientError::Protocol {
            url: url.clone(),
            reason: protocol_text(&error),
        };
        let stream = connect(&self, &url).await?;
        let request = self.request(&url)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(protocol)?;
        // Driven in this task: dropping the call drops the connection.
        let mut connection = std::pin::pin!(connection);
        let answer = async {
            let response = sender.send_request(request).await.map_err(protocol)?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, limit).collect().await.map_err(|error| {
                let url = url.clone();
                if error.is::<LengthLimitError>() {
                    return ClientError::TooLarge { url, limit };
                }
                let reason = error.to_string();
                ClientError::Protocol { url, reason }
            })?;
            Ok(Reply {
                status: parts.status,
                headers: parts.headers,
                body: body.to_bytes(),
            })
        };
        let mut answer = std::pin::pin!(answer);
        let answer = tokio::select! {
            biased;
            answer = answer.as_mut() => answer,
            // An error of the connection reaches the answer too, in better words.
            _ = connection.as_mut() => answer.await,
        };
        match answer {
            Ok(reply) if is_plain && speaks_tls(&reply) => {
                Err(ClientError::Encrypted { url: url.clone() })
            }
            answer => answer,
        }
    }

    fn request(self, shown: &str) -> Result<http::Request<Full<Bytes>>, ClientError> {
        let unsupported = || ClientError::Unsupported {
            url: shown.to_owned(),
        };
        let target = &self.url[Position::BeforePath..Position::AfterQuery];
        let authority = &self.url[Position::BeforeHost..Position::AfterPort];
        let mut request = http::Request::builder()
            .method(self.method)
            .uri(target)
            .header(header::HOST, authority)
            .body(Full::new(self.body))
            .map_err(|_| unsupported())?;
        request.headers_mut().extend(self.headers);
        Ok(request)
    }
}

/// What a server's TLS says of this client it says after the handshake.
fn protocol_text(error: &hyper::Error) -> String {
    let source = std::error::Error::source(error);
    let said = source.and_then(|source| tls::in_text(&source.to_string()));
    said.unwrap_or_else(|| error.to_string())
}

/// Whether this is what the port says of a server that is within TLS: ours, or nginx, Go, Apache in front of one. Who answers
/// in JSON has understood the request, and may repeat what stood in it.
fn speaks_tls(reply: &Reply) -> bool {
    let media_type = reply.headers.get(header::CONTENT_TYPE);
    if media_type.is_some_and(|media_type| media_type.as_bytes().starts_with(b"application/json")) {
        return false;
    }
    let body = &reply.body[..reply.body.len().min(4096)];
    let said = String::from_utf8_lossy(body).to_ascii_lowercase();
    let words = [
        "speaks tls",
        "https port",
        "https server",
        "ssl-enabled server port",
    ];
    reply.status == StatusCode::BAD_REQUEST && words.iter().any(|words| said.contains(words))
}

/// Bytes to and from a server.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

async fn connect(call: &Call, shown: &str) -> Result<Box<dyn Wire>, ClientError> {
    let url = &call.url;
    let unsupported = || ClientError::Unsupported {
        url: shown.to_owned(),
    };
    if !matches!(url.scheme(), "http" | "https") {
        return Err(unsupported());
    }
    let host = url.host().ok_or_else(unsupported)?;
    let port = url.port_or_known_default().ok_or_else(unsupported)?;
    let stream = match &host {
        Host::Domain(name) => TcpStream::connect((*name, port)).await,
        Host::Ipv4(ip) => TcpStream::connect((*ip, port)).await,
        Host::Ipv6(ip) => TcpStream::connect((*ip, port)).await,
    };
    let stream = stream.map_err(|source| ClientError::Connect {
        url: shown.to_owned(),
        source,
    })?;
    if url.scheme() == "http" {
        return Ok(Box::new(stream));
    }
    let client = call.tls.clone().unwrap_or_else(system);
    let name = host.to_string();
    let connecting = client.connect(stream, &name, b"http/1.1").await;
    let encrypted = connecting.map_err(|source| ClientError::Tls {
        url: shown.to_owned(),
        source,
    })?;
    Ok(Box::new(encrypted))
}

/// Where the caller names no CA.
fn system() -> Arc<tls::Client> {
    Arc::new(tls::Client::new(tls::ClientSettings {
        trust: tls::Trust::System,
        identity: None,
        setting: "--ca",
    }))
}

/// Scheme, host and port: what an operator needs to look at, without user, password and query.
fn shown(url: &Url) -> String {
    let authority = &url[Position::BeforeHost..Position::AfterPort];
    format!("{}://{authority}", url.scheme())
}
