//! Newest first, seen from outside: what is read now arrives while a backlog drains beside it, and both
//! programs say how far they are.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use weir_tests::programs;
use weir_tests::world::{Agent, Sink, run_once};

use crate::stored::{LIMIT, counting, wait_own};

/// What was seen while a backlog drained.
#[derive(Default)]
struct Seen {
    /// Time of the last reading in `latest`.
    latest_ns: i64,
    /// Something of after the outage was there while older readings waited.
    overtook: bool,
    /// The agent said when the backlog is gone: in its status, to its command line, as a metric.
    told: bool,
}

/// Mutations: a backlog that is delivered before what is read now (`Role::All` for both orders), a
/// `latest` that goes by arrival (`rank`).
#[tokio::test]
async fn what_is_read_now_arrives_while_a_backlog_drains_and_both_say_so() {
    let place = tempfile::tempdir().expect("a directory");
    let mut sink = Sink::start(place.path(), &[]).await;
    let settings = counting(&[
        ("SAMPLE_INTERVAL", "5ms"),
        ("BATCH_MAX_READINGS", "1"),
        ("REQUEST_MAX_BYTES", "1KiB"),
        ("RATE_REQUESTS_PER_SECOND", "15"),
        ("DELIVERY_BACKLOG_AGE", "1s"),
    ]);
    sink.kill();
    let mut agent = Agent::start(place.path(), "newest", &sink.url(), &settings).await;
    wait_own(&agent, "spooled", 1500).await;
    let waited = agent.status().await["ledger"]["produced"].as_u64();
    agent.set("SAMPLE_INTERVAL", "100ms");
    agent.restart().await;
    wait_own(&agent, "produced", waited.expect("a count") + 40).await;
    sink.restart().await;
    let back_ns = wall_ns();

    let mut seen = Seen::default();
    let draining = async {
        while !look(&sink, &agent, &mut seen, back_ns).await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let drained = tokio::time::timeout(LIMIT, draining).await;
    drained.expect("the backlog is gone in time");
    assert!(seen.overtook, "what is read now waited for the backlog");
    assert!(seen.told, "nobody said when the backlog is gone");
    let metrics = agent.metrics().await;
    assert!(metrics["weir_agent_sender_renewals_total"] >= 1.0);
    assert!(agent.terminate().await.success());
    sink.folded().await;
    let sums = sink.closed_ledger("newest").await;
    assert_eq!((sums.spooled, sums.dropped), (0, 0), "{sums:?}");
}

/// One look at both; true when nothing old waits any more.
async fn look(sink: &Sink, agent: &Agent, seen: &mut Seen, back_ns: i64) -> bool {
    let status = agent.status().await;
    let rows = sink
        .sql("select cast(time as bigint) from latest where agent = 'newest'")
        .await;
    let latest_ns = rows.first().and_then(|row| row[0].as_i64()).unwrap_or(0);
    assert!(latest_ns >= seen.latest_ns, "latest went back");
    seen.latest_ns = latest_ns;
    let streams = status["streams"].as_array().expect("streams");
    let waits = |stream: &&Value| stream["live"] == false && stream["spooled"].as_u64() > Some(0);
    let old = streams.iter().filter(waits).count();
    seen.overtook |= old > 0 && latest_ns > back_ns;
    if !seen.told && status["backlog"]["drain_seconds"].as_f64() > Some(0.0) {
        let text = run_once(
            &programs::agent(),
            &["status"],
            &[("WEIR_AGENT_STATUS_LISTEN", &agent.status.to_string())],
        );
        let text = String::from_utf8_lossy(&text.stdout).into_owned();
        let metric = agent.metrics().await["weir_agent_sender_drain_seconds"];
        seen.told = text.contains("fewer each second, gone in") && metric > 0.0;
    }
    streams.len() == 1
}

fn wall_ns() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(now.expect("after 1970").as_nanos()).expect("before 2262")
}
