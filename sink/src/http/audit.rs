//! The audit log of the caller's tenant.

use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use weir_process::http::Response;

use super::own::Own;
use super::{Refusal, json};
use crate::access::Access;
use crate::catalog::{Deed, Deeds};
use crate::model::Kind;

/// What is shown unless somebody asks for more or less.
pub(crate) const SINCE: &str = "24h";
/// Most lines of one answer.
pub(crate) const MAX_LINES: u32 = 10_000;

/// What `GET /v1/audit` answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AuditLog {
    /// Oldest first.
    pub(crate) lines: Vec<Deed>,
}

pub(super) async fn answer(access: &Access, own: &Own, query: &str) -> Result<Response, Refusal> {
    let (since, limit) = parse(query)?;
    let Some(catalog) = access.catalog() else {
        return Ok(json(StatusCode::OK, &AuditLog::default()));
    };
    let wanted = Deeds {
        since_ns: since_ns(own.now_ns(), since),
        tenant: Some(own.tenant().to_string()),
        limit,
    };
    let lines = catalog.deeds(&wanted).await.map_err(|error| {
        tracing::error!(%error, "the audit log cannot be read");
        Refusal::of(
            Kind::Unavailable,
            "the audit log cannot be read now; the log says more",
        )
    })?;
    Ok(json(StatusCode::OK, &AuditLog { lines }))
}

/// The moment so long before `now_ns`.
pub(crate) fn since_ns(now_ns: i64, since: Duration) -> i64 {
    let ns = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    now_ns.saturating_sub_unsigned(ns)
}

fn parse(query: &str) -> Result<(Duration, u32), Refusal> {
    let invalid = |text: String| Refusal::of(Kind::Invalid, text);
    let mut since = SINCE.to_owned();
    let mut limit = MAX_LINES;
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "since" => since = value.into_owned(),
            "limit" => {
                let read = value
                    .parse()
                    .ok()
                    .filter(|limit| (1..=MAX_LINES).contains(limit));
                limit = read.ok_or_else(|| invalid(format!("limit must be 1 to {MAX_LINES}")))?;
            }
            _ => {
                return Err(invalid(format!(
                    "unknown parameter {name}: use since or limit"
                )));
            }
        }
    }
    let read = humantime::parse_duration(&since);
    let since =
        read.map_err(|_| invalid("since must be a duration, as in 90m or 7d".to_owned()))?;
    Ok((since, limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_back_is_read_and_bounded() {
        assert_eq!(parse("").unwrap(), (Duration::from_secs(86_400), MAX_LINES));
        assert_eq!(
            parse("since=90m&limit=5").unwrap(),
            (Duration::from_secs(5400), 5)
        );
        for bad in ["since=yesterday", "limit=0", "limit=10001", "tenant=other"] {
            assert_eq!(
                parse(bad).unwrap_err().status,
                StatusCode::BAD_REQUEST,
                "{bad}"
            );
        }
        assert_eq!(
            since_ns(5, Duration::MAX),
            5_i64.saturating_sub_unsigned(u64::MAX)
        );
    }
}
