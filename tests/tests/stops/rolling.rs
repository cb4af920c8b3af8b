//! A rolling restart of the sink under the load of three agents.

use std::time::{Duration, Instant};

use weir_tests::wait::until;
use weir_tests::world::Sink;

use crate::{Counted, LIMIT, SINK, complaints, stop_sink};

const RESTARTS: usize = 4;
/// Readings arrive again within this time of the sink being ready: the longest retry delay of an
/// agent that was never away for long, and what a busy machine adds.
const AGAIN: Duration = Duration::from_secs(10);

/// Red when an agent takes the end of its calls for an error, when it backs off for long, or when
/// either side loses or doubles a reading on the way.
#[tokio::test]
async fn sink_restarted_under_load_costs_nothing_an_operator_would_see() {
    let place = tempfile::tempdir().expect("a directory");
    let mut sink = Sink::start(place.path(), SINK).await;
    let mut agents = Vec::new();
    for name in ["roll-1", "roll-2", "roll-3"] {
        agents.push(Counted::start(place.path(), name, &sink.url()).await);
    }
    for _ in 0..RESTARTS {
        grows(&sink, &agents, LIMIT).await;
        stop_sink(&mut sink).await;
        sink.restart().await;
        grows(&sink, &agents, AGAIN).await;
    }
    for one in &agents {
        let log = one.agent.log();
        let loud = complaints(&log);
        assert!(loud.is_empty(), "{}: {loud:#?}", one.agent.name);
    }
    for one in agents {
        one.finish(&sink).await;
    }
    let log = sink.log();
    let loud = complaints(&log);
    assert!(loud.is_empty(), "the sink: {loud:#?}");
}

/// Waits until readings of every agent have arrived since now.
async fn grows(sink: &Sink, agents: &[Counted], limit: Duration) {
    let end = Instant::now() + limit;
    for one in agents {
        let name = &one.agent.name;
        let before = sink.closed_ledger(name).await.stored;
        let left = end.saturating_duration_since(Instant::now());
        until(&format!("readings of {name}"), left, || async {
            (sink.closed_ledger(name).await.stored > before).then_some(())
        })
        .await;
    }
}
