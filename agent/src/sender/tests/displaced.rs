//! Somebody else delivers this agent's stream: it waits, says so, and keeps what is read.

use super::*;

/// What a displaced agent leaves the other one.
const WAIT: Duration = Duration::from_secs(300);

fn taken_over() -> Status {
    Status::aborted("a newer connection has taken this stream over")
}

/// Moves tokio's clock on by `by`, and lets real sockets go on.
pub(super) async fn later(by: Duration) {
    tokio::time::pause();
    tokio::time::advance(by).await;
    tokio::time::resume();
}

/// Mutation: a wait of a minute calls again before its time.
#[tokio::test]
async fn a_displaced_agent_waits_five_minutes_and_says_so_and_keeps_spooling() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start().await;
    let spool = spool_in(dir.path()).await;
    sink.fault(Fault::OnBatch(taken_over()));
    let running = start(&spool, sender_config(sink.url()));
    fill(&spool, 20).await;
    until("it says that it was displaced", || {
        running.metric("weir_agent_sender_displaced") == 1
    })
    .await;
    assert_eq!(sink.lock().calls, 1);
    later(WAIT - Duration::from_secs(5)).await;
    for n in 21..=40 {
        within(spool.append(draft(n, 10))).await.unwrap();
    }
    committed(&spool).await;
    assert_eq!(sink.lock().calls, 1, "it leaves the other one alone");
    let totals = spool.ledger().totals;
    assert_eq!((totals.acked, totals.spooled), (0, 400));
    later(Duration::from_secs(5)).await;
    until_acked(&spool, 400).await;
    assert_eq!(running.metric("weir_agent_sender_displaced"), 0);
    assert_eq!(sink.kept(running.stream).stored_readings(), 400);
    check(&sink, &spool);
    running.stop().await;
}

/// Only the stream that somebody else delivers waits. Mutation: a lane that waits for both.
#[tokio::test]
async fn what_is_read_now_is_delivered_while_another_delivers_the_backlog() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start().await;
    let old = spool_in(dir.path()).await;
    let backlog = old.live_stream_id().unwrap();
    fill(&old, 30).await;
    drop(old);
    let spool = spool_in(dir.path()).await;
    sink.lock().barred = Some((backlog, taken_over()));
    let running = start(&spool, sender_config(sink.url()));
    until("it says that it was displaced", || {
        running.metric("weir_agent_sender_displaced") == 1
    })
    .await;
    fill(&spool, 20).await;
    until("the newest readings are there", || {
        sink.kept(running.stream).stored_readings() == 200
    })
    .await;
    assert_eq!(running.metric("weir_agent_sender_connected"), 1);
    assert_eq!(sink.kept(backlog).stored_readings(), 0);
    sink.lock().barred = None;
    later(WAIT).await;
    until("the backlog is closed", || sink.kept(backlog).closed).await;
    assert_eq!(sink.kept(backlog).stored_readings(), 300);
    check(&sink, &spool);
    running.stop().await;
}

/// A stop does not wait for the other one: what is left stays in the spool.
#[tokio::test]
async fn a_displaced_agent_stops_at_once_and_keeps_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start().await;
    let spool = spool_in(dir.path()).await;
    sink.lock().barred = Some((running_id(&spool), taken_over()));
    let running = start(&spool, sender_config(sink.url()));
    fill(&spool, 20).await;
    until("it says that it was displaced", || {
        running.metric("weir_agent_sender_displaced") == 1
    })
    .await;
    running.stop().await;
    assert_eq!(spool.ledger().totals.spooled, 200);
}

fn running_id(spool: &Spool) -> [u8; 16] {
    spool.live_stream_id().unwrap()
}
