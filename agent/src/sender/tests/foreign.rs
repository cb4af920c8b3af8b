//! A sink that says what it has no ground for, and one whose stream cannot be begun anew for now.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::spool::tests::fork::no_room_for_a_copy;

#[tokio::test]
async fn a_refusal_of_what_is_not_outstanding_drops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, spool) = (Sink::start().await, spool_in(dir.path()).await);
    // One batch at a time: 4 is in the spool and was never sent, 1 is acknowledged.
    sink.lock().window_bytes = 0;
    sink.fault(Fault::AlsoRefused(4));
    sink.fault(Fault::AlsoRefused(1));
    fill(&spool, 4).await;
    let running = start(&spool, sender_config(sink.url()));
    until_acked(&spool, 40).await;
    assert_eq!(sink.kept(running.stream).stored_readings(), 40);
    assert!(DeadLetters::new(dir.path()).list().unwrap().is_empty());
    let failures = running.metric("weir_agent_sender_retries_total{code=\"not_a_sink\"}");
    assert_eq!(failures, 2);
    check(&sink, &spool);
    running.stop().await;
}

#[tokio::test]
async fn a_stop_ends_a_fork_that_waits_for_room() {
    let (_memory, _config, spool) = no_room_for_a_copy().await;
    let sink = Sink::start().await;
    let forked = spool.next_stream().unwrap();
    let other_half = sink::Kept {
        durable_through: 9,
        ..sink::Kept::default()
    };
    sink.lock().streams.insert(forked.id.to_vec(), other_half);
    let short = SenderConfig {
        drain: Duration::from_millis(200),
        ..sender_config(sink.url())
    };
    let running = start(&spool, short);
    until("the fork was tried", || {
        running.metric("weir_agent_sender_retries_total{code=\"forked\"}") == 1
    })
    .await;
    running.stop().await;
    assert_eq!(spool.next_stream().unwrap().id, forked.id);
    assert_eq!(spool.ledger().totals.spooled, 1_200_010);
}

/// Another program has the sink's port: an HTTP/1 server, which answers what it does not understand and hangs up.
///
/// Mutation: what it says taken for a lost connection.
#[tokio::test]
async fn a_server_of_http_1_on_the_sinks_port_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, spool) = (Sink::start().await, spool_in(dir.path()).await);
    fill(&spool, 2).await;
    let registry = Registry::new("weir_agent");
    let config = sender_config(sink.url());
    let sender = Sender::new(config, spool.clone(), &Health::new(clock()), &registry).unwrap();
    let link = sender.link_state();
    let token = CancellationToken::new();
    let task = tokio::spawn(sender.run(token.clone()));
    until_acked(&spool, 20).await;
    sink.kill();
    let state = Arc::clone(&sink.state);
    until("every call has ended", || Arc::strong_count(&state) == 2).await;
    let listener = tokio::net::TcpListener::bind(sink.address).await.unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut asked = [0; 1024];
                let _ = stream.read(&mut asked).await;
                let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
                let _ = stream.write_all(answer).await;
                let _ = stream.read(&mut asked).await;
            });
        }
    });
    spool.append(draft(3, 10)).await.unwrap();
    until("it is named", || {
        matches!(&*link.borrow(), LinkState::Waiting { reason } if reason.contains("is no weir sink"))
    })
    .await;
    server.abort();
    token.cancel();
    spool.finish().await.unwrap();
    within(task).await.unwrap();
    assert_eq!(spool.ledger().totals.spooled, 10);
}
