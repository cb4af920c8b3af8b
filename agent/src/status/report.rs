//! What the agent says of itself: one value, as JSON on the wire and as text for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_process::metrics::COMMIT;
use weir_process::output::{Align, Table};

use super::Sources;
use super::budget::Budget;
use super::sink::Sink;
use super::spool::{Backlog, Spool};
use crate::ledger::StreamView;
use crate::sampler::{SensorConfig, SensorState};

/// Everything an operator asks an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    agent: String,
    version: String,
    commit: String,
    uptime_seconds: f64,
    /// Whether readings can be taken and kept.
    ready: bool,
    /// What is wrong, by part.
    failing: BTreeMap<String, String>,
    sink: Sink,
    /// Readings of so many seconds can be lost at most when the agent or its machine dies.
    loss_bound_seconds: f64,
    sensors: Vec<Sensor>,
    queue: Queue,
    spool: Spool,
    backlog: Backlog,
    budget: Budget,
    streams: Vec<Stream>,
    /// Over all streams.
    ledger: Books,
}

/// Where readings come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Sensor {
    name: String,
    device: String,
    interval_seconds: f64,
    series: usize,
    reads: u64,
    failures: u64,
    failures_in_a_row: u32,
    last_error: Option<String>,
    last_read_ns: i64,
}

/// What is between sampling and batching.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Queue {
    readings: u64,
    bytes: u64,
}

/// One stream's line of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Stream {
    stream_id: String,
    live: bool,
    #[serde(flatten)]
    books: Books,
    acked_through: u64,
    oldest_unacked_age_seconds: f64,
    bytes: u64,
}

/// Where every reading is: `produced = acked + spooled + dropped + replayed + unexplained`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Books {
    produced: u64,
    acked: u64,
    spooled: u64,
    /// By reason.
    dropped: BTreeMap<String, u64>,
    dropped_total: u64,
    /// Part of `spooled`, or in no stream yet: dropped by the agent, not confirmed by the sink. By reason.
    #[serde(default)]
    dropping: BTreeMap<String, u64>,
    /// Refused, and put back since: produced anew by another stream.
    #[serde(default)]
    replayed: u64,
    unexplained: i64,
}

impl Report {
    /// As things are now.
    pub(super) fn of(sources: &Sources) -> Self {
        let config = &sources.config;
        let now_ns = sources.clock.monotonic_ns();
        let wall_ns = sources.clock.wall_ns();
        let failing: BTreeMap<String, String> = match sources.health.ready() {
            Ok(()) => BTreeMap::new(),
            Err(stages) => stages
                .into_iter()
                .map(|stage| (stage.stage.to_owned(), stage.to_string()))
                .collect(),
        };
        let held = sources.queue.totals().held;
        let view = sources.spool.ledger();
        let spool = Spool::of(sources, &view);
        let totals = view.totals;
        let budget = Budget::of(sources);
        Self {
            agent: config.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: COMMIT.to_owned(),
            uptime_seconds: Duration::from_nanos(now_ns.saturating_sub(sources.started_ns))
                .as_secs_f64(),
            ready: failing.is_empty(),
            failing,
            sink: Sink::of(sources),
            loss_bound_seconds: budget.loss_bound_seconds(&spool),
            sensors: sources
                .sensors
                .iter()
                .map(|(config, state)| sensor(config, state.get()))
                .collect(),
            queue: Queue {
                readings: held.readings,
                bytes: held.bytes as u64,
            },
            spool,
            backlog: Backlog::of(&sources.drain.borrow()),
            budget,
            streams: view
                .streams
                .into_iter()
                .map(|view| stream(view, wall_ns))
                .collect(),
            ledger: Books {
                produced: totals.produced,
                acked: totals.acked,
                spooled: totals.spooled,
                dropped_total: totals.dropped.values().sum(),
                dropped: totals.dropped,
                dropping: totals.dropping,
                replayed: totals.replayed,
                unexplained: totals.unexplained,
            },
        }
    }

    /// For people.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "{name:<9}{}", weir_process::output::printable(value));
        };
        let Self {
            agent,
            version,
            commit,
            ..
        } = self;
        line(
            "agent",
            &format!(
                "{agent}, weir-agent {version} ({commit}), up {}",
                whole_seconds(self.uptime_seconds)
            ),
        );
        for (name, value) in self.sink.lines() {
            line(name, &value);
        }
        line("ready", if self.ready { "yes" } else { "no" });
        for (stage, reason) in &self.failing {
            line("", &format!("{stage}: {reason}"));
        }
        line("spool", &self.spool.to_text(self.budget.until_full()));
        line("backlog", &self.backlog.to_text());
        line("flash", &self.budget.flash());
        line("wire", &self.budget.wire());
        line("loss", &self.budget.loss(&self.spool));
        if !self.ledger.dropping.is_empty() {
            line("dropping", &self.ledger.dropping_text());
        }
        text.push('\n');
        text.push_str(&self.sensors_table().render());
        text.push('\n');
        text.push_str(&self.streams_table().render());
        text
    }

    fn sensors_table(&self) -> Table {
        use Align::{Left, Right};
        let mut table = Table::new([
            ("sensor", Left),
            ("device", Left),
            ("every", Right),
            ("series", Right),
            ("reads", Right),
            ("failures", Right),
            ("last failure", Left),
        ]);
        for sensor in &self.sensors {
            table.row([
                sensor.name.as_str(),
                &sensor.device,
                &format!("{} s", sensor.interval_seconds),
                &sensor.series.to_string(),
                &sensor.reads.to_string(),
                &sensor.failures.to_string(),
                sensor.last_error.as_deref().unwrap_or("-"),
            ]);
        }
        table
    }

    fn streams_table(&self) -> Table {
        use Align::{Left, Right};
        let mut table = Table::new([
            ("stream", Left),
            ("produced", Right),
            ("acked", Right),
            ("spooled", Right),
            ("dropped", Right),
            ("dropping", Right),
            ("unexplained", Right),
            ("oldest unacked", Right),
        ]);
        let mut row = |name: &str, books: &Books, age: &str| {
            table.row([
                name,
                &books.produced.to_string(),
                &books.acked.to_string(),
                &books.spooled.to_string(),
                &books.dropped_total.to_string(),
                &books.dropping.values().sum::<u64>().to_string(),
                &books.unexplained.to_string(),
                age,
            ]);
        };
        for stream in &self.streams {
            row(
                &stream.stream_id,
                &stream.books,
                &format!("{:.1} s", stream.oldest_unacked_age_seconds),
            );
        }
        row("all", &self.ledger, "");
        table
    }
}

impl Books {
    fn dropping_text(&self) -> String {
        let reasons = self.dropping.iter();
        let reasons = reasons.map(|(reason, readings)| format!("{reason} {readings}"));
        let reasons: Vec<String> = reasons.collect();
        format!("{}: not confirmed by the sink yet", reasons.join(", "))
    }
}

fn sensor(config: &SensorConfig, state: SensorState) -> Sensor {
    Sensor {
        name: config.name.clone(),
        device: config.device.clone(),
        interval_seconds: config.interval.as_secs_f64(),
        series: state.series,
        reads: state.reads,
        failures: state.failures,
        failures_in_a_row: state.failures_in_a_row,
        last_error: state.last_error,
        last_read_ns: state.last_read_ns,
    }
}

fn stream(view: StreamView, wall_ns: i64) -> Stream {
    let age_ns = match view.oldest_unacked_ns {
        0 => 0,
        oldest => wall_ns.saturating_sub(oldest).max(0),
    };
    Stream {
        stream_id: view.stream_id.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }),
        live: view.live,
        books: Books {
            produced: view.produced,
            acked: view.acked,
            spooled: view.spooled,
            dropped_total: view.dropped.values().sum(),
            dropped: view.dropped,
            dropping: view.dropping,
            replayed: view.replayed,
            unexplained: view.unexplained,
        },
        acked_through: view.acked_through,
        oldest_unacked_age_seconds: Duration::from_nanos(age_ns.unsigned_abs()).as_secs_f64(),
        bytes: view.bytes,
    }
}

/// A duration as people write it, without fractions of a second.
pub(super) fn whole_seconds(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds)
        .unwrap_or_default()
        .as_secs();
    humantime::format_duration(Duration::from_secs(whole)).to_string()
}
