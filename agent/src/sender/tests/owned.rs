//! A stream that the sink has under another agent's name: it waits, and nothing else does.

use std::collections::HashMap;

use tonic_types::{ErrorDetails, StatusExt as _};
use weir_proto::reasons;

use super::displaced::later;
use super::*;
use crate::sender::waits::Why;

/// Of the streams that wait, by [`Waits`](crate::sender::waits::Waits).
const FOREIGN: &str = "weir_agent_sender_waiting_streams{reason=\"foreign\"}";

/// Attempts that ended so.
const REFUSED: &str = "weir_agent_sender_retries_total{code=\"permission_denied\"}";

fn not_its_own() -> Status {
    let details =
        ErrorDetails::with_error_info(reasons::FOREIGN_STREAM, reasons::DOMAIN, HashMap::new());
    let text = "stream 00 belongs to agent \"press-7\"";
    Status::with_error_details(tonic::Code::PermissionDenied, text, details)
}

/// A stream of 300 readings that the sink bars, and behind it one of an earlier run with 100 and the live one.
async fn barred(dir: &Path, sink: &Sink) -> (Spool, [[u8; 16]; 2]) {
    let mut earlier = Vec::new();
    for batches in [30, 10] {
        let spool = spool_in(dir).await;
        fill(&spool, batches).await;
        earlier.push(spool.live_stream_id().unwrap());
    }
    let ids = [earlier[0], earlier[1]];
    sink.lock().barred = Some((ids[0], not_its_own()));
    (spool_in(dir).await, ids)
}

fn in_order(sink: &Sink) -> SenderConfig {
    SenderConfig {
        order: Order::OldestFirst,
        // So that the waits are far longer than what runs between them.
        retry_max: Duration::from_secs(100),
        ..sender_config(sink.url())
    }
}

/// Mutations, each red: a refusal of one stream that is taken for one of the agent; a lane that waits for its oldest; one that
/// does not leave the live stream for it when its time has come.
#[tokio::test]
async fn a_stream_that_the_sink_refuses_waits_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start().await;
    let (spool, [foreign, earlier]) = barred(dir.path(), &sink).await;
    let running = start(&spool, in_order(&sink));
    fill(&spool, 20).await;
    until("the others are delivered", || {
        sink.kept(earlier).closed && sink.kept(running.stream).stored_readings() == 200
    })
    .await;
    assert_eq!(running.metric(FOREIGN), 1);
    assert_eq!(running.metric("weir_agent_sender_connected"), 1);
    assert_eq!(sink.lock().barred_calls, 1);
    until("all but its own readings are acknowledged", || {
        let totals = spool.ledger().totals;
        (totals.spooled, totals.dropped.len()) == (300, 0)
    })
    .await;

    // Asked again, each time later, and what is read meanwhile is delivered.
    for (asked, wait) in [(1, 300), (2, 600)] {
        later(Duration::from_secs(wait - 5)).await;
        spool.append(draft(20 + asked, 10)).await.unwrap();
        until("what is read is delivered", || {
            sink.kept(running.stream).stored_readings() == 200 + asked * 10
        })
        .await;
        assert_eq!(sink.lock().barred_calls, asked, "too early");
        later(Duration::from_secs(wait / 3 + 10)).await;
        until("it is asked again, and has its answer", || {
            running.metric(REFUSED) == asked + 1
        })
        .await;
    }
    assert_eq!(running.metric(FOREIGN), 1);
    sink.lock().barred = None;
    later(Duration::from_secs(900)).await;
    until("it is delivered", || sink.kept(foreign).closed).await;
    assert_eq!(sink.kept(foreign).stored_readings(), 300);
    until("nothing waits", || running.metric(FOREIGN) == 0).await;
    check(&sink, &spool);
    running.stop().await;
}

/// A stop does not wait for it, and what it holds is there at the next start.
#[tokio::test]
async fn a_stop_leaves_what_is_refused_in_the_spool() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start().await;
    let (spool, [_, earlier]) = barred(dir.path(), &sink).await;
    let running = start(&spool, in_order(&sink));
    fill(&spool, 5).await;
    until("the earlier one is delivered", || sink.kept(earlier).closed).await;
    let live = running.stream;
    running.stop().await;
    assert!(sink.kept(live).closed, "the others are closed");
    assert_eq!(spool.ledger().totals.spooled, 300);
    drop(spool);
    sink.lock().barred = None;
    let spool = spool_in(dir.path()).await;
    let running = start(&spool, in_order(&sink));
    until_acked(&spool, 300).await;
    check(&sink, &spool);
    running.stop().await;
}

/// Red when what only this stream is refused for is told as something that the whole agent waits for.
#[tokio::test]
async fn the_state_says_why_where_there_is_nothing_else_to_deliver() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start().await;
    let spool = spool_in(dir.path()).await;
    let id = spool.live_stream_id().unwrap();
    sink.lock().barred = Some((id, not_its_own()));
    let registry = Registry::new("weir_agent");
    let health = Health::new(clock());
    let sender = Sender::new(in_order(&sink), spool.clone(), &health, &registry).unwrap();
    let (mut link, waits) = (sender.link_state(), sender.waits());
    let token = CancellationToken::new();
    let task = tokio::spawn(sender.run(token.clone()));
    let told = |state: &LinkState| matches!(state, LinkState::Waiting { reason } if reason.contains("press-7"));
    within(link.wait_for(told)).await.unwrap();
    assert_eq!(waits.borrow()[&id].why, Why::Foreign);
    let notes = health.notes();
    assert!(
        notes
            .iter()
            .any(|note| note.to_string().contains("press-7")),
        "{notes:?}"
    );
    token.cancel();
    spool.finish().await.unwrap();
    within(task).await.unwrap();
}
