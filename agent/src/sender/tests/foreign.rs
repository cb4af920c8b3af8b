//! A sink that says what it has no ground for, and one whose stream cannot be begun anew for now.

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
