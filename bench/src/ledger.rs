//! The sink's verdict over the streams of one run.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use serde_json::Value;

use crate::http::get;

/// The sink has this long to count what it has acknowledged.
const SETTLE: Duration = Duration::from_secs(60);

/// What the sink's ledger says of the run's streams.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    /// Readings the run's streams produced, as the sink knows it.
    pub(crate) produced: u64,
    /// Readings stored.
    pub(crate) stored: u64,
    /// Signed sum over the streams.
    pub(crate) unexplained: i64,
    /// Whether stored equals what the senders were acknowledged, and nothing is unexplained.
    pub(crate) closed: bool,
}

/// Asks `GET /v1/ledger` until the sink has folded everything it acknowledged.
pub(crate) async fn verdict(http: &str, prefix: &str, sent: u64) -> anyhow::Result<Verdict> {
    let end = Instant::now() + SETTLE;
    loop {
        let ledger = fetch(http).await?;
        let verdict = sum(&ledger, prefix, sent)?;
        let pending = streams(&ledger, prefix)?
            .iter()
            .filter_map(|stream| stream["pending_fold"].as_u64())
            .sum::<u64>();
        if (verdict.closed && pending == 0) || Instant::now() > end {
            return Ok(verdict);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn streams<'a>(ledger: &'a Value, prefix: &str) -> anyhow::Result<Vec<&'a Value>> {
    let all = ledger["streams"]
        .as_array()
        .context("the ledger has no streams")?;
    Ok(all
        .iter()
        .filter(|stream| {
            stream["agent"]
                .as_str()
                .is_some_and(|agent| agent.starts_with(prefix))
        })
        .collect())
}

fn sum(ledger: &Value, prefix: &str, sent: u64) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::default();
    for stream in streams(ledger, prefix)? {
        verdict.produced += stream["produced"].as_u64().context("produced")?;
        verdict.stored += stream["stored"].as_u64().context("stored")?;
        verdict.unexplained += stream["unexplained"].as_i64().context("unexplained")?;
    }
    verdict.closed = verdict.stored == sent && verdict.unexplained == 0;
    Ok(verdict)
}

/// `GET /v1/ledger`.
pub(crate) async fn fetch(http: &str) -> anyhow::Result<Value> {
    Ok(serde_json::from_slice(&get(http, "/v1/ledger").await?)?)
}
