//! A soak: three agents and a sink for a long time, each killed or stopped at random moments, their
//! links cut, parted and robbed of acknowledgements, all from one seed. In the end everything is
//! delivered once, every ledger closes, and memory and disk are flat.
//!
//! In: a [`Plan`]. Out: a [`Report`], whose `faults` are empty when all holds. The expected set comes
//! from counters: every agent counts its reads, so each life must be 1, 2, 3 ... without a gap.
//!
//! | file | what it does |
//! |---|---|
//! | `parties` | kills, stops and restarts; the links |
//! | `samples` | memory and disk once a second, and the rules for flat |

mod parties;
mod samples;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::chance::Chance;
use crate::counting::{COUNTING, audited, folded, readings_between};
use crate::proxy::Proxy;
use crate::wait::until;
use crate::world::{Agent, Sink};
use parties::{Field, Party};

pub use samples::{Sample, Samples};

/// How many agents there are.
pub const AGENTS: usize = 3;

/// What is left when the faults are over is delivered by then.
const DELIVERED: Duration = Duration::from_secs(180);

/// What a life may lose at its end, and how long a stop may take: 200 ms of batching, 200 ms until
/// the commit, a grace of 5 s, and what a busy machine adds.
const END_OF_LIFE: Duration = Duration::from_secs(10);

/// Shorter runs are too short to be flat or not.
const FLAT_FROM: Duration = Duration::from_secs(300);

/// What is run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How long faults are made.
    pub length: Duration,
    /// What every random choice follows from.
    pub seed: u64,
    /// Shortest and longest time between two faults of one party.
    pub between: (Duration, Duration),
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Report {
    /// Times that processes were killed, over all of them.
    pub kills: u64,
    /// Times that processes were stopped by SIGTERM.
    pub stops: u64,
    /// Times that a link was cut, parted or lost acknowledgements.
    pub cuts: u64,
    /// Readings stored in the end, over all agents.
    pub stored: u64,
    /// Memory and disk over time.
    pub samples: Samples,
    /// Everything that is wrong.
    pub faults: Vec<String>,
}

const AGENT: [(&str, &str); 7] = [
    ("SAMPLE_INTERVAL", "5ms"),
    ("BATCH_MAX_READINGS", "50"),
    ("BATCH_MAX_AGE", "200ms"),
    ("SPOOL_COMMIT_INTERVAL", "200ms"),
    ("SPOOL_SEGMENT_BYTES", "64KiB"),
    ("RETRY_MAX_DELAY", "2s"),
    ("SHUTDOWN_GRACE", "5s"),
];

const SINK: &[(&str, &str)] = &[
    ("STORE_FLUSH_ROWS", "5000"),
    ("STORE_FLUSH_INTERVAL", "2s"),
    ("JOURNAL_SEGMENT_BYTES", "1MiB"),
    ("COMPACTION_INTERVAL", "5s"),
    ("COMPACTION_MIN_FILES", "8"),
    ("QUERY_MAX_ROWS", "1000000"),
    ("SHUTDOWN_GRACE", "10s"),
];

/// Runs a plan below `place`; `say` hears of progress.
pub async fn run(place: &Path, plan: Plan, say: impl Fn(&str)) -> Report {
    let mut report = Report::default();
    let mut chance = Chance::new(plan.seed);
    let mut sink = Sink::start(place, SINK).await;
    sink.roam();
    let mut links = Vec::new();
    for _ in 0..AGENTS {
        let link = Proxy::start().await;
        link.to(sink.grpc);
        links.push(link);
    }
    let links = Arc::new(links);
    let settings: Vec<_> = COUNTING.into_iter().chain(AGENT).collect();
    let mut agents = Vec::new();
    for (number, link) in links.iter().enumerate() {
        let name = format!("soak-{}", number + 1);
        agents.push(Party::start(place, &name, &link.url(), &settings).await);
    }
    let field = Field::new(plan, &links, &agents, &sink);

    let began = Instant::now();
    let mut running = Vec::new();
    for agent in agents {
        let own = Chance::new(chance.below(u64::MAX));
        running.push(tokio::spawn(Arc::clone(&field).trouble_agent(agent, own)));
    }
    let own = Chance::new(chance.below(u64::MAX));
    let sinking = tokio::spawn(Arc::clone(&field).trouble_sink(sink, own));
    for number in 0..AGENTS {
        let own = Chance::new(chance.below(u64::MAX));
        tokio::spawn(Arc::clone(&field).trouble_link(number, own));
    }
    while began.elapsed() < plan.length {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let sample = field.sample(began.elapsed()).await;
        if report.samples.0.len() % 60 == 59 {
            say(&format!("{sample}, {}", field.counts()));
        }
        report.samples.0.push(sample);
    }
    field.end();
    let mut agents = Vec::new();
    for one in running {
        agents.push(one.await.expect("an agent's party does not panic"));
    }
    let mut sink = sinking.await.expect("the sink's party does not panic");
    links.iter().for_each(Proxy::heal);
    say("no more faults: delivering what is left");
    (report.kills, report.stops, report.cuts) = field.totals();
    finish(&mut agents, &mut sink, &mut report).await;
    report.faults.extend(field.faults());
    if plan.length >= FLAT_FROM {
        report.faults.extend(report.samples.not_flat());
    }
    report
}

/// Delivers what is left, stops everything, and compares.
async fn finish(agents: &mut [Party], sink: &mut Sink, report: &mut Report) {
    for party in agents.iter_mut() {
        delivered(&party.agent).await;
        if let Err(found) = party.stop().await {
            report.faults.push(found);
        }
    }
    for party in agents.iter() {
        match compare(party, sink).await {
            Ok(stored) => report.stored += stored,
            Err(found) => report.faults.push(format!("{}: {found}", party.agent.name)),
        }
    }
    report.faults.extend(audited(sink).err());
    let exited = sink.terminate().await;
    if !exited.success() {
        report
            .faults
            .push(format!("the sink stopped with {exited}"));
    }
}

async fn delivered(agent: &Agent) {
    until("old streams to be delivered", DELIVERED, || async {
        let status = agent.try_status().await?;
        (status["streams"].as_array()?.len() == 1).then_some(())
    })
    .await;
}

/// Every life against its rows, one life after the other so that no answer is large; then the
/// ledger of the agent.
async fn compare(party: &Party, sink: &Sink) -> Result<u64, String> {
    let name = &party.agent.name;
    folded(sink, name).await;
    let mut stored = 0;
    for (number, life) in party.lives.iter().enumerate() {
        let own = readings_between(sink, name, life.span()).await;
        stored += own.len() as u64;
        life.check(&own, END_OF_LIFE)
            .map_err(|found| format!("life {number} of {}: {found}", party.lives.len()))?;
    }
    let query = format!("select count(*) from samples where agent = '{name}'");
    let rows = sink.sql(&query).await[0][0].as_u64().unwrap_or(0);
    if rows != stored {
        return Err(format!("{rows} rows are stored, {stored} are of a life"));
    }
    let sums = sink.closed_ledger(name).await;
    if (sums.produced, sums.stored, sums.spooled, sums.dropped) != (rows, rows, 0, 0) {
        return Err(format!("{rows} rows are stored, the ledger says {sums:?}"));
    }
    Ok(stored)
}
