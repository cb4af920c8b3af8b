//! What an orchestrator and a scraper ask for: `/livez`, `/readyz` (also `/healthz`) and `/metrics`.
//!
//! | path | 200 | 503 |
//! |---|---|---|
//! | `/livez` | the program can recover by itself | only a restart helps |
//! | `/readyz`, `/healthz` | every stage is fine; one line more for each that asks to be seen to | one line `stage: reason, since when` for each that is not |
//! | `/metrics` | all metrics in the OpenMetrics text format | - |
//!
//! A plain function, so that any HTTP server can mount it.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

use crate::health::{Failing, Health};
use crate::metrics::{self, Registry};

/// The paths that [`answer`] knows.
pub const PATHS: [&str; 4] = ["/livez", "/readyz", "/healthz", "/metrics"];

/// The answer to a GET of `path`, or `None` when it is not one of [`PATHS`].
pub fn answer(path: &str, health: &Health, registry: &Registry) -> Option<Response<Full<Bytes>>> {
    match path {
        "/livez" => Some(verdict(health.live(), Vec::new())),
        "/readyz" | "/healthz" => Some(verdict(health.ready(), health.notes())),
        "/metrics" => Some(reply(
            StatusCode::OK,
            metrics::CONTENT_TYPE,
            registry.encode(),
        )),
        _ => None,
    }
}

/// The same for whoever may not know more: names of stages that are not fine, without why. Nothing but probes.
pub fn brief(path: &str, health: &Health) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    let result = if path == "/livez" {
        health.live()
    } else {
        health.ready()
    };
    match result {
        Ok(()) => reply(StatusCode::OK, TEXT, "ok\n".to_owned()),
        Err(failing) => {
            let line = |one: Failing| format!("{}: not ready\n", one.stage);
            let text = failing.into_iter().map(line).collect();
            reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
        }
    }
}

fn verdict(result: Result<(), Vec<Failing>>, notes: Vec<Failing>) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    match result {
        Ok(()) => reply(StatusCode::OK, TEXT, format!("ok\n{}", lines(notes))),
        Err(failing) => {
            let text = lines(failing) + &lines(notes);
            reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
        }
    }
}

fn lines(of: Vec<Failing>) -> String {
    let line = |one: Failing| format!("{}: {one}\n", one.stage);
    of.into_iter().map(line).collect()
}

fn reply(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt;

    use super::*;
    use crate::clock::ManualClock;

    async fn ask(path: &str, health: &Health) -> (u16, String) {
        let response = answer(path, health, &Registry::new("weir_test")).unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_names_every_failing_stage_and_liveness_stays() {
        let health = Health::new(Arc::new(ManualClock::new(0)));
        let journal = health.stage("journal", None);
        health.stage("fold", None).failing("catalog locked");
        let since = "since 1970-01-01T00:00:00Z (0 s)";
        let expected = format!("fold: catalog locked, {since}\njournal: starting, {since}\n");
        assert_eq!(ask("/readyz", &health).await, (503, expected.clone()));
        assert_eq!(ask("/healthz", &health).await, (503, expected));
        assert_eq!(ask("/livez", &health).await, (200, "ok\n".to_owned()));
        journal.dead("fsync failed");
        let expected = format!("journal: fsync failed, {since}\n");
        assert_eq!(ask("/livez", &health).await, (503, expected));
    }

    /// Red when a note makes the program unready, or is not shown.
    #[tokio::test]
    async fn a_note_is_shown_and_harms_nobody() {
        let health = Health::new(Arc::new(ManualClock::new(0)));
        let files = health.stage("files", None);
        files.note("one is missing");
        let text = "ok\nfiles: one is missing, since 1970-01-01T00:00:00Z (0 s)\n";
        assert_eq!(ask("/readyz", &health).await, (200, text.to_owned()));
        assert_eq!(ask("/livez", &health).await, (200, "ok\n".to_owned()));
        files.ok();
        assert_eq!(ask("/readyz", &health).await, (200, "ok\n".to_owned()));
    }

    /// Red when a reason, which may name a file or an agent, is told to everybody.
    #[tokio::test]
    async fn whoever_may_not_know_more_is_told_the_stage_alone() {
        let health = Health::new(Arc::new(ManualClock::new(0)));
        health.stage("fold", None).failing("/secret/path is gone");
        health.stage("files", None).note("samples/tenant=other");
        let told = brief("/readyz", &health);
        assert_eq!(told.status(), 503);
        let body = told.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "fold: not ready\n");
        assert_eq!(brief("/livez", &health).status(), 200);
    }

    #[tokio::test]
    async fn every_listed_path_is_answered_and_no_other() {
        let health = Health::new(Arc::new(ManualClock::new(0)));
        let registry = Registry::new("weir_test");
        for path in PATHS {
            assert!(answer(path, &health, &registry).is_some(), "{path}");
        }
        assert!(answer("/", &health, &registry).is_none());
        assert!(answer("/metrics/", &health, &registry).is_none());
        let metrics = answer("/metrics", &health, &registry).unwrap();
        let content_type = &metrics.headers()[header::CONTENT_TYPE];
        assert_eq!(content_type, metrics::CONTENT_TYPE);
    }
}
