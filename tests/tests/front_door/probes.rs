//! What an orchestrator asks: probes, gRPC health, metrics; and the programs' own `health`.

use http::StatusCode;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use weir_tests::faulty::{FaultySink, Plan};
use weir_tests::wait::until;
use weir_tests::world::{Agent, Sink, run_once};
use weir_tests::{http as client, programs};

use crate::stored::LIMIT;

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

/// An ack into a directory that is gone would be a lie. Red when the paths are not looked at.
#[tokio::test]
async fn sink_whose_data_directory_is_gone_says_so_and_stops() {
    let place = tempfile::tempdir().expect("a directory");
    let mut sink = Sink::start(place.path(), &[]).await;
    let url = format!("http://{}", sink.http);
    let ask = || run_once(&programs::sink(), &["health", "--url", &url], &[]);
    assert!(ask().status.success());
    std::fs::rename(sink.data(), place.path().join("away")).expect("moved");
    until("an unhealthy sink", LIMIT, || async {
        (!ask().status.success()).then_some(())
    })
    .await;
    let status = sink.ended("a sink without its directory to stop").await;
    assert_eq!(status.code(), Some(74), "{}", sink.log());
    assert!(sink.log().contains("is gone"), "{}", sink.log());
}

/// Red when the path is not looked at: the agent would go on into a directory without a name.
#[tokio::test]
async fn agent_whose_spool_is_gone_says_so() {
    let place = tempfile::tempdir().expect("a directory");
    let agent = Agent::start(place.path(), "robbed", "http://127.0.0.1:1", &[]).await;
    std::fs::rename(agent.data().join("spool"), place.path().join("away")).expect("moved");
    let body = until("an unready agent", LIMIT, || async {
        let (status, body) = client::get(agent.status, "/readyz").await.ok()?;
        (status == StatusCode::SERVICE_UNAVAILABLE).then_some(body)
    })
    .await;
    let body = String::from_utf8_lossy(&body).into_owned();
    // The spool looks at the same moment, and makes it anew for the next stream.
    let seen = ["is gone", "was replaced"];
    assert!(
        body.contains("data: ") && seen.iter().any(|words| body.contains(words)),
        "{body}"
    );
    assert!(body.contains(", since 20"), "{body}");
}

/// Red with the limit of `delivery` an hour.
#[tokio::test]
async fn agent_that_gets_no_acks_says_so_while_it_goes_on() {
    let place = tempfile::tempdir().expect("a directory");
    let plan = Plan {
        silent: true,
        ..Plan::default()
    };
    let sink = FaultySink::start(plan).await;
    let url = format!("http://{}", sink.address);
    let settings = [
        ("TIMEOUT_ACK", "1s"),
        ("RETRY_MIN_DELAY", "50ms"),
        ("RETRY_MAX_DELAY", "100ms"),
        ("SAMPLE_INTERVAL", "100ms"),
    ];
    let agent = Agent::start(place.path(), "unheard", &url, &settings).await;
    until("delivery, named as what stalls", LIMIT, || async {
        let (status, body) = client::get(agent.status, "/readyz").await.ok()?;
        let body = String::from_utf8_lossy(&body).into_owned();
        let named = body.starts_with("delivery: the sink lets the agent in");
        (status == StatusCode::SERVICE_UNAVAILABLE && named).then_some(())
    })
    .await;
    sink.plan(Plan::default());
    until("acks make it ready", LIMIT, || async {
        let (status, _) = client::get(agent.status, "/readyz").await.ok()?;
        (status == StatusCode::OK).then_some(())
    })
    .await;
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

/// Every metric stands in the operators' table. Red when one is added, or given another name, and not there.
#[tokio::test]
async fn every_metric_is_in_the_operators_table() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = Sink::start(place.path(), &[]).await;
    let agent = Agent::start(place.path(), "told", &sink.url(), &[]).await;
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
    let page = std::fs::read_to_string(page).expect("docs/operations.md");
    for address in [sink.http, agent.status] {
        let (_, metrics) = client::get(address, "/metrics").await.expect("an answer");
        let metrics = String::from_utf8(metrics.to_vec()).expect("text");
        let named = metrics
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "));
        for (name, kind) in named.filter_map(|line| line.split_once(' ')) {
            let end = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            let row = format!("| `{name}{end}` | {kind} |");
            assert!(page.contains(&row), "docs/operations.md has no row {row}");
        }
    }
}
