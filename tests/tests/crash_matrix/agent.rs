//! The agent is killed. Its sensor counts how often it was read, from 1 in every life, so each
//! reading has a name: what a life committed must be stored, once, without a gap before its end.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use weir_fault::Mutant;
use weir_tests::counting::{COUNTING, Life, check_lives, committed, folded, readings};
use weir_tests::disk;
use weir_tests::proxy::Proxy;
use weir_tests::wait::until;
use weir_tests::world::{Agent, Faults, Sink};

use crate::cases::{BACKLOG, Case};
use crate::sink::killed;

/// No condition is waited for longer.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at the agent.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// `batch.max_age` and `spool.commit_interval` below, and what a busy machine adds.
const LOSS_BOUND: Duration = Duration::from_millis(30 + 20 + 2000);

/// What a killed life may lose at its end: the bound, and twice what the disk took for a sync: one that was under way, and
/// what had to wait for it.
pub(crate) fn loss_bound() -> Duration {
    LOSS_BOUND + 2 * disk::slowest_sync()
}

/// How the agent counts, and how quickly, with one stream per life.
pub(crate) fn settings(fills_segments: bool) -> Vec<(&'static str, &'static str)> {
    let (interval, readings) = if fills_segments {
        ("1ms", "1")
    } else {
        ("5ms", "2")
    };
    let quick = [
        ("SAMPLE_INTERVAL", interval),
        ("BATCH_MAX_READINGS", readings),
        ("BATCH_MAX_AGE", "30ms"),
        ("SPOOL_COMMIT_INTERVAL", "20ms"),
        ("SPOOL_SEGMENT_BYTES", "64KiB"),
        ("RETRY_MIN_DELAY", "20ms"),
        ("RETRY_MAX_DELAY", "200ms"),
    ];
    COUNTING.into_iter().chain(quick).collect()
}

/// Every outage is long enough to begin another stream after it.
const RENEWING: [(&str, &str); 2] = [
    ("DELIVERY_BACKLOG_AGE", "100ms"),
    ("REQUEST_MAX_BYTES", "1KiB"),
];

/// Runs one case; what is wrong, if anything is.
pub(crate) async fn run(case: &Case, sink: &Sink) -> Result<(), String> {
    let mut settings = settings(case.fills_segments());
    settings.extend(RENEWING);
    run_with(case, sink, &settings, Faults::none).await
}

/// The same with a mutation in every life.
pub(crate) async fn run_mutated(case: &Case, sink: &Sink, mutant: Mutant) -> Result<(), String> {
    let settings = settings(case.fills_segments());
    run_with(case, sink, &settings, || Faults::mutant(mutant)).await
}

async fn run_with(
    case: &Case,
    sink: &Sink,
    settings: &[(&str, &str)],
    always: impl Fn() -> Faults,
) -> Result<(), String> {
    let place = tempfile::tempdir().expect("a directory");
    let proxy = Proxy::start().await;
    let name = case.to_string().replace(", ", "-").replace(' ', "-");
    disk::watch();
    let mut lives = vec![Life::begin()];
    let mut agent = Agent::start(place.path(), &name, &proxy.url(), settings).await;
    proxy.to(sink.grpc);
    until("the first deliveries", LIMIT, || async {
        let status = agent.try_status().await?;
        (status["ledger"]["acked"].as_u64()? >= BACKLOG).then_some(())
    })
    .await;
    agent.kill();
    lives[0].end();
    proxy.close();
    for passing in &case.passings {
        if case.passes_once_per_stream() {
            for _ in 1..*passing {
                lives.push(offline(&mut agent).await);
            }
        }
        agent.faults = Faults::kill(case.point, *passing).and(always());
        let mut life = Life::begin();
        let exited = until_killed(&mut agent, &mut life, case.backlog, || {
            if case.ack_lost {
                proxy.lose_acks(1);
            }
            proxy.to(sink.grpc);
        })
        .await
        .ok_or_else(|| format!("passing {passing} was never reached"))?;
        life.end();
        lives.push(life);
        proxy.close();
        killed(exited, case)?;
    }
    agent.faults = always();
    proxy.to(sink.grpc);
    lives.push(Life::begin());
    agent.restart().await;
    end_well(&mut agent, lives.last_mut().expect("it was pushed")).await?;
    check(sink, &name, &lives).await
}

/// A life without a sink, that leaves one more stream to be drained.
async fn offline(agent: &mut Agent) -> Life {
    agent.faults = Faults::none();
    let mut life = Life::begin();
    agent.restart().await;
    until("readings to be committed", LIMIT, || {
        let status = agent.try_status();
        async { (committed(&status.await?) >= BACKLOG).then_some(()) }
    })
    .await;
    agent.kill();
    life.end();
    life
}

/// Starts the agent with its link closed, opens it once there is a backlog, and waits for the kill.
pub(crate) async fn until_killed(
    agent: &mut Agent,
    life: &mut Life,
    backlog: u64,
    open: impl FnOnce(),
) -> Option<ExitStatus> {
    if let Some(exited) = agent.launch().await {
        return Some(exited);
    }
    let mut open = Some(open);
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        if let Some(exited) = agent.exited() {
            return Some(exited);
        }
        if let Some(status) = agent.try_status().await {
            life.hear(&status);
        }
        if life.committed() >= backlog
            && let Some(open) = open.take()
        {
            open();
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    None
}

/// Waits until all streams but the live one are delivered, then stops the agent.
pub(crate) async fn end_well(agent: &mut Agent, life: &mut Life) -> Result<(), String> {
    let status = until("old streams to be delivered", LIMIT, || async {
        let status = agent.try_status().await?;
        let streams = status["streams"].as_array()?;
        let live = streams.first()?["acked"].as_u64()?;
        (streams.len() == 1 && live >= BACKLOG).then_some(status)
    })
    .await;
    life.hear(&status);
    if status["ledger"]["unexplained"] != 0 {
        return Err(format!("the agent's ledger does not close: {status}"));
    }
    let exited = agent.terminate().await;
    life.end();
    if exited.success() {
        Ok(())
    } else {
        Err(format!("the agent stopped with {exited}"))
    }
}

async fn check(sink: &Sink, agent: &str, lives: &[Life]) -> Result<(), String> {
    folded(sink, agent).await;
    let stored = readings(sink, agent).await;
    check_lives(&stored, lives, loss_bound())?;
    let sums = sink.closed_ledger(agent).await;
    let count = stored.len() as u64;
    if (sums.produced, sums.stored, sums.spooled, sums.dropped) != (count, count, 0, 0) {
        return Err(format!("{count} rows are stored, the ledger says {sums:?}"));
    }
    Ok(())
}
