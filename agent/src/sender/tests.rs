//! The sender against a small real sink over loopback: what the sink does wrong, the agent survives,
//! and both ledgers agree with what the test offered.

use std::future::Future;
use std::path::Path;

use tokio::task::JoinHandle;
use tonic::Status;
use weir_process::clock::Clock;
use weir_proto::v1;

use super::*;
use crate::dead_letter::DeadLetters;
use crate::spool::tests::{clock, committed, config, draft, first_draft, open};
use crate::spool::{Overflow, SpoolConfig};

mod damage;
mod displaced;
mod dropping;
mod foreign;
mod forked;
mod hostile;
mod letters;
mod newest;
mod owned;
mod replay;
mod rollback;
mod sink;
mod together;

use sink::{Fault, Sink};

/// What an `http://` sink makes no use of.
fn plain() -> weir_process::tls::ClientSettings {
    weir_process::tls::ClientSettings {
        trust: weir_process::tls::Trust::System,
        identity: None,
        setting: "WEIR_AGENT_TLS_CA",
    }
}

fn sender_config(url: String) -> SenderConfig {
    SenderConfig {
        tls: plain(),
        sink_url: url,
        credential: Credential::None,
        enrolment: None,
        agent: "edge".into(),
        software: "weir-agent/test".into(),
        request_rate: 0.0,
        request_burst: 1,
        request_max_bytes: 1 << 20,
        window_bytes: 1 << 20,
        connect_timeout: Duration::from_secs(5),
        ack_timeout: Duration::from_secs(5),
        order: Order::NewestFirst,
        backlog_share: 0.25,
        backlog_age: Duration::from_secs(60),
        retry_min: Duration::from_millis(5),
        retry_max: Duration::from_millis(50),
        drain: Duration::from_secs(10),
    }
}

/// A running sender.
struct Running {
    spool: Spool,
    stream: [u8; 16],
    registry: Registry,
    token: CancellationToken,
    task: JoinHandle<()>,
}

fn start(spool: &Spool, config: SenderConfig) -> Running {
    let clock: Arc<dyn Clock> = clock();
    let registry = Registry::new("weir_agent");
    let sender = Sender::new(config, spool.clone(), &Health::new(clock), &registry).unwrap();
    let token = CancellationToken::new();
    Running {
        spool: spool.clone(),
        stream: spool.live_stream_id().unwrap(),
        registry,
        task: tokio::spawn(sender.run(token.clone())),
        token,
    }
}

impl Running {
    /// Stops as the agent does: no more comes, drain, end.
    async fn stop(self) {
        self.token.cancel();
        self.spool.finish().await.unwrap();
        within(self.task).await.unwrap();
    }

    fn metric(&self, line: &str) -> u64 {
        let text = self.registry.encode();
        let found = text.lines().find_map(|found| found.strip_prefix(line));
        found.map_or(0, |value| value.trim().parse().unwrap())
    }
}

/// Until a test gives up: far beyond what anything here takes, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(90);

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("in time")
}

/// Waits until `condition` holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn until_acked(spool: &Spool, readings: u64) {
    let all = || spool.ledger().totals.acked == readings;
    until(
        &format!(
            "{readings} readings are acknowledged: {:?}",
            spool.ledger().totals
        ),
        all,
    )
    .await;
}

/// Appends batches 1..=n of 10 readings, the first with the definition.
async fn fill(spool: &Spool, n: u64) {
    spool.append(first_draft(10)).await.unwrap();
    for k in 2..=n {
        spool.append(draft(k, 10)).await.unwrap();
    }
    committed(spool).await;
}

fn check(sink: &Sink, spool: &Spool) {
    assert_eq!(sink.lock().complaints, Vec::<String>::new());
    assert_eq!(spool.ledger().totals.unexplained, 0);
}

async fn spool_in(dir: &Path) -> Spool {
    open(config(dir)).await
}

#[tokio::test]
async fn delivers_everything_closes_the_stream_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, spool) = (Sink::start().await, spool_in(dir.path()).await);
    fill(&spool, 20).await;
    let running = start(&spool, sender_config(sink.url()));
    until_acked(&spool, 200).await;
    spool.append(draft(21, 10)).await.unwrap();
    let stream = running.stream;
    running.stop().await;
    let kept = sink.kept(stream);
    assert_eq!((kept.stored_readings(), kept.closed), (210, true));
    assert_eq!(kept.report.produced, 210);
    check(&sink, &spool);
    assert_eq!(spool.ledger().streams.len(), 0);
    let left: Vec<_> = std::fs::read_dir(dir.path().join("spool"))
        .unwrap()
        .collect();
    assert_eq!(left.len(), 1, "only the lock file: {left:?}");
}

#[tokio::test]
async fn retries_each_transient_status_and_stores_once() {
    let codes = [
        Status::unavailable("busy"),
        Status::resource_exhausted("busy"),
        Status::deadline_exceeded("busy"),
    ];
    for status in codes {
        let dir = tempfile::tempdir().unwrap();
        let (sink, spool) = (Sink::start().await, spool_in(dir.path()).await);
        sink.fault(Fault::Turned(status.clone()));
        sink.fault(Fault::OnBatch(status.clone()));
        fill(&spool, 3).await;
        let running = start(&spool, sender_config(sink.url()));
        until_acked(&spool, 30).await;
        assert_eq!(sink.kept(running.stream).stored.len(), 3);
        assert_eq!(sink.lock().calls, 3);
        let code = failure::code_name(status.code());
        let retries = running.metric(&format!(
            "weir_agent_sender_retries_total{{code=\"{code}\"}}"
        ));
        assert_eq!(retries, 2);
        check(&sink, &spool);
        running.stop().await;
    }
}

#[tokio::test]
async fn a_batch_that_ends_the_call_is_found_and_set_aside_and_the_rest_flows() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, spool) = (Sink::start().await, spool_in(dir.path()).await);
    sink.lock()
        .poison
        .insert(3, Status::invalid_argument("cannot take this"));
    fill(&spool, 6).await;
    let running = start(&spool, sender_config(sink.url()));
    until_acked(&spool, 50).await;
    let kept = sink.kept(running.stream);
    assert_eq!(
        kept.stored.keys().copied().collect::<Vec<_>>(),
        [1, 2, 4, 5, 6]
    );
    assert_eq!(kept.dropped(v1::DropReason::Refused), 10);
    let notes = DeadLetters::new(dir.path()).list().unwrap();
    assert_eq!(notes.len(), 1);
    assert_eq!(
        (notes[0].sequence, notes[0].readings, notes[0].code.as_str()),
        (3, 10, "invalid_argument")
    );
    until("the drop is booked", || {
        spool.ledger().totals.dropped.get("refused") == Some(&10)
    })
    .await;
    check(&sink, &spool);
    running.stop().await;
}

#[tokio::test]
async fn refused_inside_a_window_is_set_aside_and_the_rest_is_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, spool) = (Sink::start().await, spool_in(dir.path()).await);
    sink.lock().refuse.extend([1, 5, 6]);
    fill(&spool, 10).await;
    let one_batch_per_request = SenderConfig {
        request_max_bytes: 1,
        ..sender_config(sink.url())
    };
    let running = start(&spool, one_batch_per_request);
    until_acked(&spool, 70).await;
    let kept = sink.kept(running.stream);
    assert_eq!(
        kept.stored.keys().copied().collect::<Vec<_>>(),
        [2, 3, 4, 7, 8, 9, 10]
    );
    let letters = DeadLetters::new(dir.path()).list().unwrap();
    assert_eq!(
        letters.iter().map(|note| note.sequence).collect::<Vec<_>>(),
        [1, 5, 6]
    );
    assert_eq!(spool.ledger().totals.dropped["refused"], 30);
    // Batch 1 took the definition of its series along: nothing after it may miss it.
    check(&sink, &spool);
    running.stop().await;
}

#[tokio::test]
async fn a_kill_between_store_and_ack_stores_once() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, spool) = (Sink::start().await, spool_in(dir.path()).await);
    for _ in 0..3 {
        sink.fault(Fault::StoredNotAcked);
    }
    fill(&spool, 8).await;
    let small = SenderConfig {
        request_max_bytes: 300,
        ..sender_config(sink.url())
    };
    let running = start(&spool, small);
    until_acked(&spool, 80).await;
    let kept = sink.kept(running.stream);
    assert_eq!((kept.stored.len(), kept.readings_through), (8, 80));
    check(&sink, &spool);
    running.stop().await;
}

#[tokio::test]
async fn a_silent_sink_is_given_up_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, spool) = (Sink::start().await, spool_in(dir.path()).await);
    sink.fault(Fault::Silent);
    fill(&spool, 3).await;
    let impatient = SenderConfig {
        ack_timeout: Duration::from_millis(300),
        ..sender_config(sink.url())
    };
    let running = start(&spool, impatient);
    until_acked(&spool, 30).await;
    assert_eq!(
        running.metric("weir_agent_sender_retries_total{code=\"silent\"}"),
        1
    );
    check(&sink, &spool);
    running.stop().await;
}

#[tokio::test]
async fn a_sink_killed_and_restarted_gets_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, spool) = (Sink::start().await, spool_in(dir.path()).await);
    fill(&spool, 5).await;
    let running = start(&spool, sender_config(sink.url()));
    until_acked(&spool, 50).await;
    sink.kill();
    for k in 6..=9 {
        spool.append(draft(k, 10)).await.unwrap();
    }
    let mut link = running_link(&running);
    within(link.wait_for(|failed| *failed)).await.unwrap();
    let sink = sink.restart().await;
    until_acked(&spool, 90).await;
    assert_eq!(sink.kept(running.stream).stored.len(), 9);
    check(&sink, &spool);
    running.stop().await;
}

/// True once an attempt has failed.
fn running_link(running: &Running) -> watch::Receiver<bool> {
    let (failed, receiver) = watch::channel(false);
    let registry = running.registry.clone();
    tokio::spawn(async move {
        loop {
            if registry
                .encode()
                .contains("weir_agent_sender_retries_total{")
            {
                let _ = failed.send(true);
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    receiver
}

#[tokio::test]
async fn earlier_streams_are_drained_first_and_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start().await;
    let mut ids = Vec::new();
    for n in 2..=4 {
        let spool = spool_in(dir.path()).await;
        ids.push(spool.live_stream_id().unwrap().to_vec());
        fill(&spool, n).await;
    }
    let spool = spool_in(dir.path()).await;
    fill(&spool, 1).await;
    let in_order = SenderConfig {
        order: Order::OldestFirst,
        ..sender_config(sink.url())
    };
    let running = start(&spool, in_order);
    until_acked(&spool, (2 + 3 + 4 + 1) * 10).await;
    ids.push(running.stream.to_vec());
    assert_eq!(sink.lock().order, ids);
    let closed: Vec<bool> = ids
        .iter()
        .map(|id| sink.lock().streams[id].closed)
        .collect();
    assert_eq!(closed, [true, true, true, false]);
    assert_eq!(spool.ledger().streams.len(), 1);
    check(&sink, &spool);
    running.stop().await;
}

#[tokio::test]
async fn a_restart_resumes_where_the_sink_says_even_if_the_ack_was_never_seen() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start().await;
    let spool = spool_in(dir.path()).await;
    let stream = spool.live_stream_id().unwrap();
    fill(&spool, 6).await;
    sink.lock().hold_acks = true;
    let running = start(&spool, sender_config(sink.url()));
    until("the sink has all", || sink.kept(stream).stored.len() == 6).await;
    running.task.abort();
    let _ = running.task.await;
    drop((running.spool, running.registry, spool));
    sink.lock().hold_acks = false;

    let spool = spool_in(dir.path()).await;
    let running = start(&spool, sender_config(sink.url()));
    until("the stream is forgotten", || {
        spool.ledger().streams.len() == 1
    })
    .await;
    assert_eq!(spool.ledger().totals.acked, 60);
    assert_eq!(sink.kept(stream).stored.len(), 6);
    check(&sink, &spool);
    running.stop().await;
}

#[tokio::test]
async fn a_sink_that_lost_everything_gets_what_is_left_and_a_skip_for_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, spool) = (
        Sink::start().await,
        open(tight(dir.path(), Overflow::Block)).await,
    );
    let running = start(&spool, sender_config(sink.url()));
    fill(&spool, 100).await;
    until_acked(&spool, 1000).await;
    let stream = running.stream;
    sink.kill();
    *sink.state.lock().unwrap() = sink::State {
        window_bytes: 1 << 20,
        ..sink::State::default()
    };
    let oldest = spool.next_stream().unwrap().oldest_sequence();
    assert!(oldest > 1, "segments were given back");
    let sink = sink.restart().await;
    until("the sink has it again", || {
        sink.kept(stream).durable_through == 100
    })
    .await;
    // What comes now uses a series whose definition the sink has lost.
    spool.append(draft(101, 10)).await.unwrap();
    until("the sink has the new one", || {
        sink.kept(stream).durable_through == 101
    })
    .await;
    let lost = sink.kept(stream).dropped(v1::DropReason::SinkRolledBack);
    assert!(lost >= (oldest - 1) * 10, "{lost} {oldest}");
    assert_eq!(sink.kept(stream).stored_readings(), 1010 - lost);
    until_acked(&spool, 1010 - lost).await;
    assert_eq!(spool.ledger().totals.dropped["sink_rolled_back"], lost);
    check(&sink, &spool);
    running.stop().await;
}

fn tight(dir: &Path, overflow: Overflow) -> SpoolConfig {
    SpoolConfig {
        max_bytes: 64 << 10,
        segment_bytes: 4 << 10,
        overflow,
        ..config(dir)
    }
}

#[tokio::test]
async fn what_drop_oldest_gave_up_arrives_as_a_skip_of_exactly_its_readings() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, spool) = (
        Sink::start().await,
        open(tight(dir.path(), Overflow::DropOldest)).await,
    );
    spool.append(first_draft(100)).await.unwrap();
    for n in 2..=200 {
        spool.append(draft(n, 100)).await.unwrap();
    }
    committed(&spool).await;
    let running = start(&spool, sender_config(sink.url()));
    until("all is settled", || spool.ledger().totals.spooled == 0).await;
    let kept = sink.kept(running.stream);
    let dropped = kept.dropped(v1::DropReason::SpoolOldest);
    assert!(dropped > 0);
    assert_eq!(kept.stored_readings() + dropped, 20_000);
    assert_eq!(spool.ledger().totals.dropped["spool_oldest"], dropped);
    assert_eq!(kept.skips.len(), 1);
    assert_eq!(kept.skips[0].from, 1);
    check(&sink, &spool);
    running.stop().await;
}

#[tokio::test]
async fn drop_oldest_while_connected_never_drops_what_is_in_flight() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, spool) = (
        Sink::start().await,
        open(tight(dir.path(), Overflow::DropOldest)).await,
    );
    sink.lock().window_bytes = 4 << 10;
    let slow = SenderConfig {
        request_rate: 50.0,
        request_max_bytes: 2 << 10,
        ..sender_config(sink.url())
    };
    let running = start(&spool, slow);
    spool.append(first_draft(100)).await.unwrap();
    for n in 2..=300 {
        within(spool.append(draft(n, 100))).await.unwrap();
    }
    until("all is settled", || spool.ledger().totals.spooled == 0).await;
    let kept = sink.kept(running.stream);
    let dropped = kept.dropped(v1::DropReason::SpoolOldest);
    assert_eq!(kept.stored_readings() + dropped, 30_000);
    check(&sink, &spool);
    running.stop().await;
}

#[tokio::test]
async fn a_forked_stream_is_begun_anew_and_nothing_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, spool) = (Sink::start().await, spool_in(dir.path()).await);
    fill(&spool, 4).await;
    let forked = spool.live_stream_id().unwrap();
    // The sink has more of this stream than this spool ever wrote: the disk was restored.
    let other_half = sink::Kept {
        durable_through: 9,
        durable_crc: 77,
        readings_through: 90,
        ..sink::Kept::default()
    };
    sink.lock().streams.insert(forked.to_vec(), other_half);
    let running = start(&spool, sender_config(sink.url()));
    until("the copy is delivered", || {
        let state = sink.lock();
        let closed = state.streams.values().filter(|kept| kept.closed);
        closed.map(sink::Kept::stored_readings).sum::<u64>() == 40
    })
    .await;
    spool.append(draft(5, 10)).await.unwrap();
    let live = spool.live_stream_id().unwrap();
    until("the new stream flows", || {
        sink.kept(live).stored_readings() == 10
    })
    .await;
    assert_eq!(running.metric("weir_agent_sender_fork_resent_total"), 40);
    check(&sink, &spool);
    running.stop().await;
}

#[tokio::test]
async fn a_window_of_nothing_still_lets_one_batch_through() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, spool) = (Sink::start().await, spool_in(dir.path()).await);
    sink.lock().window_bytes = 0;
    fill(&spool, 5).await;
    let running = start(&spool, sender_config(sink.url()));
    until_acked(&spool, 50).await;
    assert_eq!(sink.lock().requests, [1, 1, 1, 1, 1]);
    check(&sink, &spool);
    running.stop().await;
}

#[tokio::test]
async fn one_token_pays_for_as_many_spooled_batches_as_fit() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, spool) = (Sink::start().await, spool_in(dir.path()).await);
    fill(&spool, 50).await;
    let one_request = SenderConfig {
        request_rate: 0.001,
        ..sender_config(sink.url())
    };
    let running = start(&spool, one_request);
    until_acked(&spool, 500).await;
    assert_eq!(sink.lock().requests, [50]);
    running.task.abort();
}

#[tokio::test]
async fn a_stop_without_a_sink_keeps_the_spool_and_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool_in(dir.path()).await;
    fill(&spool, 3).await;
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let running = start(&spool, sender_config(url));
    let began = Instant::now();
    running.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5));
    drop(spool);
    let spool = spool_in(dir.path()).await;
    assert_eq!(spool.ledger().totals.spooled, 30);
}

#[tokio::test]
async fn something_that_is_no_sink_is_named_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool_in(dir.path()).await;
    fill(&spool, 3).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let web_server = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let _ = connection
                .write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")
                .await;
        }
    });
    let running = start(&spool, sender_config(url));
    until("it is recognised", || {
        running.metric("weir_agent_sender_retries_total{code=\"not_a_sink\"}") >= 2
    })
    .await;
    assert_eq!(spool.ledger().totals.spooled, 30);
    web_server.abort();
    running.stop().await;
}
