//! A sink that says what it has no ground for.

use super::*;

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
