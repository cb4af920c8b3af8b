//! T6, T8, and the agent that is pointed at something else: what an absent sink costs is time.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use weir_tests::wait::until;
use weir_tests::world::{Agent, Sink};

use crate::stored::{LIMIT, assert_counted, counting, own, readings, wait_for, wait_own};

/// A port of loopback that nobody listens on now.
async fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("a bound listener")
}

/// T6: the sink comes long after the agent; every reading since the agent's start arrives.
#[tokio::test]
async fn agent_started_first_delivers_everything_since_its_start() {
    let place = tempfile::tempdir().expect("a directory");
    let address = free_address().await;
    let settings = counting(&[("SAMPLE_INTERVAL", "20ms"), ("BATCH_MAX_READINGS", "10")]);
    let url = format!("http://{address}");
    let mut agent = Agent::start(place.path(), "t6", &url, &settings).await;
    wait_own(&agent, "spooled", 150).await;
    assert!(agent.runs(), "an absent sink is no reason to end");

    let listen = address.to_string();
    let sink = Sink::start(place.path(), &[("GRPC_LISTEN", &listen)]).await;
    wait_for(&sink, "t6", 200).await;
    assert!(agent.terminate().await.success());
    let stored = readings(&sink, "t6").await;
    assert_counted(&stored, stored.len() as u64);
    assert_eq!(sink.closed_ledger("t6").await.spooled, 0);
}

/// T8: both stop while batches wait; after both start again all are delivered, none twice.
#[tokio::test]
async fn queued_batches_survive_both_programs_stopping() {
    let place = tempfile::tempdir().expect("a directory");
    let mut sink = Sink::start(place.path(), &[]).await;
    let settings = counting(&[
        ("SAMPLE_INTERVAL", "20ms"),
        ("BATCH_MAX_READINGS", "10"),
        ("SHUTDOWN_GRACE", "3s"),
    ]);
    let mut agent = Agent::start(place.path(), "t8", &sink.url(), &settings).await;
    wait_for(&sink, "t8", 30).await;
    assert!(sink.terminate().await.success());
    let before = own(&agent, "produced").await;
    wait_own(&agent, "produced", before + 50).await;
    let status = agent.terminate().await;
    assert!(status.success(), "{status}");

    sink.restart().await;
    agent.restart().await;
    // The ledger counts what the first life left too: it is the stream of this one that has to grow.
    until("50 readings of the second life", LIMIT, || async {
        let status = agent.status().await;
        let mut streams = status["streams"].as_array()?.iter();
        let live = streams.find(|stream| stream["live"] == true)?;
        (live["produced"].as_u64()? >= 50).then_some(())
    })
    .await;
    assert!(agent.terminate().await.success());
    let sums = sink.closed_ledger("t8").await;
    assert_eq!(sums.spooled, 0, "{sums:?}");
    // The device counts from 1 in each life of the agent: two runs, each without a gap.
    let mut stored = readings(&sink, "t8").await;
    stored.sort_unstable();
    let second = stored
        .iter()
        .skip(1)
        .position(|(_, value)| *value == 1)
        .expect("a second life")
        + 1;
    assert_counted(&stored[..second], second as u64);
    assert_counted(&stored[second..], (stored.len() - second) as u64);
    assert!(second as u64 >= before + 50, "{second} of {before} + 50");
}

/// An agent pointed at a web server says so, keeps trying, and loses nothing.
#[tokio::test]
async fn something_that_is_not_a_sink_is_named_and_nothing_is_lost() {
    let place = tempfile::tempdir().expect("a directory");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound listener");
    let stranger = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream
                    .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
                    .await;
            });
        }
    });
    let settings = counting(&[("SAMPLE_INTERVAL", "20ms"), ("BATCH_MAX_READINGS", "10")]);
    let url = format!("http://{address}");
    let mut agent = Agent::start(place.path(), "stranger", &url, &settings).await;
    until("the log to name the remedy", LIMIT, || async {
        agent.log().contains("WEIR_AGENT_SINK_URL").then_some(())
    })
    .await;
    wait_own(&agent, "spooled", 100).await;
    assert!(agent.runs());

    stranger.abort();
    let _ = stranger.await;
    let listen = address.to_string();
    let sink = Sink::start(place.path(), &[("GRPC_LISTEN", &listen)]).await;
    wait_for(&sink, "stranger", 150).await;
    assert!(agent.terminate().await.success());
    let stored = readings(&sink, "stranger").await;
    assert_counted(&stored, stored.len() as u64);
}
