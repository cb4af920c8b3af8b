//! `POST /v1/sql`: one statement over the caller's snapshot.
//!
//! | `Accept` | answer |
//! |---|---|
//! | `application/json`, `*/*` or none | `{"columns":[{"name","type"}],"rows":[[...]],"truncated":false}` |
//! | `text/csv` | RFC 4180 with a header line |
//! | `application/vnd.apache.arrow.stream` | an Arrow IPC stream |
//!
//! Rows beyond `query.max_rows` are cut; the JSON and the header `x-weir-truncated: true` say so.
//! More statements at a time than `query.concurrency`, or `query.tenant_concurrency` of one tenant, are turned away
//! with 429.
//!
//! | kind | status |
//! |---|---|
//! | `bad_sql`, `invalid` | 400 |
//! | `forbidden` | 403 |
//! | `not_acceptable` | 406 |
//! | `timeout` (of the body) | 408 |
//! | `too_large` (the body) | 413 |
//! | `unsupported_coding` (the body is compressed) | 415 |
//! | `too_large` (the answer), `memory` | 422 |
//! | `busy` | 429 |
//! | `damaged_file` (its text names a missing or changed data file), `internal` | 500 |
//! | `unimplemented` (built without `sql`) | 501 |
//! | `timeout` | 504 |

#[cfg(feature = "sql")]
mod engine;
mod form;
mod turns;
#[cfg(not(feature = "sql"))]
mod without;

use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
use weir_process::http::{Request, Response, respond};

use super::Refusal;
use super::own::Own;
use crate::config::QueryConfig;
use crate::metrics::QueryMetrics;
use crate::model::Kind;

#[cfg(feature = "sql")]
use engine::Runner;
use form::Form;
use turns::{Taken, Turns};
#[cfg(not(feature = "sql"))]
use without::Runner;

/// Says that rows were cut.
const TRUNCATED: &str = "x-weir-truncated";

/// Runs statements, a bounded number at a time.
pub struct Sql {
    runner: Runner,
    turns: Turns,
}

/// An encoded answer.
struct Encoded {
    bytes: Vec<u8>,
    truncated: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    query: String,
}

impl Sql {
    /// Fails only when threads cannot be started.
    pub fn new(config: &QueryConfig, metrics: QueryMetrics) -> std::io::Result<Self> {
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Ok(Self {
            runner: Runner::new(config, metrics)?,
            turns: Turns::new(size(config.concurrency), size(config.tenant_concurrency)),
        })
    }

    pub(super) async fn answer(&self, own: &Own, request: &Request) -> Result<Response, Refusal> {
        let form = Form::wanted(request.headers())?;
        let query = question(request.body())?;
        let _turn = self.turns.take(own.tenant()).map_err(busy)?;
        let encoded = self.runner.run(own, &query, form).await?;
        let mut response = respond(StatusCode::OK, form.media_type(), encoded.bytes);
        if encoded.truncated {
            let headers = response.headers_mut();
            headers.insert(TRUNCATED, HeaderValue::from_static("true"));
        }
        Ok(response)
    }
}

/// The statement in a body.
fn question(body: &[u8]) -> Result<String, Refusal> {
    let wrong = |what: &str| {
        let text = format!("the body must be a JSON object, {{\"query\": \"select ...\"}}: {what}");
        Err(Refusal::of(Kind::Invalid, text))
    };
    // An array would do for serde: its elements in the order of the fields.
    match body.trim_ascii_start().first() {
        Some(b'{') => match serde_json::from_slice::<Question>(body) {
            Ok(question) => Ok(question.query),
            Err(error) => wrong(&error.to_string()),
        },
        Some(b'[') => wrong("it is an array"),
        Some(b'"') => wrong("it is a string"),
        Some(_) => wrong("it is none"),
        None => wrong("it is empty"),
    }
}

fn busy(taken: Taken) -> Refusal {
    let text = match taken {
        Taken::ByAll => {
            "too many statements at a time: try again, or raise the sink's query.concurrency"
        }
        Taken::ByTenant => {
            "too many statements of this tenant at a time: try again, or raise the sink's query.tenant_concurrency"
        }
    };
    Refusal {
        header: Some((header::RETRY_AFTER, HeaderValue::from_static("1"))),
        ..Refusal::of(Kind::Busy, text)
    }
}
