//! What is lost and what is stored twice when a sink is killed again and again under load, and agents with it.
//!
//! The agents count: the nth value of each of their series is n. So what a life of an agent has sent is known from the
//! values alone: they must be 1, 2, 3 and so on, each once, and as many as the agents say that they have produced. What an agent that
//! was killed had not yet written down is in no count: it says itself how many moments it has missed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::agents::Agent;
use crate::gate::programs;
use crate::http::{Connection, sql};
use crate::ledger;
use crate::program::Sink;

/// How it is run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory with `weir-sink` and `weir-agent`; that of this program when not given.
    #[arg(long)]
    pub(crate) programs: Option<PathBuf>,
    /// Another `weir-agent`.
    #[arg(long)]
    pub(crate) agent: Option<PathBuf>,
    /// Agents.
    #[arg(long, default_value_t = 10, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub(crate) agents: usize,
    /// Series of each agent.
    #[arg(long, default_value_t = 1000)]
    pub(crate) series: u32,
    /// Milliseconds between two samples.
    #[arg(long, default_value_t = 100)]
    pub(crate) interval_ms: u64,
    /// How often the sink is killed.
    #[arg(long, default_value_t = 5)]
    pub(crate) kills: u32,
    /// Seconds from a start of the sink to its next end.
    #[arg(long, default_value_t = 4.0)]
    pub(crate) between: f64,
    /// Seconds in which there is no sink.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) outage: f64,
    /// In each outage one of the agents is killed too, by turns.
    #[arg(long)]
    pub(crate) with_agents: bool,
}

/// Room for the questions at the end, which sort all rows of an agent.
const MEMORY: [(&str, &str); 2] = [("QUERY_MEMORY", "2GiB"), ("QUERY_TENANT_MEMORY", "2GiB")];

/// What came of it.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Outcome {
    agents: usize,
    points_per_second: f64,
    kills_of_sink: u32,
    kills_of_agents: u32,
    /// By the ledger: what agents said they had produced, and what became of it.
    produced: u64,
    stored: u64,
    spooled: u64,
    dropped: u64,
    /// Moments at which agents did not sample, a crash among the reasons. An agent says it with each of its streams: the
    /// most that one of them has.
    missed_ticks: u64,
    unexplained: i64,
    /// Rows of `samples`.
    rows: u64,
    /// Values that are missing before the last of a life and series.
    lost: u64,
    /// Values that are there twice.
    twice: u64,
}

/// Kills, waits for the rest, compares.
pub(crate) async fn run(args: &Args) -> anyhow::Result<Outcome> {
    let programs = programs(args.programs.clone())?;
    let mut sink = Sink::start(&programs, &MEMORY).await?;
    let address = sink.grpc.trim_start_matches("http://").to_owned();
    let program = args.agent.clone().unwrap_or(programs.join("weir-agent"));
    let mut agents = Vec::with_capacity(args.agents);
    for number in 0..args.agents {
        let settings = [
            ("NAME", format!("kills-{number}")),
            ("SIMULATED_MODE", "counter".to_owned()),
            ("SIMULATED_METRICS", args.series.to_string()),
            ("SAMPLE_INTERVAL", format!("{}ms", args.interval_ms)),
        ];
        agents.push(Agent::start(&program, &sink.grpc, &settings)?);
    }
    let begun = Instant::now();
    let mut outcome = Outcome {
        agents: args.agents,
        ..Outcome::default()
    };
    let settings = [MEMORY[0], MEMORY[1], ("GRPC_LISTEN", &*address)];
    for kill in 0..args.kills {
        tokio::time::sleep(Duration::from_secs_f64(args.between)).await;
        let place = sink.kill()?;
        outcome.kills_of_sink += 1;
        if args.with_agents {
            let which = kill as usize % agents.len();
            agents[which].kill()?;
            agents[which].again()?;
            outcome.kills_of_agents += 1;
        }
        tokio::time::sleep(Duration::from_secs_f64(args.outage)).await;
        std::fs::remove_file(place.path().join("data/endpoints.json"))?;
        sink = Sink::start_in(place, &programs, &settings).await?;
    }
    tokio::time::sleep(Duration::from_secs_f64(args.between)).await;
    let seconds = begun.elapsed().as_secs_f64();
    for agent in &mut agents {
        agent.stop().await?;
    }
    folded(&sink).await?;
    outcome.read_ledger(&sink).await?;
    outcome.read_rows(&sink).await?;
    outcome.points_per_second = outcome.produced as f64 / seconds;
    outcome.hold()
}

/// Waits until everything that was acknowledged is folded.
async fn folded(sink: &Sink) -> anyhow::Result<()> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let ledger = ledger::fetch(&sink.http).await?;
        let streams = ledger["streams"].as_array().context("streams")?;
        if streams.iter().all(|stream| stream["pending_fold"] == 0) {
            return Ok(());
        }
        ensure!(Instant::now() < end, "the sink does not fold: {ledger}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl Outcome {
    async fn read_ledger(&mut self, sink: &Sink) -> anyhow::Result<()> {
        let ledger = ledger::fetch(&sink.http).await?;
        let mut missed = BTreeMap::new();
        for stream in ledger["streams"].as_array().context("streams")? {
            let count = |name: &str| stream[name].as_u64().with_context(|| name.to_owned());
            self.produced += count("produced")?;
            self.stored += count("stored")?;
            self.spooled += count("spooled")?;
            let agent = stream["agent"].as_str().unwrap_or_default().to_owned();
            let most: &mut u64 = missed.entry(agent).or_default();
            *most = count("missed_ticks")?.max(*most);
            self.unexplained += stream["unexplained"].as_i64().context("unexplained")?;
            let dropped = stream["dropped"].as_object().context("dropped")?;
            self.dropped += dropped.values().filter_map(Value::as_u64).sum::<u64>();
        }
        self.missed_ticks = missed.values().sum();
        Ok(())
    }

    /// Fails where anything is missing, doubled or not accounted for.
    fn hold(self) -> anyhow::Result<Self> {
        let closed = self.produced == self.stored && self.spooled == 0 && self.unexplained == 0;
        let right = self.rows == self.stored && self.lost == 0 && self.twice == 0;
        ensure!(closed && right && self.rows > 0, "{self:?}");
        Ok(self)
    }

    /// A life begins where a value is less than the one before.
    async fn read_rows(&mut self, sink: &Sink) -> anyhow::Result<()> {
        let mut connection = Connection::open(&sink.http).await?;
        for number in 0..self.agents {
            let query = format!(
                "with own as (select concat_ws(' ', device, metric, attributes) as series, time, value from samples \
                 where agent = 'kills-{number}'), \
                 begun as (select *, lag(value) over (partition by series order by time, value) as earlier from own), \
                 lives as (select *, sum(case when value < earlier then 1 else 0 end) \
                 over (partition by series order by time, value) as life from begun), \
                 counts as (select count(*) as rows, count(distinct value) as kinds, cast(max(value) as bigint) as last \
                 from lives group by series, life) \
                 select sum(rows), sum(rows - kinds), sum(last - kinds) from counts"
            );
            let rows = sql(&mut connection, &query).await?;
            let count = |at: usize| rows[0][at].as_u64().context("an agent without rows");
            self.rows += count(0)?;
            self.twice += count(1)?;
            self.lost += count(2)?;
        }
        Ok(())
    }
}
