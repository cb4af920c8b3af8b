//! T10 and too many series: what is too much waits or is counted, and nobody else notices.

use std::collections::BTreeSet;
use std::path::Path;

use weir_tests::http;
use weir_tests::wait::until;
use weir_tests::world::{Agent, Sink};

use crate::stored::{LIMIT, assert_counted, counting, own, readings, wait_for, wait_own};

/// Bytes per second; the agent below offers several times as many.
const QUOTA: u64 = 2000;

/// T10: what an agent sends beyond its quota is answered RESOURCE_EXHAUSTED and comes later; on the average no
/// more comes than may, and everything in the end. Mutation: quotas that are never booked.
#[tokio::test]
async fn an_agent_over_its_quota_waits_and_loses_nothing() {
    let place = tempfile::tempdir().expect("a directory");
    let quota = QUOTA.to_string();
    let limits = [("LIMITS_AGENT_BYTES_PER_SECOND", quota.as_str())];
    let mut sink = Sink::start(place.path(), &limits).await;
    let settings = counting(&[("SAMPLE_INTERVAL", "5ms"), ("BATCH_MAX_READINGS", "1")]);
    let began = std::time::Instant::now();
    let mut agent = Agent::start(place.path(), "t10", &sink.url(), &settings).await;
    let refusals = until("three answers that ask for time", LIMIT, || async {
        let refused = exhausted(&agent).await;
        (refused >= 3.0).then_some(refused)
    })
    .await;
    assert!(refusals >= 3.0);
    let said = agent.log();
    assert!(said.contains("limits.agent_bytes_per_second"), "{said}");
    let metrics = sink.metrics().await;
    let over = r#"weir_sink_limits_over_quota_total{scope="agent",measure="bytes"}"#;
    assert!(
        metrics.get(over).is_some_and(|count| *count >= 3.0),
        "{metrics:?}"
    );
    // The rate of what was taken: a second's worth may be ahead, and one request beyond.
    sink.folded().await;
    let taken = sink.closed_ledger("t10").await.stored;
    let most = QUOTA * (began.elapsed().as_secs() + 2) + 64 * 1024;
    assert!(
        taken * LEAST_BATCH_BYTES <= most,
        "{taken} batches, at most {most} bytes"
    );

    // The same sink without a quota: what waited comes, each once.
    assert!(sink.terminate().await.success());
    sink.set("LIMITS_AGENT_BYTES_PER_SECOND", "0");
    sink.restart().await;
    let produced = own(&agent, "produced").await;
    wait_for(&sink, "t10", produced).await;
    assert!(agent.terminate().await.success());
    let stored = readings(&sink, "t10").await;
    assert_counted(&stored, stored.len() as u64);
    let sums = sink.closed_ledger("t10").await;
    assert_eq!((sums.spooled, sums.dropped), (0, 0), "{sums:?}");
}

/// A batch of one reading takes no less.
const LEAST_BATCH_BYTES: u64 = 20;

async fn exhausted(agent: &Agent) -> f64 {
    let metrics = agent.metrics().await;
    let wanted = metrics
        .iter()
        .filter(|(name, _)| name.contains("retries") && name.contains("resource_exhausted"));
    wanted.map(|(_, count)| count).sum()
}

/// A limit in the file that a sink reads its variables from, and something that is for its start alone.
fn written(place: &Path, overrides: &str, grace: &str) {
    let text =
        format!("WEIR_SINK_LIMITS_OVERRIDES=\"{overrides}\"\nWEIR_SINK_SHUTDOWN_GRACE={grace}\n");
    std::fs::create_dir_all(place.join("sink")).expect("a directory");
    std::fs::write(place.join("sink").join(".env"), text).expect("written");
}

async fn says(sink: &Sink, words: &str) {
    until(&format!("{words:?} in the sink's log"), LIMIT, || async {
        sink.log().contains(words).then_some(())
    })
    .await;
}

/// A tenant is held back; its limit is raised in the file, and after a SIGHUP what waited comes, much faster than the former limit
/// lets it, each reading once. What cannot be used before that changes nothing and is named.
///
/// Mutations: `Ingest::set_limits` that leaves the quotas alone (it takes 200 s); settings that are taken over with faults.
#[tokio::test]
async fn a_limit_that_is_raised_counts_from_the_signal_on() {
    let place = tempfile::tempdir().expect("a directory");
    written(place.path(), "default: tenant_bytes_per_second=200", "20s");
    let sink = Sink::start(place.path(), &[("QUERY_MAX_ROWS", "1000000")]).await;
    let settings = counting(&[
        ("SAMPLE_INTERVAL", "5ms"),
        ("BATCH_MAX_READINGS", "1"),
        ("REQUEST_MAX_BYTES", "1KiB"),
    ]);
    let mut agent = Agent::start(place.path(), "held", &sink.url(), &settings).await;
    until("an answer that asks for time", LIMIT, || async {
        (exhausted(&agent).await >= 1.0).then_some(())
    })
    .await;

    written(place.path(), "default: tenant_bytes=1MiB", "20s");
    sink.hang_up();
    says(
        &sink,
        "the settings cannot be used, those before stay in effect",
    )
    .await;
    for words in [
        "WEIR_SINK_LIMITS_OVERRIDES",
        "tenant_bytes: is not a limit",
        "bytes_per_second",
    ] {
        assert!(sink.log().contains(words), "{words}: {}", sink.log());
    }
    let (_, ready) = http::get(sink.http, "/readyz").await.expect("an answer");
    let ready = String::from_utf8_lossy(&ready).into_owned();
    assert!(
        ready.contains("the settings as they are written cannot be used"),
        "{ready}"
    );
    let refused = exhausted(&agent).await;
    until("it is held back as before", LIMIT, || async {
        (exhausted(&agent).await > refused).then_some(())
    })
    .await;

    wait_own(&agent, "spooled", 2000).await;
    let produced = own(&agent, "produced").await;
    written(
        place.path(),
        "default: tenant_bytes_per_second=10MiB",
        "21s",
    );
    sink.hang_up();
    says(&sink, "other limits from now on").await;
    says(&sink, "need a restart").await;
    let log = sink.log();
    let restart = log
        .lines()
        .find(|line| line.contains("need a restart"))
        .unwrap_or_default();
    assert!(restart.contains("WEIR_SINK_SHUTDOWN_GRACE"), "{restart}");
    assert!(!restart.contains("LIMITS"), "{restart}");
    wait_for(&sink, "held", produced).await;
    assert!(agent.terminate().await.success());
    let stored = readings(&sink, "held").await;
    let sums = sink.closed_ledger("held").await;
    assert_eq!((sums.spooled, sums.dropped), (0, 0), "{sums:?}");
    assert!(sums.produced >= produced, "{sums:?}");
    assert_counted(&stored, sums.produced);
}

/// Two agents of one kind, each of its own tenant. Mutation: `limits.overrides` that is read and not used.
#[tokio::test]
async fn a_tenant_has_the_limits_that_are_written_for_it() {
    let place = tempfile::tempdir().expect("a directory");
    let limits = [
        ("LIMITS_AGENT_SERIES", "20"),
        ("LIMITS_OVERRIDES", "lab: agent_series=30"),
    ];
    let sink = Sink::start(place.path(), &limits).await;
    for (tenant, most) in [("plant", 20), ("lab", 30)] {
        let token = sink.token(&format!(
            "--role agent --tenant {tenant} --agent-pattern {tenant}"
        ));
        let settings = counting(&[
            ("SAMPLE_INTERVAL", "20ms"),
            ("SIMULATED_METRICS", "50"),
            ("SINK_TOKEN", &token),
        ]);
        let mut agent = Agent::start(place.path(), tenant, &sink.url(), &settings).await;
        wait_own(&agent, "acked", 1000).await;
        assert!(agent.terminate().await.success());
        let reader = sink.token(&format!("--role reader --tenant {tenant} --name test"));
        let query = "select distinct device, metric, attributes from samples";
        until("what was delivered to be folded", LIMIT, || async {
            let ledger = sink.ledger_as(&reader).await;
            ledger
                .iter()
                .all(|stream| stream["pending_fold"] == 0)
                .then_some(())
        })
        .await;
        assert_eq!(sink.sql_as(&reader, query).await.len(), most, "{tenant}");
        assert!(agent.log().contains("limits.overrides"), "{}", agent.log());
    }
}

/// Series beyond the limit are named on both sides and counted; the others of the same batches are stored, and
/// another agent's are, across a SIGKILL of the sink. Mutation: verdicts that are not in the journal.
#[tokio::test]
async fn series_beyond_the_limit_are_counted_and_hurt_nobody_else() {
    let place = tempfile::tempdir().expect("a directory");
    let mut sink = Sink::start(place.path(), &[("LIMITS_AGENT_SERIES", "20")]).await;
    let with = |metrics| {
        counting(&[
            ("SAMPLE_INTERVAL", "20ms"),
            ("BATCH_MAX_READINGS", "200"),
            ("SIMULATED_METRICS", metrics),
        ])
    };
    let mut wild = Agent::start(place.path(), "wild", &sink.url(), &with("50")).await;
    let mut calm = Agent::start(place.path(), "calm", &sink.url(), &with("20")).await;
    wait_for(&sink, "wild", 2000).await;
    sink.kill();
    sink.restart().await;
    let stored = sink.closed_ledger("wild").await.stored;
    wait_for(&sink, "wild", stored + 2000).await;
    assert!(wild.terminate().await.success());
    assert!(calm.terminate().await.success());

    sink.folded().await;
    let sums = sink.closed_ledger("wild").await;
    assert_eq!(sums.produced, sums.stored + sums.dropped, "{sums:?}");
    assert_eq!(
        sums.stored * 30,
        sums.dropped * 20,
        "20 series of 50: {sums:?}"
    );
    let named: BTreeSet<String> = sink
        .sql("select distinct device, metric, attributes from samples where agent = 'wild'")
        .await
        .iter()
        .map(|row| format!("{row:?}"))
        .collect();
    assert_eq!(named.len(), 20, "{named:?}");
    let others = sink.closed_ledger("calm").await;
    assert_eq!((others.dropped, others.spooled), (0, 0), "{others:?}");
    assert_eq!(others.produced, others.stored);
    for log in [sink.log(), wild.log()] {
        assert!(log.contains("limits.agent_series"), "{log}");
    }
    assert!(!calm.log().contains("limits.agent_series"));
}
