//! What the agent runs with, checked and fixed for the run.
//!
//! In: flags, environment, an optional `agent.toml` and the defaults, through the table in `config/keys.rs`. Out: a
//! [`Config`], or every fault at once. Nothing has to be set: an agent without any configuration samples its host each
//! second and sends to a sink on this machine.

mod check;
mod identity;
mod keys;
mod sensors;
mod transport;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use url::Url;
use weir_process::config::{Effective, Faults, Reader, Sources};
use weir_process::env::Environment;
use weir_process::logging::Logging;

use crate::budget::{self, Waits};
use crate::buffer;
use crate::queue::{self, Weight};
use crate::sampler::SensorConfig;
use crate::sender::{Order, SenderConfig};
use crate::sensors::{Given, Kind};
use crate::spool::{self, SpoolConfig};
pub(crate) use keys::TABLE;

/// Everything the parts are started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The agent's name, and the device of its host sensor.
    pub(crate) name: String,
    /// Where readings go.
    pub(crate) sink_url: Url,
    /// Where probes, metrics and the status page are served; None when they are not.
    pub(crate) status_listen: Option<SocketAddr>,
    /// How the log looks.
    pub(crate) logging: Logging,
    /// What is sampled.
    pub(crate) sensors: Vec<SensorConfig>,
    /// The bounds of the queue between samplers and batcher.
    pub(crate) queue_limit: Weight,
    /// What happens when it is full.
    pub(crate) queue_overflow: queue::Overflow,
    /// When a batch is full or due.
    pub(crate) batch: buffer::Limits,
    /// What may be used up in a day.
    pub(crate) budget: budget::Limits,
    /// What the spool is opened with.
    pub spool: SpoolConfig,
    /// How the sender is paced and bounded.
    pub sender: SenderConfig,
    /// How long a stop may take.
    pub(crate) shutdown_grace: Duration,
    /// Every setting and where it came from.
    pub(crate) effective: Effective,
}

impl Config {
    /// What these settings say, by their names in the environment, beside the defaults; the environment itself is not read.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn of(settings: &[(&str, &str)]) -> Result<Self, Faults> {
        let sources = Sources {
            environment: settings.iter().copied().collect(),
            ..Sources::default()
        };
        Self::read(Reader::new(&TABLE, &sources), &sources.environment)
    }

    /// The same with these sensors in place of those it has.
    #[must_use]
    pub fn sensing(mut self, sensors: Vec<Given>) -> Self {
        let configured = sensors.into_iter().map(|given| SensorConfig {
            name: given.name.clone(),
            device: given.device.clone(),
            interval: given.interval,
            kind: Kind::Given(given),
        });
        self.sensors = configured.collect();
        self
    }

    /// How much can be lost at most when the agent or its machine dies: readings that are not yet committed.
    pub fn loss_bound(&self) -> Duration {
        self.waits().loss_bound()
    }

    /// The same once the budgets have made batches and commits wait as long as they may.
    pub fn longest_loss_bound(&self) -> Duration {
        self.longest_waits().loss_bound()
    }

    /// What the budgets may make of the waits.
    pub(crate) fn longest_waits(&self) -> Waits {
        self.budget.longest(self.waits())
    }

    fn waits(&self) -> Waits {
        Waits {
            age: self.batch.age,
            commit: self.spool.commit_interval,
        }
    }

    /// Reads and checks everything.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub(crate) fn read(reader: Reader, environment: &Environment) -> Result<Self, Faults> {
        Self::read_for(Purpose::Deliver, reader, environment)
    }

    /// The same for a purpose.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub(crate) fn read_for(
        purpose: Purpose,
        mut reader: Reader,
        environment: &Environment,
    ) -> Result<Self, Faults> {
        let profile = Profile::read(&mut reader);
        let logging = Logging::read(&mut reader, environment);
        let name = name(&mut reader);
        let interval = reader.duration_within("sample.interval", sensors::INTERVALS);
        let sensors = sensors::read(&mut reader, &name, interval);
        let batch = batch(&mut reader, profile);
        let spool = spool_config(&mut reader, profile);
        let queue_limit = queue_limit(&mut reader, &batch);
        let queue_overflow = match reader.choice("queue.overflow") {
            "drop_oldest" => queue::Overflow::DropOldest,
            "drop_newest" => queue::Overflow::DropNewest,
            _ => queue::Overflow::Block,
        };
        let sink_url = transport::sink_url(&mut reader, purpose);
        let grace = reader.duration("shutdown.grace");
        let config = Self {
            sender: sender(&mut reader, (&sink_url, &spool.data_dir), &name, grace),
            name,
            sink_url,
            status_listen: reader.optional_address("status.listen"),
            logging,
            sensors,
            queue_limit,
            queue_overflow,
            batch,
            budget: budget(&mut reader),
            spool,
            shutdown_grace: grace,
            effective: Effective::default(),
        };
        check::contradictions(&mut reader, &config);
        if purpose == Purpose::Validate {
            transport::open(&mut reader, &config.sender.tls);
        }
        let mut effective = profile.shown(reader.finish()?);
        // The name has a default that no table can hold.
        for setting in effective
            .0
            .iter_mut()
            .filter(|setting| setting.name == "name")
        {
            setting.value.clone_from(&config.name);
        }
        Ok(Self {
            effective,
            ..config
        })
    }
}

/// What settings are read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To send: files that cannot be used yet are asked for again with each connection.
    Deliver,
    /// To say whether sending would do, as things are now.
    Validate,
    /// To ask the agent that runs, or to look at what is on disk: nothing goes beyond this machine.
    Ask,
}

/// A named set of defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Profile {
    Default,
    Edge,
}

impl Profile {
    /// What `edge` changes: fewer, larger writes for flash memory, at the price of a longer loss bound.
    const EDGE: [(&str, &str, Duration); 2] = [
        ("batch.max_age", "10s", Duration::from_secs(10)),
        ("spool.commit_interval", "10s", Duration::from_secs(10)),
    ];

    fn read(reader: &mut Reader) -> Self {
        match reader.choice("profile") {
            "edge" => Self::Edge,
            _ => Self::Default,
        }
    }

    /// The value of a duration that this profile may have another default for.
    fn duration(self, reader: &mut Reader, name: &str, shortest: Duration) -> Duration {
        let value = reader.duration_within(name, shortest..=LONGEST_HELD);
        match Self::EDGE.iter().find(|(key, ..)| *key == name) {
            Some((_, _, edge)) if self == Self::Edge && !reader.is_set(name) => *edge,
            _ => value,
        }
    }

    /// The settings with this profile's own defaults in place of the table's.
    fn shown(self, mut effective: Effective) -> Effective {
        if self == Self::Edge {
            for setting in &mut effective.0 {
                let edge = Self::EDGE.iter().find(|(key, ..)| *key == setting.name);
                if let (Some((_, text, _)), weir_process::config::Source::Default) =
                    (edge, &setting.source)
                {
                    (*text).clone_into(&mut setting.value);
                }
            }
        }
        effective
    }
}

fn name(reader: &mut Reader) -> String {
    let given = reader.text("name");
    let name = if given.is_empty() {
        sysinfo::System::host_name().unwrap_or_else(|_| "localhost".to_owned())
    } else {
        given
    };
    if let Err(message) = sensors::check_name(&name) {
        reader.fault("name", message);
    }
    name
}

fn batch(reader: &mut Reader, profile: Profile) -> buffer::Limits {
    const SHORTEST: Duration = Duration::from_millis(10);
    let age = profile.duration(reader, "batch.max_age", SHORTEST);
    buffer::Limits {
        readings: reader.count_within(
            "batch.max_readings",
            1..=weir_proto::limits::MAX_BATCH_READINGS as u64,
        ),
        bytes: bounded_bytes(
            reader,
            "batch.max_bytes",
            1024..=crate::sampler::MAX_SCRAPE_BYTES as u64,
        ),
        age,
    }
}

fn queue_limit(reader: &mut Reader, batch: &buffer::Limits) -> Weight {
    let readings = reader.count_within("queue.max_readings", 1..=u64::MAX);
    let bytes = bounded_bytes(reader, "queue.max_bytes", 4096..=1 << 40);
    if readings < batch.readings && reader.is_set("queue.max_readings") {
        reader.fault(
            "queue.max_readings",
            format!(
                "is less than one batch: write at least batch.max_readings, which is {}",
                batch.readings
            ),
        );
    }
    Weight {
        bytes,
        readings: readings.max(batch.readings),
    }
}

fn budget(reader: &mut Reader) -> budget::Limits {
    budget::Limits {
        flash: reader.bytes("budget.flash_bytes_per_day"),
        wire: reader.bytes("budget.wire_bytes_per_day"),
        max_interval: reader
            .duration_within("budget.max_interval", Duration::from_millis(250)..=MAX_WAIT),
    }
}

fn spool_config(reader: &mut Reader, profile: Profile) -> SpoolConfig {
    let data_dir = reader.path("data_dir");
    if data_dir.as_os_str().is_empty() {
        reader.fault(
            "data_dir",
            "is not set: name a directory that this agent alone may write",
        );
    }
    SpoolConfig {
        data_dir,
        max_bytes: reader.bytes_within("spool.max_bytes", 1 << 20..=1 << 50),
        segment_bytes: reader.bytes_within("spool.segment_bytes", 64 << 10..=1 << 30),
        overflow: match reader.choice("spool.overflow") {
            "block" => spool::Overflow::Block,
            "drop_newest" => spool::Overflow::DropNewest,
            _ => spool::Overflow::DropOldest,
        },
        commit_interval: profile.duration(reader, "spool.commit_interval", Duration::ZERO),
        dead_letter_max_bytes: reader
            .bytes_within("spool.dead_letter_max_bytes", 1 << 20..=1 << 50),
    }
}

fn sender(
    reader: &mut Reader,
    (sink_url, data_dir): (&Url, &Path),
    agent: &str,
    grace: Duration,
) -> SenderConfig {
    let mut tls = transport::tls(reader, sink_url);
    let enrolment = identity::enrolment(reader, (sink_url, data_dir), &mut tls);
    let millis = Duration::from_millis;
    let request_max_bytes = bounded_bytes(reader, "request.max_bytes", 1024..=LARGEST_REQUEST);
    let config = SenderConfig {
        sink_url: sink_url.to_string(),
        credential: identity::credential(reader),
        enrolment,
        tls,
        agent: agent.to_owned(),
        software: concat!("weir-agent/", env!("CARGO_PKG_VERSION")).to_owned(),
        request_rate: reader.rate_within("rate.requests_per_second", SLOWEST..=FASTEST),
        request_burst: u32::try_from(reader.count_within("rate.burst", 1..=1_000_000))
            .unwrap_or(u32::MAX),
        request_max_bytes,
        window_bytes: reader.bytes_within("request.window_bytes", 1024..=1 << 30),
        connect_timeout: reader.duration_within("timeout.connect", millis(10)..=MAX_WAIT),
        ack_timeout: reader.duration_within("timeout.ack", millis(100)..=MAX_WAIT),
        retry_min: reader.duration_within("retry.min_delay", millis(10)..=MAX_WAIT),
        retry_max: reader.duration_within("retry.max_delay", millis(10)..=MAX_WAIT),
        drain: drain(grace),
        order: match reader.choice("delivery.order") {
            "oldest_first" => Order::OldestFirst,
            _ => Order::NewestFirst,
        },
        backlog_share: reader.rate("delivery.backlog_share"),
        backlog_age: reader.duration_within("delivery.backlog_age", millis(100)..=MAX_WAIT),
    };
    if !(0.001..1.0).contains(&config.backlog_share) {
        reader.fault(
            "delivery.backlog_share",
            format!(
                "{} is not between 0.001 and 1: write 0.5 for half, or delivery.order=oldest_first for all",
                config.backlog_share
            ),
        );
    }
    if config.retry_min > config.retry_max {
        reader.fault(
            "retry.min_delay",
            "is longer than retry.max_delay: write a shorter one",
        );
    }
    config
}

/// How long delivery may go on after a stop: what is left of the grace goes to the last commit.
fn drain(grace: Duration) -> Duration {
    const LAST_COMMIT: Duration = Duration::from_secs(3);
    grace.saturating_sub(LAST_COMMIT).max(grace / 2)
}

/// A request in a quarter of an hour, and more than any link carries.
const SLOWEST: f64 = 0.001;
const FASTEST: f64 = 1e6;

/// A request leaves room for its definitions and its report in one gRPC message.
const LARGEST_REQUEST: u64 = weir_proto::limits::MAX_MESSAGE_BYTES as u64 / 2;

/// No reading is held in memory longer by a setting: it is what can be lost.
const LONGEST_HELD: Duration = Duration::from_secs(86_400);

/// No single wait of delivery is longer.
const MAX_WAIT: Duration = Duration::from_secs(3600);

fn bounded_bytes(reader: &mut Reader, name: &str, bounds: std::ops::RangeInclusive<u64>) -> usize {
    usize::try_from(reader.bytes_within(name, bounds)).unwrap_or(usize::MAX)
}
