//! What the agent says of itself: one value, as JSON on the wire and as text for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_process::metrics::COMMIT;
use weir_process::output::{Align, Table};
use weir_process::tls::{Encryption, Facts};

use super::Sources;
use super::budget::Budget;
use super::spool::{Backlog, Spool};
use crate::identity::Shown;
use crate::ledger::StreamView;
use crate::sampler::{SensorConfig, SensorState};
use crate::sender::LinkState;

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

/// Where readings go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Sink {
    /// Without user and password.
    url: String,
    connected: bool,
    /// `connecting`, `connected`, or why not.
    state: String,
    /// What the last connection was encrypted with; nothing where it was plain.
    #[serde(default)]
    tls: Option<Tls>,
    /// The certificate that this agent shows; nothing where it has none.
    #[serde(default)]
    identity: Option<Identity>,
    /// Streams that another agent delivers, a copy of this machine: this one leaves them alone for now.
    #[serde(default)]
    displaced: u64,
}

/// An encrypted connection, and the sink's certificate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Tls {
    /// `TLS 1.2` or `TLS 1.3`.
    version: String,
    issuer: String,
    /// When the sink's certificate ends, RFC 3339.
    not_after: String,
}

impl Tls {
    fn of(seen: &Encryption) -> Self {
        let server = seen.server.as_ref();
        let not_after = |facts: &Facts| humantime::format_rfc3339_seconds(facts.not_after);
        Self {
            version: seen.version.to_owned(),
            issuer: server.map_or_else(String::new, |facts| facts.issuer.clone()),
            not_after: server.map_or_else(String::new, |facts| not_after(facts).to_string()),
        }
    }

    fn to_text(&self) -> String {
        let Self {
            version,
            issuer,
            not_after,
        } = self;
        format!("{version}; the sink's certificate is from {issuer:?} and good until {not_after}")
    }
}

/// As whom the sink knows this agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Identity {
    agent: String,
    /// Where a sink enrolled it.
    tenant: Option<String>,
    /// When its certificate ends, RFC 3339.
    not_after: String,
}

impl Identity {
    fn of(facts: &Facts) -> Self {
        let Shown {
            agent,
            tenant,
            not_after,
        } = Shown::of(facts);
        Self {
            agent,
            tenant,
            not_after,
        }
    }

    fn to_text(&self) -> String {
        let tenant = self.tenant.as_ref();
        let tenant = tenant.map_or_else(String::new, |tenant| format!(" of tenant {tenant}"));
        format!("{}{tenant}, good until {}", self.agent, self.not_after)
    }
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
        let link = sources.link.borrow().clone();
        let budget = Budget::of(sources);
        Self {
            agent: config.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: COMMIT.to_owned(),
            uptime_seconds: Duration::from_nanos(now_ns.saturating_sub(sources.started_ns))
                .as_secs_f64(),
            ready: failing.is_empty(),
            failing,
            sink: Sink {
                url: config.sink_url.to_string(),
                connected: link == LinkState::Connected,
                state: match link {
                    LinkState::Connecting => "connecting".to_owned(),
                    LinkState::Connected => "connected".to_owned(),
                    LinkState::Waiting { reason } => reason,
                },
                tls: sources.encryption.borrow().as_ref().map(Tls::of),
                identity: sources.own.borrow().as_ref().map(Identity::of),
                displaced: *sources.displaced.borrow(),
            },
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
            let _ = writeln!(text, "{name:<8}{}", weir_process::output::printable(value));
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
        line("sink", &format!("{}, {}", self.sink.url, self.sink.state));
        if let Some(tls) = &self.sink.tls {
            line("", &tls.to_text());
        }
        if let Some(identity) = &self.sink.identity {
            line("identity", &identity.to_text());
        }
        if self.sink.displaced > 0 {
            let others = format!(
                "another agent delivers {} of these streams: is a copy of this machine running?",
                self.sink.displaced
            );
            line("", &others);
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
