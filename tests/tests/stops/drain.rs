//! SIGTERM while a big backlog drains.

use weir_tests::counting::committed;
use weir_tests::proxy::Proxy;
use weir_tests::wait::until;
use weir_tests::world::Sink;

use crate::{Counted, LIMIT, SINK, settings};

/// Readings held before the sink comes.
const BACKLOG: u64 = 2000;

/// The backlog takes minutes at this rate; a stop in the middle of it ends within its grace, and
/// the next life, at full rate, delivers the rest.
/// Red when a stop waits until everything is delivered, or forgets what is not.
#[tokio::test]
async fn stop_during_a_drain_ends_in_time_and_resumes_later() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = Sink::start(place.path(), SINK).await;
    let proxy = Proxy::start().await;
    let slow = [
        ("RATE_REQUESTS_PER_SECOND", "4"),
        ("REQUEST_MAX_BYTES", "1KiB"),
        ("SHUTDOWN_GRACE", "6s"),
    ];
    let all: Vec<_> = settings().into_iter().chain(slow).collect();
    let mut counted = Counted::start_with(place.path(), "drain", &proxy.url(), &all).await;
    until("a backlog", LIMIT, || async {
        let status = counted.agent.try_status().await?;
        (committed(&status) >= BACKLOG).then_some(())
    })
    .await;
    proxy.to(sink.grpc);
    until("the drain to begin", LIMIT, || async {
        (sink.closed_ledger("drain").await.stored > 0).then_some(())
    })
    .await;
    counted.stop().await;
    let sums = sink.closed_ledger("drain").await;
    assert!(
        sums.spooled > BACKLOG / 10,
        "{sums:?}: the backlog was too small to stop in the middle of it"
    );

    counted.agent.set("RATE_REQUESTS_PER_SECOND", "0");
    counted.agent.set("REQUEST_MAX_BYTES", "1MiB");
    counted.restart().await;
    counted.finish(&sink).await;
}

/// The same where nobody answers: the stop does not wait for the sink's silence to be over.
/// Red when the time to drain is not bounded.
#[tokio::test]
async fn stop_towards_a_silent_sink_ends_in_time() {
    let place = tempfile::tempdir().expect("a directory");
    // Connections are accepted by the system and never looked at.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let address = silent.local_addr().expect("a bound listener");
    let url = format!("http://{address}");
    let mut counted = Counted::start(place.path(), "silent", &url).await;
    until("a backlog", LIMIT, || async {
        let status = counted.agent.try_status().await?;
        (committed(&status) >= 100).then_some(())
    })
    .await;
    counted.stop().await;
    let sink = Sink::start(place.path(), SINK).await;
    counted.agent.set("SINK_URL", &sink.url());
    counted.restart().await;
    counted.finish(&sink).await;
}
