//! A plain HTTP/1.1 client: one request, one answer, one deadline.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// No answer is waited for longer than this.
const LIMIT: Duration = Duration::from_secs(30);

/// Why there was no answer.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Status and body of `GET path`.
///
/// # Errors
/// When the server cannot be reached or does not answer in time.
pub async fn get(server: SocketAddr, path: &str) -> Result<(StatusCode, Bytes), Error> {
    let request = Request::get(path)
        .header("host", server.to_string())
        .body(Full::default())?;
    send(server, request).await
}

/// Status and body of `POST path` with a JSON body.
///
/// # Errors
/// When the server cannot be reached or does not answer in time.
pub async fn post(
    server: SocketAddr,
    path: &str,
    accept: &str,
    body: impl Into<Bytes>,
) -> Result<(StatusCode, Bytes), Error> {
    let request = Request::post(path)
        .header("host", server.to_string())
        .header("content-type", "application/json")
        .header("accept", accept)
        .body(Full::new(body.into()))?;
    send(server, request).await
}

/// Status and body of a request with these headers: a POST of JSON where there is a body, else a GET.
///
/// # Errors
/// When the server cannot be reached or does not answer in time.
pub async fn ask(
    server: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<String>,
) -> Result<(StatusCode, Bytes), Error> {
    let mut request = match body {
        Some(_) => Request::post(path).header("content-type", "application/json"),
        None => Request::get(path),
    };
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .header("host", server.to_string())
        .body(Full::new(body.unwrap_or_default().into()))?;
    send(server, request).await
}

async fn send(
    server: SocketAddr,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Error> {
    tokio::time::timeout(LIMIT, async {
        let stream = TcpStream::connect(server).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        connection.abort();
        Ok((status, body))
    })
    .await?
}
