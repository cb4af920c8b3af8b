//! The questions that people ask most, over HTTP, as the stored data grows and while readings come in.
//!
//! A thousand samples of each series, one a minute, beginning a day ago; flushes so small that there are many of them,
//! files merged as always. More data are more devices with the same metrics, of the same day: what is asked for stays the
//! same, and only how it is found can cost more.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use crate::fleet;
use crate::gate::programs;
use crate::http::{self, Connection, sql};
use crate::program::Sink;

/// How it is run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory with a `weir-sink` that answers SQL; that of this program when not given.
    #[arg(long)]
    pub(crate) programs: Option<PathBuf>,
    /// Stored points at which the questions are asked, rising.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000_000, 10_000_000])]
    pub(crate) points: Vec<u64>,
    /// Readings per flush; without it 10,000, or as many as make a thousand flushes of the most points: each writes
    /// the latest value of every series too.
    #[arg(long)]
    pub(crate) flush_rows: Option<u64>,
    /// How often each question is asked.
    #[arg(long, default_value_t = 30)]
    pub(crate) rounds: usize,
    /// Points per second that come in while the last questions are asked.
    #[arg(long, default_value_t = 100_000.0)]
    pub(crate) rate: f64,
}

/// Answers to one question at one size.
#[derive(Debug, Serialize)]
pub(crate) struct Answered {
    question: &'static str,
    stored: u64,
    /// Files there were, and those that were looked into for one answer.
    files: u64,
    read: u64,
    while_ingesting: bool,
    rows: usize,
    p50_ms: f64,
    p99_ms: f64,
}

/// All agents are called so; the last part is a number.
const PREFIX: &str = "bench-query-";

/// Samples of a series: of one day, whatever the size.
const SAMPLES: u64 = 1000;

/// Fills a sink of its own step by step, and asks.
pub(crate) async fn run(args: &Args) -> anyhow::Result<Vec<Answered>> {
    let most = args.points.iter().max().copied().unwrap_or(0);
    let flush = args.flush_rows.unwrap_or((most / 1000).max(10_000));
    let flush = flush.to_string();
    let settings = [
        ("STORE_FLUSH_ROWS", &*flush),
        ("COMPACTION_INTERVAL", "2s"),
        ("QUERY_MAX_ROWS", "20000"),
    ];
    let sink = Sink::start(&programs(args.programs.clone())?, &settings).await?;
    let mut answered = Vec::new();
    let mut stored = 0;
    for (step, points) in args.points.iter().enumerate() {
        let load = load(&sink, step, points - stored, 0.0);
        stored += fleet::run(&load).await?.points;
        settled(&sink, stored).await?;
        ask(&sink, args.rounds, false, &mut answered).await?;
    }
    let beside = tokio::spawn({
        let load = load(
            &sink,
            args.points.len(),
            (args.rate * 20.0) as u64,
            args.rate,
        );
        async move { fleet::run(&load).await }
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    ask(&sink, args.rounds, true, &mut answered).await?;
    beside.await?.context("readings beside the questions")?;
    Ok(answered)
}

/// Each step has devices of its own, of the same day: a question finds as much to answer at every size.
fn load(sink: &Sink, step: usize, points: u64, rate: f64) -> fleet::Args {
    let standard = fleet::Args::standard();
    let agents = points.div_ceil(SAMPLES * u64::from(standard.metrics));
    fleet::Args {
        sink: sink.grpc.clone(),
        http: sink.http.clone(),
        agents: u32::try_from(agents).unwrap_or(u32::MAX),
        points,
        rate,
        samples_per_batch: 10,
        interval: 60,
        ago: 86_400,
        seed: step as u64 + 1,
        prefix: Some(format!("{PREFIX}{step}-")),
        ..standard
    }
}

/// Waits until everything is in files and nothing more is merged.
async fn settled(sink: &Sink, points: u64) -> anyhow::Result<()> {
    let mut connection = Connection::open(&sink.http).await?;
    let mut before = 0;
    for _ in 0..120 {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let rows = http::metric(&sink.http, "weir_sink_store_readings_total").await? as u64;
        let (files, _) = looked_into(sink, &mut connection, COUNT).await?;
        if rows >= points && files == before {
            return Ok(());
        }
        before = files;
    }
    Ok(())
}

const COUNT: &str = "select count(*) from samples";

/// How many files there are when a question is asked, and how many of them it is about.
async fn looked_into(
    sink: &Sink,
    connection: &mut Connection,
    query: &str,
) -> anyhow::Result<(u64, u64)> {
    let counts = async || -> anyhow::Result<(u64, u64)> {
        let read = http::metric(&sink.http, "weir_sink_query_files_read_total").await?;
        let skipped = http::metric(&sink.http, "weir_sink_query_files_skipped_total").await?;
        Ok((read as u64, skipped as u64))
    };
    let before = counts().await?;
    sql(connection, query).await?;
    let after = counts().await?;
    let read = after.0 - before.0;
    Ok((read + after.1 - before.1, read))
}

async fn ask(
    sink: &Sink,
    rounds: usize,
    while_ingesting: bool,
    answered: &mut Vec<Answered>,
) -> anyhow::Result<()> {
    let mut connection = Connection::open(&sink.http).await?;
    let device = format!("device = '{PREFIX}0-0'");
    let questions = [
        (
            "latest of 1000 series",
            format!(
                "select device, metric, value, time from latest where device like '{PREFIX}0-%'"
            ),
        ),
        (
            "one series, an hour",
            format!(
                "select time, value from samples where metric = 'bench.metric_003' and {device} \
                 and time >= now() - interval '13 hours' and time < now() - interval '12 hours' order by time"
            ),
        ),
        (
            "ten series, a day by minute",
            format!(
                "select metric, date_trunc('minute', time) as minute, avg(value) from samples \
                 where metric between 'bench.metric_010' and 'bench.metric_019' and {device} \
                 and time < now() group by 1, 2"
            ),
        ),
        ("count of everything", COUNT.to_owned()),
    ];
    for (question, query) in questions {
        let rows = sql(&mut connection, &query).await?.len();
        let mut took = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            let begun = Instant::now();
            sql(&mut connection, &query).await?;
            took.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        took.sort_by(f64::total_cmp);
        let (files, read) = looked_into(sink, &mut connection, &query).await?;
        answered.push(Answered {
            question,
            stored: http::metric(&sink.http, "weir_sink_fold_readings_total").await? as u64,
            files,
            read,
            while_ingesting,
            rows,
            p50_ms: took[rounds / 2],
            p99_ms: took[(rounds * 99 / 100).min(rounds - 1)],
        });
    }
    Ok(())
}
