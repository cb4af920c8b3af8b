//! What goes wrong while the newest stream and a backlog are both delivered concerns one of them, or is
//! settled for both.

use weir_process::clock::ManualClock;

use super::newest::{now, outage, slow, spool_with};
use super::*;

/// Both are on their way: 300 batches of backlog, 60 of the newest stream, and more than one second of
/// requests to come.
struct Both {
    sink: Sink,
    spool: Spool,
    clock: Arc<ManualClock>,
    running: Running,
    backlog: [u8; 16],
    newest: [u8; 16],
}

const OLD: u64 = 300 * 50;
const NEW: u64 = 60 * 50;

async fn both(dir: &Path, drain: Duration) -> Both {
    let sink = Sink::start().await;
    let (spool, clock) = spool_with(dir, Overflow::Block).await;
    outage(&spool, &clock, 300).await;
    let config = SenderConfig {
        drain,
        ..slow(sink.url())
    };
    let running = start(&spool, config);
    let backlog = running.stream;
    until("a new stream has begun", || {
        spool.live_stream_id() != Some(backlog)
    })
    .await;
    let newest = spool.live_stream_id().unwrap();
    for n in 301..=360 {
        spool.append(now(&clock, n, 50)).await.unwrap();
    }
    committed(&spool).await;
    until("both have begun", || {
        sink.kept(newest).stored_readings() > 0 && sink.kept(backlog).stored_readings() > 0
    })
    .await;
    Both {
        sink,
        spool,
        clock,
        running,
        backlog,
        newest,
    }
}

impl Both {
    /// The sink is killed, `change` is done to what it has, and it is started again.
    async fn restored(&mut self, change: impl FnOnce(&mut sink::State)) {
        self.sink.kill();
        let state = Arc::clone(&self.sink.state);
        until("every call has ended", || Arc::strong_count(&state) == 2).await;
        change(&mut state.lock().unwrap());
        drop(state);
        self.sink = self.sink.restart().await;
    }

    /// What the sink has of the backlog and of the newest stream.
    fn kept(&self) -> impl Iterator<Item = sink::Kept> {
        [self.backlog, self.newest]
            .map(|id| self.sink.kept(id))
            .into_iter()
    }

    async fn settled(&self) {
        until("all is settled", || self.spool.ledger().totals.spooled == 0).await;
    }
}

/// Restored twice from one copy, of a time whose readings the spool had given back by then.
///
/// Mutation: `Resume::compare` that leaves our books as they are.
#[tokio::test]
async fn a_sink_rolled_back_in_both_streams_and_the_books_agree() {
    let dir = tempfile::tempdir().unwrap();
    let mut both = both(dir.path(), PATIENCE).await;
    let copy = both.sink.lock().streams.clone();
    for readings in [4_000, 8_000] {
        until("more is stored or given up", || {
            both.kept().map(|kept| kept.readings_through).sum::<u64>() > readings
        })
        .await;
        let copy = copy.clone();
        both.restored(|state| state.streams = copy).await;
    }
    both.settled().await;
    let lost = |kept: &sink::Kept| kept.dropped(v1::DropReason::SinkRolledBack);
    for (kept, produced) in both.kept().zip([OLD, NEW]) {
        assert!(lost(&kept) > 0);
        assert_eq!(kept.stored_readings() + lost(&kept), produced);
    }
    let totals = both.spool.ledger().totals;
    let stored = both.kept().map(|kept| kept.stored_readings()).sum::<u64>();
    assert_eq!(totals.acked, stored);
    let lost = both.kept().map(|kept| lost(&kept)).sum::<u64>();
    assert_eq!(totals.dropped.get("sink_rolled_back"), Some(&lost));
    check(&both.sink, &both.spool);
    both.running.stop().await;
}

/// The sink has another content in one of them. Mutation: a fork that begins the live stream anew
/// whichever forked.
#[tokio::test]
async fn a_fork_of_the_backlog_leaves_the_newest_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut both = both(dir.path(), Duration::from_secs(10)).await;
    let forked = both.backlog;
    both.restored(|state| other_content(state, forked)).await;
    both.settled().await;
    assert_eq!(both.spool.live_stream_id(), Some(both.newest));
    assert_eq!(both.sink.kept(both.newest).stored_readings(), NEW);
    sent_again(&both, forked, OLD);
    both.running.stop().await;
}

/// Mutation: the same.
#[tokio::test]
async fn a_fork_of_the_newest_leaves_the_backlog_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut both = both(dir.path(), Duration::from_secs(10)).await;
    let forked = both.newest;
    both.restored(|state| other_content(state, forked)).await;
    both.settled().await;
    let live = both.spool.live_stream_id().unwrap();
    assert!(live != both.newest && live != both.backlog);
    assert_eq!(both.sink.kept(both.backlog).stored_readings(), OLD);
    sent_again(&both, forked, NEW);
    within(both.spool.append(now(&both.clock, 361, 7)))
        .await
        .unwrap();
    until("the new stream flows", || {
        both.sink.kept(live).stored_readings() == 7
    })
    .await;
    both.running.stop().await;
}

fn other_content(state: &mut sink::State, stream: [u8; 16]) {
    let kept = state.streams.get_mut(stream.as_slice()).unwrap();
    kept.durable_crc ^= 1;
}

/// What is not proven stored is in a stream of its own, whole.
fn sent_again(both: &Both, forked: [u8; 16], produced: u64) {
    let again = both.running.metric("weir_agent_sender_fork_resent_total");
    let had = both.sink.kept(forked).stored_readings();
    assert!(again > 0 && had > 0);
    assert!(had + again >= produced, "{had} + {again} of {produced}");
    let all = both
        .sink
        .lock()
        .streams
        .values()
        .map(sink::Kept::stored_readings)
        .sum::<u64>();
    assert_eq!(all, OLD + NEW - produced + had + again);
    check(&both.sink, &both.spool);
}

/// The time at a stop is the newest stream's first, and then the backlog's. Mutation: a `Pace::ask` that
/// lets the backlog go first whenever it has something.
#[tokio::test]
async fn a_stop_delivers_the_newest_before_the_backlog() {
    let dir = tempfile::tempdir().unwrap();
    let both = both(dir.path(), PATIENCE).await;
    for n in 361..=900 {
        both.spool.append(now(&both.clock, n, 1)).await.unwrap();
    }
    both.running.token.cancel();
    both.spool.finish().await.unwrap();
    let kept = |id| both.sink.kept(id);
    until("the newest is closed", || kept(both.newest).closed).await;
    let waits = OLD - kept(both.backlog).stored_readings();
    assert!(waits > OLD / 4, "the backlog waits: {waits}");
    assert_eq!(kept(both.newest).stored_readings(), NEW + 540);
    within(both.running.task).await.unwrap();
    let kept = both.sink.kept(both.backlog);
    assert_eq!((kept.stored_readings(), kept.closed), (OLD, true));
    check(&both.sink, &both.spool);
}
