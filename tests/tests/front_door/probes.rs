//! What an orchestrator asks: probes, gRPC health, metrics; and the programs' own `health`.

use http::StatusCode;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use weir_tests::world::{Agent, Sink, run_once};
use weir_tests::{http as client, programs};

#[tokio::test]
async fn sink_answers_probes_on_both_ports() {
    let place = tempfile::tempdir().expect("a directory");
    let mut sink = Sink::start(place.path(), &[]).await;
    for path in ["/livez", "/readyz", "/healthz"] {
        let (status, body) = client::get(sink.http, path).await.expect("an answer");
        assert_eq!(status, StatusCode::OK, "{path}: {body:?}");
    }
    let (_, metrics) = client::get(sink.http, "/metrics").await.expect("an answer");
    let metrics = String::from_utf8(metrics.to_vec()).expect("text");
    for name in [
        "weir_sink_build_info{",
        "weir_sink_ledger_unexplained_readings 0",
        "weir_sink_journal_syncs_total",
    ] {
        assert!(metrics.contains(name), "no {name} in\n{metrics}");
    }

    let channel = Endpoint::from_shared(sink.url())
        .expect("a URL")
        .connect()
        .await
        .expect("the sink listens");
    let mut health = HealthClient::new(channel);
    for service in ["", "weir.v1.DeliveryService"] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let answer = health.check(request).await.expect("a known service");
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    }

    let url = format!("http://{}", sink.http);
    let healthy = run_once(&programs::sink(), &["health", "--url", &url], &[]);
    assert!(healthy.status.success());
    let status = sink.terminate().await;
    assert!(status.success(), "{status}:\n{}", sink.log());
    let gone = run_once(&programs::sink(), &["health", "--url", &url], &[]);
    assert!(!gone.status.success());
}

/// An absent sink is no reason to restart an agent: it keeps what it samples.
#[tokio::test]
async fn agent_is_ready_without_a_sink() {
    let place = tempfile::tempdir().expect("a directory");
    let agent = Agent::start(place.path(), "alone", "http://127.0.0.1:1", &[]).await;
    for path in ["/livez", "/readyz"] {
        let (status, body) = client::get(agent.status, path).await.expect("an answer");
        assert_eq!(status, StatusCode::OK, "{path}: {body:?}");
    }
    let listen = agent.status.to_string();
    let healthy = run_once(
        &programs::agent(),
        &["health"],
        &[("WEIR_AGENT_STATUS_LISTEN", &listen)],
    );
    assert!(
        healthy.status.success(),
        "{}",
        String::from_utf8_lossy(&healthy.stderr)
    );
    let status = agent.status().await;
    assert_eq!(status["sink"]["connected"], false, "{status}");
}
