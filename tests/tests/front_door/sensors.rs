//! T11 and the host's own sensors.

use weir_tests::wait::until;
use weir_tests::world::{Agent, Sink};

use crate::stored::{LIMIT, wait_for};

/// T11: one sensor fails, one panics; both say so and start again, the third goes on.
#[tokio::test]
async fn failing_and_panicking_sensors_do_not_stop_the_others() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = Sink::start(place.path(), &[]).await;
    let config = place.path().join("agent.toml");
    std::fs::write(
        &config,
        r#"
[[sensor]]
name = "steady"
type = "simulated"
device = "steady"
interval = "50ms"

[[sensor]]
name = "failing"
type = "simulated"
device = "failing"
interval = "50ms"
fail_every = 3

[[sensor]]
name = "panicking"
type = "simulated"
device = "panicking"
interval = "50ms"
panic_every = 3
"#,
    )
    .expect("a config file");
    let config = config.display().to_string();
    let settings = [
        ("CONFIG", config.as_str()),
        ("BATCH_MAX_AGE", "200ms"),
        ("SPOOL_COMMIT_INTERVAL", "50ms"),
    ];
    let mut agent = Agent::start(place.path(), "t11", &sink.url(), &settings).await;
    wait_for(&sink, "t11", 100).await;
    until(
        "readings of all three after their faults",
        LIMIT,
        || async {
            let rows = sink
                .sql("select device, count(distinct time) from samples group by 1 order by 1")
                .await;
            let counts: Vec<u64> = rows.iter().filter_map(|row| row[1].as_u64()).collect();
            (counts.len() == 3 && counts.iter().all(|count| *count >= 8)).then_some(())
        },
    )
    .await;
    let metrics = agent.metrics().await;
    for sensor in ["failing", "panicking"] {
        let errors: f64 = metrics
            .iter()
            .filter(|(name, _)| {
                name.starts_with("weir_agent_sensor_errors_total")
                    && name.contains(&format!("\"{sensor}\""))
            })
            .map(|(_, value)| value)
            .sum();
        assert!(errors >= 2.0, "{sensor}: {errors} errors in {metrics:?}");
    }
    assert!(
        agent.log().contains("panicking"),
        "the log names the sensor"
    );
    assert!(agent.terminate().await.success());
    sink.closed_ledger("t11").await;
}

/// With nothing but a sink's URL an agent samples its host.
#[tokio::test]
async fn host_is_sampled_without_any_configuration() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = Sink::start(place.path(), &[]).await;
    let mut agent = Agent::start(place.path(), "bare", &sink.url(), &[]).await;
    wait_for(&sink, "bare", 1).await;
    let rows = sink
        .sql("select metric, min(unit), count(*) from latest where agent = 'bare' group by 1")
        .await;
    let unit = |metric: &str| {
        rows.iter()
            .find(|row| row[0] == metric)
            .unwrap_or_else(|| panic!("no {metric} in {rows:?}"))[1]
            .clone()
    };
    assert_eq!(unit("system.memory.usage"), "By");
    assert_eq!(unit("system.cpu.utilization"), "1");
    assert_eq!(unit("system.filesystem.usage"), "By");
    unit("system.cpu.load_average.1m");
    let total = sink
        .sql(
            "select sum(value) from latest where agent = 'bare' and metric = 'system.memory.usage' \
             and attributes in ('{\"system.memory.state\":\"used\"}', '{\"system.memory.state\":\"free\"}')",
        )
        .await;
    assert!(
        total[0][0].as_f64().is_some_and(|bytes| bytes > 64e6),
        "a machine has more memory than {total:?}"
    );
    assert!(agent.terminate().await.success());
}
