//! One request to a server on this machine or another: plain HTTP/1.1, the whole body.

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;

/// `GET` of a path; anything but success is an error.
pub(crate) async fn get(authority: &str, path: &str) -> anyhow::Result<Bytes> {
    request(authority, Method::GET, path, &[], Bytes::new()).await
}

/// One request on a connection of its own; anything but success is an error.
pub(crate) async fn request(
    authority: &str,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> anyhow::Result<Bytes> {
    Connection::open(authority)
        .await?
        .request(method, path, headers, body)
        .await
}

/// A connection that is kept.
pub(crate) struct Connection {
    authority: String,
    sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
}

impl Connection {
    pub(crate) async fn open(authority: &str) -> anyhow::Result<Self> {
        let authority = authority
            .trim_start_matches("http://")
            .trim_end_matches('/');
        let stream = tokio::net::TcpStream::connect(authority)
            .await
            .with_context(|| format!("cannot reach {authority}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends with its sender.
        tokio::spawn(connection);
        Ok(Self {
            authority: authority.to_owned(),
            sender,
        })
    }

    pub(crate) async fn request(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Bytes> {
        let mut request = Request::builder()
            .method(&method)
            .uri(path)
            .header("host", &self.authority);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.sender.ready().await?;
        let response = self
            .sender
            .send_request(request.body(Full::new(body))?)
            .await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            let text = String::from_utf8_lossy(&body);
            bail!("{method} {path} answered {status}: {}", text.trim());
        }
        Ok(body)
    }
}

/// The rows of a statement.
pub(crate) async fn sql(connection: &mut Connection, query: &str) -> anyhow::Result<Vec<Value>> {
    let question = serde_json::json!({ "query": query }).to_string();
    let headers = [("content-type", "application/json")];
    let body = connection
        .request(Method::POST, "/v1/sql", &headers, question.into())
        .await?;
    let answer: Value = serde_json::from_slice(&body)?;
    let rows = answer["rows"]
        .as_array()
        .context("the answer has no rows")?;
    Ok(rows.clone())
}

/// A number of `/metrics`.
pub(crate) async fn metric(authority: &str, name: &str) -> anyhow::Result<f64> {
    let text = get(authority, "/metrics").await?;
    let text = String::from_utf8_lossy(&text);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let line = line.with_context(|| format!("{authority} has no metric {name}"))?;
    Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
}
