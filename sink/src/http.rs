//! The HTTP port: SQL, the ledger, probes and metrics.
//!
//! | method, path | answer |
//! |---|---|
//! | POST `/v1/sql` `{"query": "..."}` | JSON, CSV or Arrow by `Accept`, see [`sql`] |
//! | GET `/v1/ledger` `?agent=NAME&open=true&audit=true` | one object per stream, and their sums |
//! | POST `/v1/ledger/settle` `?agent=NAME&stream=ID` | the streams that were given up |
//! | GET `/v1/files` | files that are missing or damaged, and those whose loss was accepted |
//! | POST `/v1/files/accept-loss` `?file=PATH` | the file that was given up |
//! | GET `/livez` `/readyz` `/healthz` `/metrics` | see `weir_process::probes` |
//!
//! An error is `{"error":{"kind":"...","message":"..."}}` with the status of the one table in
//! `model`. Bodies, headers, time and the number of connections are bounded.

mod files;
mod parameters;
pub mod sql;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, header};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use weir_process::clock::Clock;
use weir_process::health::Health;
use weir_process::http::{Limits, Request, Response, respond};
use weir_process::metrics::Registry;
use weir_process::probes;

use crate::audit::audit;
use crate::catalog::Catalog;
use crate::fold::FoldHandle;
use crate::ingest::Ingest;
use crate::ledger::{self, Audit, GivenUp, GivenUpStream, Ledger, Line};
use crate::model::Kind;
use crate::store::Store;

use parameters::{Filter, wanted};
use sql::Sql;

const JSON: &str = "application/json";

/// What a peer may make the port hold.
const LIMITS: Limits = Limits {
    connections: 256,
    header_time: Duration::from_secs(30),
    body_bytes: 1 << 20,
    body_time: Duration::from_secs(10),
};

/// Everything that questions are answered from.
pub struct Front {
    /// For the probes.
    pub health: Health,
    /// For `/metrics`.
    pub registry: Registry,
    /// For SQL.
    pub sql: Sql,
    /// For the ledger.
    pub books: Books,
}

/// What the ledger is put together from.
#[derive(Clone)]
pub struct Books {
    /// What is durable.
    pub ingest: Ingest,
    /// What is folded.
    pub fold: FoldHandle,
    /// For an audit.
    pub catalog: Catalog,
    /// For an audit.
    pub store: Store,
    /// For ages.
    pub clock: Arc<dyn Clock>,
}

impl Books {
    /// One line per stream as of now.
    pub fn lines(&self) -> Vec<Line> {
        let folded = self.fold.streams();
        let streams = self.ingest.streams();
        ledger::lines(folded, &streams, self.clock.wall_ns())
    }

    async fn audit(&self) -> Result<Vec<Audit>, Refusal> {
        let lines = audit(&self.catalog, &self.store).await.map_err(|error| {
            tracing::error!(%error, "audit failed");
            Refusal::of(Kind::Internal, "audit failed; the log says more")
        })?;
        Ok(lines
            .into_iter()
            .map(|line| Audit {
                unexplained: line.unexplained(),
                tenant: line.tenant,
                stored: line.stored,
                in_files: line.in_files,
                expired: line.expired,
                lost: line.lost,
                faults: line.faults,
            })
            .collect())
    }
}

/// Serves until `token`.
pub async fn serve(listener: TcpListener, front: Arc<Front>, token: CancellationToken) {
    weir_process::http::serve(listener, LIMITS, token, move |request| {
        let front = Arc::clone(&front);
        async move { front.answer(request).await }
    })
    .await;
}

impl Front {
    /// The one place where paths are told apart.
    pub async fn answer(&self, request: Request) -> Response {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let answer = match request.uri().path() {
            "/v1/sql" if request.method() == Method::POST => self.sql.answer(&request).await,
            "/v1/sql" => Err(Refusal::method("POST")),
            "/v1/ledger/settle" if request.method() == Method::POST => {
                self.settle(request.uri().query().unwrap_or("")).await
            }
            "/v1/ledger/settle" => Err(Refusal::method("POST")),
            "/v1/files/accept-loss" if request.method() == Method::POST => {
                self.accept_loss(request.uri().query().unwrap_or("")).await
            }
            "/v1/files/accept-loss" => Err(Refusal::method("POST")),
            "/v1/files" if reads => Ok(self.files()),
            "/v1/files" => Err(Refusal::method("GET")),
            "/v1/ledger" if reads => self.ledger(request.uri().query().unwrap_or("")).await,
            path => match probes::answer(path, &self.health, &self.registry) {
                Some(answer) if reads => Ok(answer),
                Some(_) => Err(Refusal::method("GET")),
                None if path == "/v1/ledger" => Err(Refusal::method("GET")),
                None => Err(Refusal::of(
                    Kind::NotFound,
                    format!("there is nothing at {path}"),
                )),
            },
        };
        answer.unwrap_or_else(Refusal::into_response)
    }

    async fn settle(&self, query: &str) -> Result<Response, Refusal> {
        let wanted = wanted(query, &self.books.ingest.streams())?;
        let settled = self.books.ingest.settle_lost(&wanted).await;
        let settled = settled.map_err(|fault| Refusal::of(fault.kind(), fault.to_string()))?;
        let streams = settled.into_iter().map(|one| GivenUpStream {
            agent: one.agent,
            stream_id: one.stream.to_string(),
            readings: one.readings,
        });
        let answer = GivenUp {
            streams: streams.collect(),
        };
        Ok(json(StatusCode::OK, &answer))
    }

    async fn ledger(&self, query: &str) -> Result<Response, Refusal> {
        let filter = Filter::parse(query)?;
        let mut lines = self.books.lines();
        lines.retain(|line| filter.lets(line));
        let mut ledger = Ledger::new(lines).without(self.books.file_lost());
        if filter.audit {
            ledger.audit = Some(self.books.audit().await?);
        }
        Ok(json(StatusCode::OK, &ledger))
    }
}

/// A question that is not answered.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    kind: &'static str,
    message: String,
    header: Option<(header::HeaderName, HeaderValue)>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: ErrorText<'a>,
}

#[derive(Serialize)]
struct ErrorText<'a> {
    kind: &'a str,
    message: &'a str,
}

impl Refusal {
    fn of(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            status: kind.status(),
            kind: kind.name(),
            message: message.into(),
            header: None,
        }
    }

    fn method(allowed: &'static str) -> Self {
        Self {
            status: StatusCode::METHOD_NOT_ALLOWED,
            kind: "method_not_allowed",
            message: format!("use {allowed} here"),
            header: Some((header::ALLOW, HeaderValue::from_static(allowed))),
        }
    }

    fn into_response(self) -> Response {
        let error = ErrorText {
            kind: self.kind,
            message: &self.message,
        };
        let mut response = json(self.status, &ErrorBody { error });
        response.headers_mut().extend(self.header);
        response
    }
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("these types always serialize");
    respond(status, JSON, body)
}
