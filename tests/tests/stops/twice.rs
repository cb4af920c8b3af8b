//! A second SIGTERM: the operator does not want to wait, and what is not delivered stays stored.

use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use weir_tests::counting::committed;
use weir_tests::proxy::Proxy;
use weir_tests::wait::until;
use weir_tests::world::Sink;

use crate::{Counted, LIMIT, SINK, stop_sink};

/// 128 and the number of SIGTERM.
const ENDED_AT_ONCE: i32 = 143;

/// An agent that drains towards a sink that never answers ends at the second SIGTERM, at once; its
/// next life delivers what it had committed.
/// Red when a stop cannot be cut short, or takes something with it that was committed.
#[tokio::test]
async fn second_sigterm_ends_a_draining_agent_at_once_and_loses_nothing_committed() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = Sink::start(place.path(), SINK).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let proxy = Proxy::start().await;
    proxy.to(silent.local_addr().expect("a bound listener"));
    let mut counted = Counted::start(place.path(), "twice", &proxy.url()).await;
    let status = until("readings to be committed", LIMIT, || async {
        let status = counted.agent.try_status().await?;
        (committed(&status) >= 100).then_some(status)
    })
    .await;
    counted.lives[0].hear(&status);

    counted.agent.ask_to_stop();
    until("the stop to begin", LIMIT, || async {
        counted.agent.log().contains("stopping").then_some(())
    })
    .await;
    let began = Instant::now();
    let exited = counted.agent.terminate().await;
    let took = began.elapsed();
    counted.lives[0].end();
    assert_eq!(
        exited.code(),
        Some(ENDED_AT_ONCE),
        "{}",
        counted.agent.log()
    );
    assert!(took < Duration::from_secs(3), "at once, not after {took:?}");

    proxy.cut();
    proxy.to(sink.grpc);
    counted.restart().await;
    counted.finish(&sink).await;
}

/// The same for the sink: what it acknowledged is there, what it did not comes again.
#[tokio::test]
async fn second_sigterm_ends_the_sink_and_loses_nothing() {
    let place = tempfile::tempdir().expect("a directory");
    let mut sink = Sink::start(place.path(), SINK).await;
    let counted = Counted::start(place.path(), "twice-sink", &sink.url()).await;
    for _ in 0..4 {
        let before = sink.closed_ledger("twice-sink").await.stored;
        until("readings to arrive", LIMIT, || async {
            (sink.closed_ledger("twice-sink").await.stored > before + 50).then_some(())
        })
        .await;
        sink.ask_to_stop();
        sink.ask_to_stop();
        let exited = sink.ended("the sink to stop").await;
        // The first may have been all it took.
        assert!(
            exited.success() || exited.code() == Some(ENDED_AT_ONCE),
            "{exited}:\n{}",
            sink.log()
        );
        sink.restart().await;
    }
    counted.finish(&sink).await;
    stop_sink(&mut sink).await;
}
