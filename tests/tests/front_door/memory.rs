//! Memory is bounded end to end: whatever is away or broken, at full rate, neither program grows.
//!
//! The rule is [`Watch`]'s. `WEIR_MEMORY_SECONDS` makes the watching longer than these tests have time for.

use std::path::Path;
use std::time::Duration;

use tonic::{Code, Status};
use weir_tests::memory::{Watch, bytes_below};
use weir_tests::programs;
use weir_tests::sender::{Call, Stream};
use weir_tests::wait::until;
use weir_tests::world::{Agent, Sink, run_once};

use crate::stored::{LIMIT, own};

/// In half of the shortest watch the agent drops 650 KiB of batches.
const AGENT_MORE: u64 = 384 << 10;
/// In half of its filling the journal takes 28 MiB.
const SINK_MORE: u64 = 4 << 20;

/// How long is watched once everything is as full as it gets.
fn span() -> Duration {
    let seconds = std::env::var("WEIR_MEMORY_SECONDS");
    let seconds = seconds.ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(12))
}

/// The sink is away, sensors give thousands of readings a second: the spool fills up, the oldest goes and is
/// counted; memory stays flat; and when the sink comes, the ledger closes. Red when the spool keeps an entry for each
/// dropped batch, or the queue has no bounds.
#[tokio::test]
async fn an_agent_at_full_rate_without_a_sink_stays_flat() {
    let place = tempfile::tempdir().expect("a directory");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0");
    let listen = listener.await.expect("a free port").local_addr();
    let listen = listen.expect("a bound listener").to_string();
    let settings = [
        ("SENSORS", "simulated"),
        ("SIMULATED_MODE", "walk"),
        ("SIMULATED_METRICS", "400"),
        ("SAMPLE_INTERVAL", "20ms"),
        ("BATCH_MAX_READINGS", "400"),
        ("BATCH_MAX_AGE", "200ms"),
        ("SPOOL_COMMIT_INTERVAL", "200ms"),
        ("SPOOL_MAX_BYTES", "1MiB"),
        ("SPOOL_SEGMENT_BYTES", "128KiB"),
        ("SPOOL_OVERFLOW", "drop_oldest"),
        ("RETRY_MAX_DELAY", "500ms"),
    ];
    let url = format!("http://{listen}");
    let mut agent = Agent::start(place.path(), "flat", &url, &settings).await;
    until("the spool to be full", LIMIT, || async {
        (agent.status().await["budget"]["spool_full_seconds"] == 0.0).then_some(())
    })
    .await;

    let before = own(&agent, "produced").await;
    let watch = Watch::over(agent.pid(), span()).await;
    let status = agent.status().await;
    let produced = own(&agent, "produced").await - before;
    let per_second = produced as f64 / span().as_secs_f64();
    println!("{per_second:.0} readings a second, {}", status["spool"]);
    assert!(
        per_second > 1000.0,
        "{per_second} readings a second are no load"
    );
    assert!(
        status["spool"]["bytes"].as_u64() <= Some(1 << 20),
        "{status}"
    );
    println!(
        "{}",
        watch.assert_flat("an agent without a sink", AGENT_MORE)
    );
    shows_what_is_used_up(&agent).await;

    let sink = Sink::start(place.path(), &[("GRPC_LISTEN", &listen)]).await;
    agent.kill();
    agent.set("SAMPLE_INTERVAL", "1h");
    agent.restart().await;
    until("everything to be delivered", LIMIT, || async {
        (own(&agent, "spooled").await == 0).then_some(())
    })
    .await;
    assert!(agent.terminate().await.success());
    let sums = sink.closed_ledger("flat").await;
    assert!(sums.dropped > 0 && sums.stored > 0, "{sums:?}");
}

/// Metrics, status and its text agree on what is used up.
async fn shows_what_is_used_up(agent: &Agent) {
    let metrics = agent.metrics().await;
    assert!(metrics["weir_agent_flash_bytes_total"] > 1e6, "{metrics:?}");
    assert!(
        metrics["weir_agent_flash_bytes_per_day"] > 1e6,
        "{metrics:?}"
    );
    assert_eq!(metrics["weir_agent_wire_received_bytes_total"], 0.0);
    assert_eq!(metrics["weir_agent_spool_full_seconds"], 0.0);
    let budget = agent.status().await["budget"].clone();
    assert!(
        budget["flash"]["bytes_per_day"].as_f64() > Some(1e6),
        "{budget}"
    );
    assert!(budget["flash"]["limit_bytes_per_day"].is_null(), "{budget}");
    let listen = agent.status.to_string();
    let environment = [("WEIR_AGENT_STATUS_LISTEN", listen.as_str())];
    let output = run_once(&programs::agent(), &["status"], &environment);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in ["bytes, full\n", "flash", "wire", "loss     at most 0.4 s"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

/// Puts a file where the store has its files: no user, and not even root, can write below it.
fn break_store(store: &Path) {
    std::fs::rename(store, store.with_extension("aside")).expect("a store");
    std::fs::write(store, "not a directory").expect("a file in its place");
}

fn mend_store(store: &Path) {
    std::fs::remove_file(store).expect("the file in its place");
    std::fs::rename(store.with_extension("aside"), store).expect("the store");
}

/// 256 texts of a kilobyte that no compression makes smaller.
fn texts(seed: u64) -> Vec<String> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(33 + (state % 90) as u8)
    };
    let text = |_| (0..1000).map(|_| letter()).collect();
    (0..256).map(text).collect()
}

/// Sends until the sink takes no more; its memory meanwhile, the readings it acknowledged, and what it said at last.
async fn fill(sink: &Sink) -> (Watch, u64, Status) {
    let mut stream = Stream::text("wordy", 1);
    let mut call = Call::open(sink.grpc, &stream).await.expect("a welcome");
    let (mut filling, mut acked) = (Watch::default(), 0);
    loop {
        let first = 1_800_000_000_000_000_000;
        let times: Vec<i64> = (0..256).map(|n| first + n * 1_000_000).collect();
        let texts = texts(stream.next_sequence());
        let batch = stream.text_batch(&times, texts);
        let sequence = stream.next_sequence() - 1;
        call.batch(batch).await;
        match call.acked(sequence).await {
            Ok(_) => acked = stream.readings(),
            Err(refused) => return (filling, acked, refused),
        }
        filling.look(sink.pid());
    }
}

/// The store cannot be written: the journal takes what comes until it is full, then the sink takes nothing, and its memory
/// is that of the bounds of its buffers throughout. Once the store is back and the sink was
/// killed, everything that was acknowledged is there. Red
/// when the fold goes on folding into full buffers, or acknowledged records are let go.
#[tokio::test]
async fn a_sink_whose_store_cannot_be_written_stays_flat() {
    let place = tempfile::tempdir().expect("a directory");
    let mut sink = Sink::start(
        place.path(),
        &[
            ("JOURNAL_MAX_BYTES", "64MiB"),
            ("JOURNAL_SEGMENT_BYTES", "4MiB"),
            ("JOURNAL_QUEUE_BYTES", "16MiB"),
            ("STORE_BUFFER_BYTES", "4MiB"),
            ("STORE_INTAKE_BYTES", "4MiB"),
            ("STORE_FLUSH_INTERVAL", "1s"),
        ],
    )
    .await;
    let store = sink.data().join("store");
    break_store(&store);

    let (filling, acked, refused) = fill(&sink).await;
    let journal = bytes_below(&sink.data().join("log"));
    assert!(
        matches!(refused.code(), Code::Unavailable | Code::ResourceExhausted),
        "{refused}"
    );
    assert!(
        journal > 48 << 20,
        "the journal has {journal} bytes: {refused}"
    );
    println!(
        "{}",
        filling.assert_flat("a sink whose journal fills", SINK_MORE)
    );

    let pid = sink.pid();
    let address = sink.grpc;
    let beginner = Stream::text("late", 2);
    let hammering = tokio::spawn(async move {
        loop {
            let welcome = Call::open(address, &beginner).await.err();
            assert!(welcome.is_some(), "nothing can be accepted");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let watch = Watch::over(pid, span()).await;
    println!("{}", watch.assert_flat("a sink that is full", SINK_MORE));
    assert!(!hammering.is_finished(), "a call was welcomed");
    hammering.abort();

    mend_store(&store);
    // By itself it would look at the store again within half a minute.
    sink.restart().await;
    sink.folded().await;
    until("every acknowledged reading in the table", LIMIT, || async {
        let rows = sink
            .sql("select count(*) from samples where agent = 'wordy'")
            .await;
        (rows[0][0].as_u64() == Some(acked)).then_some(())
    })
    .await;
    let sums = sink.closed_ledger("wordy").await;
    assert_eq!(sums.stored, acked, "{sums:?}");
}
