//! Newest first: after an outage what is read now does not wait behind what has waited.

use std::sync::Arc;

use weir_journal::Disk;
use weir_process::clock::ManualClock;

use super::*;

/// A spool whose clock the test moves.
pub(super) async fn spool_with(dir: &Path, overflow: Overflow) -> (Spool, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(1_800_000_000_000_000_000));
    let config = SpoolConfig {
        overflow,
        // Given back in small pieces.
        segment_bytes: 4096,
        ..config(dir)
    };
    let spool =
        Spool::open_on(Arc::new(Disk), config, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    (spool, clock)
}

/// A batch read now.
pub(super) fn now(clock: &ManualClock, n: u64, readings: usize) -> crate::spool::Draft {
    let drafted = if n == 1 {
        first_draft(readings)
    } else {
        draft(n, readings)
    };
    crate::spool::Draft {
        monotonic_start_ns: clock.monotonic_ns(),
        ..drafted
    }
}

/// Slow enough that a backlog takes a while: one small request every 20 ms.
pub(super) fn slow(url: String) -> SenderConfig {
    SenderConfig {
        request_rate: 50.0,
        request_max_bytes: 1024,
        ..sender_config(url)
    }
}

pub(super) async fn outage(spool: &Spool, clock: &ManualClock, batches: u64) {
    for n in 1..=batches {
        spool.append(now(clock, n, 50)).await.unwrap();
        clock.advance(Duration::from_secs(1));
    }
    committed(spool).await;
}

/// Mutation: `Lane::renew` that never renews is red: the new reading is then the last to arrive.
#[tokio::test]
async fn what_is_read_now_overtakes_a_backlog() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start().await;
    let (spool, clock) = spool_with(dir.path(), Overflow::Block).await;
    outage(&spool, &clock, 200).await;
    let running = start(&spool, slow(sink.url()));
    let backlog = running.stream;
    until("a new stream has begun", || {
        spool.live_stream_id() != Some(backlog)
    })
    .await;
    spool.append(now(&clock, 201, 7)).await.unwrap();
    let newest = spool.live_stream_id().unwrap();
    until("the new reading is there", || {
        sink.kept(newest).stored_readings() == 7
    })
    .await;
    let waits = 10_000 - sink.kept(backlog).stored_readings();
    assert!(waits > 5_000, "the backlog is far from done: {waits}");
    until("the backlog is closed", || sink.kept(backlog).closed).await;
    assert_eq!(sink.kept(backlog).stored_readings(), 10_000);
    assert!(!sink.kept(newest).closed);
    until_acked(&spool, 10_007).await;
    assert_eq!(running.metric("weir_agent_sender_renewals_total"), 1);
    check(&sink, &spool);
    running.stop().await;
    assert!(sink.kept(newest).closed);
}

/// Mutation: `Renewals::are_due` that is always true begins a stream with every return of the link.
#[tokio::test]
async fn a_link_that_comes_and_goes_makes_no_hundreds_of_streams() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start().await;
    let (spool, clock) = spool_with(dir.path(), Overflow::Block).await;
    let mut readings = 0;
    outage(&spool, &clock, 100).await;
    readings += 100 * 50;
    for _ in 0..30 {
        sink.fault(Fault::StoredNotAcked);
    }
    let running = start(&spool, slow(sink.url()));
    for n in 101..=160 {
        spool.append(now(&clock, n, 50)).await.unwrap();
        clock.advance(Duration::from_secs(120));
        readings += 50;
        let calls = sink.lock().calls;
        until("it called again", || {
            sink.lock().calls > calls || sink.lock().faults.is_empty()
        })
        .await;
    }
    until_acked(&spool, readings).await;
    assert_eq!(running.metric("weir_agent_sender_renewals_total"), 1);
    check(&sink, &spool);
    running.stop().await;
}

/// Mutation: a `renew` that does not look at the age renews here.
#[tokio::test]
async fn a_short_outage_and_a_small_backlog_split_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start().await;
    let (spool, clock) = spool_with(dir.path(), Overflow::Block).await;
    outage(&spool, &clock, 50).await; // 50 s: below the minute
    let running = start(&spool, slow(sink.url()));
    until_acked(&spool, 2_500).await;
    sink.fault(Fault::OnBatch(Status::unavailable("away")));
    spool.append(now(&clock, 51, 5)).await.unwrap();
    clock.advance(Duration::from_secs(3600)); // long, and one small batch
    until_acked(&spool, 2_505).await;
    assert_eq!(running.metric("weir_agent_sender_renewals_total"), 0);
    assert_eq!(spool.live_stream_id(), Some(running.stream));
    check(&sink, &spool);
    running.stop().await;
}

#[tokio::test]
async fn oldest_first_keeps_one_stream_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start().await;
    let (spool, clock) = spool_with(dir.path(), Overflow::Block).await;
    outage(&spool, &clock, 100).await;
    let in_order = SenderConfig {
        order: Order::OldestFirst,
        ..slow(sink.url())
    };
    let running = start(&spool, in_order);
    until_acked(&spool, 5_000).await;
    assert_eq!(sink.lock().order.len(), 1);
    running.stop().await;
}

/// Streams of earlier runs are the backlog of this one, oldest first, and a stop delivers all.
#[tokio::test]
async fn a_stop_delivers_the_newest_and_the_backlog() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start().await;
    let mut ids = Vec::new();
    for n in 2..=4 {
        let spool = spool_in(dir.path()).await;
        ids.push(spool.live_stream_id().unwrap());
        fill(&spool, n * 20).await;
    }
    let spool = spool_in(dir.path()).await;
    let running = start(&spool, sender_config(sink.url()));
    let newest = running.stream;
    fill(&spool, 30).await;
    running.stop().await;
    for (n, id) in (2..).zip(&ids) {
        let kept = sink.kept(*id);
        assert_eq!((kept.stored_readings(), kept.closed), (n * 200, true));
    }
    let kept = sink.kept(newest);
    assert_eq!((kept.stored_readings(), kept.closed), (300, true));
    assert_eq!(spool.ledger().streams.len(), 0);
    assert_eq!(sink.lock().complaints, Vec::<String>::new());
    let order: Vec<Vec<u8>> = sink.lock().order.clone();
    let backlog: Vec<&Vec<u8>> = order.iter().filter(|id| **id != newest).collect();
    let begun: Vec<Vec<u8>> = ids.iter().map(|id| id.to_vec()).collect();
    assert_eq!(backlog, begun.iter().collect::<Vec<_>>());
}

/// A refusal in one call is nothing to the other.
#[tokio::test]
async fn refusals_in_both_calls_cost_only_what_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start().await;
    let (spool, clock) = spool_with(dir.path(), Overflow::Block).await;
    outage(&spool, &clock, 100).await;
    sink.lock().refuse.insert(20);
    let running = start(&spool, slow(sink.url()));
    until("a new stream has begun", || {
        spool.live_stream_id() != Some(running.stream)
    })
    .await;
    for n in 101..=130 {
        spool.append(now(&clock, n, 50)).await.unwrap();
    }
    until_acked(&spool, 128 * 50).await;
    until("both are booked", || {
        spool.ledger().totals.dropped.get("refused") == Some(&100)
    })
    .await;
    assert_eq!(DeadLetters::new(dir.path()).list().unwrap().len(), 2);
    check(&sink, &spool);
    running.stop().await;
}

/// What gives way is the backlog's oldest, and only what is on no wire; the newest stream goes on.
/// Mutation: a `wants_drop` that stops nobody lets the appender wait for ever.
#[tokio::test]
async fn drop_oldest_takes_from_the_backlog_while_both_are_in_flight() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start().await;
    let clock = Arc::new(ManualClock::new(1_800_000_000_000_000_000));
    let tight = tight(dir.path(), Overflow::DropOldest);
    let spool =
        Spool::open_on(Arc::new(Disk), tight, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    sink.lock().window_bytes = 4 << 10;
    outage(&spool, &clock, 80).await;
    let running = start(&spool, slow(sink.url()));
    let backlog = running.stream;
    until("a new stream has begun", || {
        spool.live_stream_id() != Some(backlog)
    })
    .await;
    for n in 81..=400 {
        within(spool.append(now(&clock, n, 50))).await.unwrap();
    }
    until("all is settled", || spool.ledger().totals.spooled == 0).await;
    let newest = spool.live_stream_id().unwrap();
    let (old, new) = (sink.kept(backlog), sink.kept(newest));
    let dropped = |kept: &sink::Kept| kept.dropped(v1::DropReason::SpoolOldest);
    assert!(dropped(&old) > 0, "the backlog gave way");
    assert_eq!(old.stored_readings() + dropped(&old), 80 * 50);
    assert_eq!(new.stored_readings() + dropped(&new), 320 * 50);
    let booked = spool.ledger().totals.dropped["spool_oldest"];
    assert_eq!(booked, dropped(&old) + dropped(&new));
    check(&sink, &spool);
    running.stop().await;
}

/// A crash while both are on the wire: the next run delivers the rest of both, once.
#[tokio::test]
async fn a_crash_with_both_in_flight_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start().await;
    let (spool, clock) = spool_with(dir.path(), Overflow::Block).await;
    outage(&spool, &clock, 200).await;
    let running = start(&spool, slow(sink.url()));
    let backlog = running.stream;
    until("a new stream has begun", || {
        spool.live_stream_id() != Some(backlog)
    })
    .await;
    let newest = spool.live_stream_id().unwrap();
    for n in 201..=240 {
        spool.append(now(&clock, n, 50)).await.unwrap();
    }
    committed(&spool).await;
    until("both have begun", || {
        sink.kept(newest).stored_readings() > 0 && sink.kept(backlog).stored_readings() > 0
    })
    .await;
    running.task.abort();
    let _ = running.task.await;
    drop((running.spool, running.registry, spool));
    let spool = spool_in(dir.path()).await;
    let running = start(&spool, sender_config(sink.url()));
    until("both are forgotten", || spool.ledger().streams.len() == 1).await;
    assert_eq!(sink.kept(backlog).stored_readings(), 200 * 50);
    assert_eq!(sink.kept(newest).stored_readings(), 40 * 50);
    check(&sink, &spool);
    running.stop().await;
}
