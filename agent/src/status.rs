//! The agent's own HTTP: probes, metrics, and what it is doing, as JSON at `/status` and for people at `/`.
//!
//! In: handles to the running parts. Out: a [`Report`] made anew for every request; nothing is kept here.
//!
//! | path | answer |
//! |---|---|
//! | `/livez`, `/readyz`, `/healthz`, `/metrics` | as every program of the workspace |
//! | `/status` | the report as JSON |
//! | `/` | the report as text |

mod budget;
mod report;
mod sink;
mod spool;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_process::clock::Clock;
use weir_process::health::Health;
use weir_process::http::{self, Request, Response};
use weir_process::metrics::Registry;
use weir_process::probes;
use weir_process::tls::{Encryption, Facts};

use crate::budget::Seen;
use crate::buffer::{Age, Parcel};
use crate::config::Config;
use crate::queue::Queue;
use crate::sampler::{SensorConfig, SharedState};
use crate::sender::waits::Wait;
use crate::sender::{Drain, LinkState};
use crate::spool::Spool;
pub(crate) use report::Report;

/// Handles to everything a report is made of.
pub(crate) struct Sources {
    /// What the agent was started with.
    pub(crate) config: Config,
    /// How long it runs.
    pub(crate) clock: Arc<dyn Clock>,
    /// When it was started, on the monotonic clock.
    pub(crate) started_ns: u64,
    /// How its parts fare.
    pub(crate) health: Health,
    /// What it counts.
    pub(crate) registry: Registry,
    /// What is between sampling and batching.
    pub(crate) queue: Queue<Parcel>,
    /// Where every reading is.
    pub(crate) spool: Spool,
    /// Where the link to the sink stands.
    pub(crate) link: watch::Receiver<LinkState>,
    /// What the link is encrypted with.
    pub(crate) encryption: watch::Receiver<Option<Encryption>>,
    /// What it shows of itself.
    pub(crate) own: watch::Receiver<Option<Facts>>,
    /// How the backlog drains.
    pub(crate) drain: watch::Receiver<Drain>,
    /// What is used up.
    pub(crate) budget: watch::Receiver<Seen>,
    /// How old a batch may become, now.
    pub(crate) age: Age,
    /// Which of its streams it leaves alone for now.
    pub(crate) waits: watch::Receiver<BTreeMap<[u8; 16], Wait>>,
    /// Its sensors.
    pub(crate) sensors: Vec<(SensorConfig, SharedState)>,
}

/// Writes `endpoints.json` into the data directory, so that whoever started the agent on a free port finds it:
/// `{"status":"127.0.0.1:4319"}`. The file appears whole, once the agent listens and owns its data directory.
pub(crate) fn write_endpoints(data_dir: &Path, listener: Option<&TcpListener>) {
    let address = listener.and_then(|listener| listener.local_addr().ok());
    let text =
        serde_json::json!({ "status": address.map(|address| address.to_string()) }).to_string();
    let (path, draft) = (
        data_dir.join("endpoints.json"),
        data_dir.join("endpoints.json.new"),
    );
    // A convenience: an agent that cannot write it samples and delivers all the same.
    if let Err(error) = fs::write(&draft, text).and_then(|()| fs::rename(&draft, &path)) {
        tracing::warn!(path = %path.display(), %error, "cannot write where the status page is");
    }
}

/// Serves until the token is cancelled.
pub(crate) async fn serve(listener: TcpListener, sources: Arc<Sources>, token: CancellationToken) {
    let answer = move |request: Request| {
        let response = answer(&request, &sources);
        async move { response }
    };
    http::serve(listener, http::Limits::default(), token, answer).await;
}

fn answer(request: &Request, sources: &Sources) -> Response {
    use ::http::{Method, StatusCode};
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return http::text(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET is answered here\n",
        );
    }
    let path = request.uri().path();
    if let Some(response) = probes::answer(path, &sources.health, &sources.registry) {
        return response;
    }
    match path {
        "/status" => match serde_json::to_vec(&Report::of(sources)) {
            Ok(body) => http::respond(StatusCode::OK, "application/json", body),
            Err(error) => http::text(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("cannot write the report: {error}\n"),
            ),
        },
        "/" => http::text(StatusCode::OK, Report::of(sources).to_text()),
        _ => http::text(
            StatusCode::NOT_FOUND,
            "there is /status, /metrics, /livez, /readyz and /healthz\n",
        ),
    }
}
