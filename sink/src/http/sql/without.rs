//! Stands in for the engine in a build without the feature `sql`.

use super::{Encoded, Form};
use crate::config::QueryConfig;
use crate::http::Refusal;
use crate::http::own::Own;
use crate::metrics::QueryMetrics;
use http::StatusCode;

pub(super) struct Runner;

impl Runner {
    #[allow(clippy::unnecessary_wraps, reason = "the engine's signature")]
    pub(super) fn new(_: &QueryConfig, _: QueryMetrics) -> std::io::Result<Self> {
        Ok(Self)
    }

    #[allow(clippy::unused_async, reason = "the engine's signature")]
    pub(super) async fn run(&self, _: &Own, _: &str, _: Form) -> Result<Encoded, Refusal> {
        Err(Refusal {
            status: StatusCode::NOT_IMPLEMENTED,
            kind: "unimplemented",
            message: "this sink was built without SQL: build it with the feature sql".into(),
            header: None,
        })
    }
}
