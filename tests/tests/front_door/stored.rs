//! What stands in the table, and what must stand there: the counting device gives every reading
//! its own number, so a loss is a gap and a double is a repeat.

use std::time::Duration;

use weir_tests::wait::until;
use weir_tests::world::{Agent, Sink};

/// No case waits longer for one condition.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// An agent with these settings counts 1, 2, 3 ... in readings of one metric.
pub(crate) const COUNTING: &[(&str, &str)] = &[
    ("SENSORS", "simulated"),
    ("SIMULATED_MODE", "counter"),
    ("SIMULATED_METRICS", "1"),
    ("SPOOL_COMMIT_INTERVAL", "50ms"),
    ("RETRY_MIN_DELAY", "50ms"),
    ("RETRY_MAX_DELAY", "500ms"),
];

/// The counting settings and some more.
pub(crate) fn counting<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    COUNTING.iter().chain(more).copied().collect()
}

/// (observed ns, value) of every reading of an agent that was acknowledged by now, in the order of
/// its values.
pub(crate) async fn readings(sink: &Sink, agent: &str) -> Vec<(i64, u64)> {
    let query = format!(
        "select cast(time as bigint), value from samples where agent = '{agent}' order by 2, 1"
    );
    sink.folded().await;
    sink.sql(&query)
        .await
        .iter()
        .map(|row| {
            let time = row[0].as_i64().expect("a time in nanoseconds");
            let value = row[1].as_f64().expect("a number");
            (time, value as u64)
        })
        .collect()
}

/// Waits until this many readings of an agent are stored.
pub(crate) async fn wait_for(sink: &Sink, agent: &str, count: u64) {
    until(
        &format!("{count} stored readings of {agent}"),
        LIMIT,
        || async { (sink.closed_ledger(agent).await.stored >= count).then_some(()) },
    )
    .await;
}

/// A figure of the agent's own ledger.
pub(crate) async fn own(agent: &Agent, figure: &str) -> u64 {
    let status = agent.status().await;
    status["ledger"][figure]
        .as_u64()
        .unwrap_or_else(|| panic!("no ledger.{figure} in {status}"))
}

/// Waits until a figure of the agent's own ledger is at least this.
pub(crate) async fn wait_own(agent: &Agent, figure: &str, at_least: u64) {
    until(&format!("{figure} of {at_least}"), LIMIT, || async {
        (own(agent, figure).await >= at_least).then_some(())
    })
    .await;
}

/// Asserts that exactly 1..=last is stored, each once.
pub(crate) fn assert_counted(stored: &[(i64, u64)], last: u64) {
    let values: Vec<u64> = stored.iter().map(|(_, value)| *value).collect();
    let expected: Vec<u64> = (1..=last).collect();
    assert!(
        values == expected,
        "expected 1..={last} once each, got {} readings: missing {:?}, repeated {:?}",
        values.len(),
        expected
            .iter()
            .filter(|value| !values.contains(value))
            .collect::<Vec<_>>(),
        values
            .windows(2)
            .filter(|pair| pair[0] == pair[1])
            .map(|pair| pair[0])
            .collect::<Vec<_>>(),
    );
}
