//! A small HTTP/1.1 server. The router is the caller's `match` on method and path.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::tls::{Listener, Peer, Stream};

/// A request whose body has been read.
pub type Request = http::Request<Bytes>;
/// A whole response.
pub type Response = http::Response<Full<Bytes>>;

/// What a peer may make the server hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at one time; more wait in the kernel's backlog.
    pub connections: usize,
    /// Time to send the head of a request, which is also how long a connection may stay idle.
    pub header_time: Duration,
    /// Size of a request's body.
    pub body_bytes: usize,
    /// Time to send a request's body.
    pub body_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            header_time: Duration::from_secs(10),
            body_bytes: 1 << 20,
            body_time: Duration::from_secs(10),
        }
    }
}

/// Serves until `token` is cancelled, then lets running requests end. Bound that by the program's own deadline. Who
/// asks is in the extensions of each request, as a [`Peer`](crate::tls::Peer).
pub async fn serve<H, F>(
    listener: impl Into<Listener>,
    limits: Limits,
    token: CancellationToken,
    handler: H,
) where
    H: Fn(Request) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let mut listener = listener.into();
    let slots = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();
    loop {
        let (stream, permit) = tokio::select! {
            () = token.cancelled() => break,
            accepted = accept(&mut listener, &slots) => accepted,
        };
        let (handler, token) = (handler.clone(), token.clone());
        connections.spawn(async move {
            let _permit = permit;
            connection(stream, limits, token, handler).await;
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn accept(listener: &mut Listener, slots: &Arc<Semaphore>) -> (Stream, OwnedSemaphorePermit) {
    let permit = Arc::clone(slots)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    (listener.accept().await, permit)
}

async fn connection<H, F>(stream: Stream, limits: Limits, token: CancellationToken, handler: H)
where
    H: Fn(Request) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let peer = stream.peer().clone();
    let service = service_fn(move |request| {
        let (handler, peer) = (handler.clone(), peer.clone());
        async move {
            let response = match whole(request, limits, peer).await {
                Ok(request) => handler(request).await,
                Err(response) => response,
            };
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = token.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Reads the body within its limits, or answers why not.
async fn whole(
    request: http::Request<Incoming>,
    limits: Limits,
    peer: Peer,
) -> Result<Request, Response> {
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(peer);
    let too_large = || {
        let message = format!("the body is larger than {} bytes", limits.body_bytes);
        closing(refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            &message,
        ))
    };
    if body.size_hint().lower() > limits.body_bytes as u64 {
        return Err(too_large());
    }
    let body = Limited::new(body, limits.body_bytes).collect();
    match tokio::time::timeout(limits.body_time, body).await {
        Ok(Ok(body)) => Ok(Request::from_parts(parts, body.to_bytes())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(closing(refusal(
            StatusCode::BAD_REQUEST,
            "invalid",
            "the body ended early",
        ))),
        Err(_) => Err(closing(refusal(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            "the body took too long",
        ))),
    }
}

/// The rest of the body is not read, so the connection cannot carry another request.
fn closing(mut response: Response) -> Response {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

/// A refusal in the shape that all have: `{"error":{"kind":"...","message":"..."}}`. The kind is for programs, the message
/// for people.
pub fn refusal(status: StatusCode, kind: &str, message: &str) -> Response {
    let body = serde_json::json!({ "error": { "kind": kind, "message": message } });
    respond(status, "application/json", body.to_string())
}

/// A response of any kind.
pub fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

/// A plain text response.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response {
    respond(status, "text/plain; charset=utf-8", body)
}
