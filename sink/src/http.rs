//! The HTTP port: SQL, the ledger, probes and metrics.
//!
//! | method, path | answer |
//! |---|---|
//! | POST `/v1/sql` `{"query": "..."}` | JSON, CSV or Arrow by `Accept`, see [`sql`] |
//! | GET `/v1/ledger` `?agent=NAME&open=true&audit=true` | one object per stream, and their sums |
//! | POST `/v1/ledger/settle` `?agent=NAME&stream=ID` | the streams that were given up |
//! | GET `/v1/files` | files that are missing or damaged, and those whose loss was accepted |
//! | POST `/v1/files/accept-loss` `?file=PATH` | the file that was given up |
//! | GET `/v1/audit` `?since=24h&limit=1000` | lines of the audit log, oldest first |
//! | GET `/livez` `/readyz` `/healthz` `/metrics` | see `weir_process::probes` |
//!
//! Who may ask for what is in `access::table`, by which requests find their way; what is answered from is the
//! caller's tenant's ([`Own`]). An error is `{"error":{"kind":"...","message":"..."}}` with the status of the one table in
//! `model`. Bodies, headers, time and the number of connections are bounded.

pub(crate) mod audit;
mod files;
mod own;
mod parameters;
pub mod sql;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, header};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use weir_process::clock::Clock;
use weir_process::health::Health;
use weir_process::http::{Limits, Request, Response, refusal, respond};
use weir_process::metrics::Registry;
use weir_process::probes;
use weir_process::tls::{Listener, Peer};

use crate::access::table::{self, Page, Route};
use crate::access::{self, Access, Caller, Denied};
use crate::catalog::Catalog;
use crate::fold::FoldHandle;
use crate::ingest::Ingest;
use crate::ledger::{self, GivenUp, GivenUpStream, Ledger, Line};
use crate::model::Kind;
use crate::store::Store;

pub use own::Own;
use parameters::{Filter, wanted};
use sql::Sql;

const JSON: &str = "application/json";

/// What a peer may make the port hold.
const LIMITS: Limits = Limits {
    connections: 256,
    header_time: Duration::from_secs(10),
    body_bytes: 1 << 20,
    body_time: Duration::from_secs(10),
};

/// Everything that questions are answered from.
pub struct Front {
    /// Who may ask.
    pub access: Access,
    /// For the probes.
    pub health: Health,
    /// For `/metrics`.
    pub registry: Registry,
    /// For SQL.
    pub sql: Sql,
    /// For the ledger.
    pub books: Books,
}

/// What the ledger is put together from, of all tenants. A request sees [`Books::of`] one.
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
    /// One line per stream as of now, of all tenants.
    pub fn lines(&self) -> Vec<Line> {
        let folded = self.fold.streams();
        let streams = self.ingest.streams();
        ledger::lines(folded, &streams, self.clock.wall_ns())
    }

    /// Those of one tenant.
    pub fn lines_of(&self, tenant: &str) -> Vec<Line> {
        let folded = self.fold.streams_of(tenant);
        let streams = self.ingest.streams_of(tenant);
        ledger::lines(folded, &streams, self.clock.wall_ns())
    }
}

/// Serves until `token`.
pub async fn serve(listener: impl Into<Listener>, front: Arc<Front>, token: CancellationToken) {
    weir_process::http::serve(listener, LIMITS, token, move |request| {
        let front = Arc::clone(&front);
        async move { front.answer(request).await }
    })
    .await;
}

impl Front {
    /// The one place where paths are told apart: by the table, which says who may ask, too.
    pub async fn answer(&self, request: Request) -> Response {
        let answer = match self.admit(&request).await {
            Ok((route, caller)) => self.page(route, &caller, &request).await,
            Err(refusal) => Err(refusal),
        };
        answer.unwrap_or_else(Refusal::into_response)
    }

    /// What is asked for, and by whom, if they may.
    async fn admit(&self, request: &Request) -> Result<(&'static Route, Caller), Refusal> {
        let path = request.uri().path();
        let route = table::route(path).ok_or_else(|| {
            let text = format!("there is nothing at {path}");
            Refusal::of(Kind::NotFound, text)
        })?;
        let asked = match *request.method() {
            Method::HEAD => &Method::GET,
            ref other => other,
        };
        if *asked != route.method {
            return Err(Refusal::method(&route.method));
        }
        let peer = request.extensions().get::<Peer>();
        let asked = access::Request {
            address: peer.map(|peer| peer.address),
            certificate: peer.and_then(|peer| peer.certificate.as_deref()),
            headers: request.headers(),
            object: path,
        };
        let caller = self.access.ask(asked, route.need).await;
        Ok((route, caller.map_err(|denied| Refusal::denied(&denied))?))
    }

    async fn page(
        &self,
        route: &Route,
        caller: &Caller,
        request: &Request,
    ) -> Result<Response, Refusal> {
        uncoded(request)?;
        let own = self.books.of(caller.tenant());
        let query = request.uri().query().unwrap_or("");
        match route.page {
            Page::Sql => self.sql.answer(&own, request).await,
            Page::Ledger => ledger(&own, query).await,
            Page::Files => Ok(files::files(&own)),
            Page::Audit => audit::answer(&self.access, &own, query).await,
            Page::Settle => {
                let settled = settle(&own, query).await;
                self.noted(caller, "ledger.settle", query, settled).await
            }
            Page::AcceptLoss => {
                let accepted = files::accept_loss(&own, query).await;
                self.noted(caller, "files.accept_loss", query, accepted)
                    .await
            }
            Page::Probe if !caller.is_at_home() => Ok(probes::brief(route.path, &self.health)),
            Page::Probe | Page::Metrics => {
                let answer = probes::answer(route.path, &self.health, &self.registry);
                answer.ok_or_else(|| Refusal::of(Kind::NotFound, "no such probe"))
            }
        }
    }

    /// What changes something is in the audit log, also when it did not come about.
    async fn noted(
        &self,
        caller: &Caller,
        action: &str,
        query: &str,
        done: Result<Done, Refusal>,
    ) -> Result<Response, Refusal> {
        match done {
            Ok(done) => {
                self.access.note(caller, action, &done.what, "ok").await;
                Ok(done.response)
            }
            Err(refusal) => {
                let outcome = format!("failed: {}", refusal.kind);
                let query: String = query.chars().take(200).collect();
                self.access.note(caller, action, &query, &outcome).await;
                Err(refusal)
            }
        }
    }
}

/// Bodies are taken as they are: few bytes of a compressed one can be more than there is room for.
fn uncoded(request: &Request) -> Result<(), Refusal> {
    let codings = request.headers().get_all(header::CONTENT_ENCODING).iter();
    let named = codings.map(|coding| coding.to_str().unwrap_or("?").trim());
    let mut coded =
        named.filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"));
    match coded.next() {
        Some(coding) if !request.body().is_empty() => {
            let coding: String = coding.chars().take(40).collect();
            Err(Refusal {
                status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
                kind: "unsupported_coding",
                message: format!(
                    "the header content-encoding says {coding}, and a body is taken uncompressed alone: send it as it is, without this header"
                ),
                header: Some((
                    header::ACCEPT_ENCODING,
                    HeaderValue::from_static("identity"),
                )),
            })
        }
        _ => Ok(()),
    }
}

/// Something was changed.
struct Done {
    response: Response,
    /// What, for the audit log.
    what: String,
}

async fn settle(own: &Own, query: &str) -> Result<Done, Refusal> {
    let wanted = wanted(query, &own.streams())?;
    let settled = own.settle(&wanted).await?;
    let streams = settled.into_iter().map(|one| GivenUpStream {
        agent: one.agent,
        stream_id: one.stream.to_string(),
        readings: one.readings,
    });
    let answer = GivenUp {
        streams: streams.collect(),
    };
    let each = answer.streams.iter().take(50);
    let each = each.map(|one| {
        format!(
            "{} of {}: {} readings",
            one.stream_id, one.agent, one.readings
        )
    });
    let what = format!(
        "{} streams; {}",
        answer.streams.len(),
        each.collect::<Vec<_>>().join(", ")
    );
    Ok(Done {
        response: json(StatusCode::OK, &answer),
        what,
    })
}

async fn ledger(own: &Own, query: &str) -> Result<Response, Refusal> {
    let filter = Filter::parse(query)?;
    let mut lines = own.lines();
    lines.retain(|line| filter.lets(line));
    let mut ledger = Ledger::new(lines).without(own.file_lost());
    if filter.audit {
        ledger.audit = Some(own.audit().await?);
    }
    Ok(json(StatusCode::OK, &ledger))
}

/// A question that is not answered.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    kind: &'static str,
    message: String,
    header: Option<(header::HeaderName, HeaderValue)>,
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

    fn denied(denied: &Denied) -> Self {
        let kind = denied.kind();
        let challenge = (kind == Kind::Unauthenticated)
            .then(|| (header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        Self {
            header: challenge,
            ..Self::of(kind, denied.to_string())
        }
    }

    fn method(allowed: &Method) -> Self {
        let allowed = if *allowed == Method::GET {
            "GET"
        } else {
            "POST"
        };
        Self {
            status: StatusCode::METHOD_NOT_ALLOWED,
            kind: "method_not_allowed",
            message: format!("use {allowed} here"),
            header: Some((header::ALLOW, HeaderValue::from_static(allowed))),
        }
    }

    fn into_response(self) -> Response {
        let mut response = refusal(self.status, self.kind, &self.message);
        response.headers_mut().extend(self.header);
        response
    }
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("these types always serialize");
    respond(status, JSON, body)
}
