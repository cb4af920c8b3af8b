//! What the agent counts, for `/metrics` and the status page.
//!
//! Each part has its own set of counters, made once from the registry and handed to the part. Labels come from closed
//! sets: reasons, and the names of the configured sensors. Readings come in pairs of counters, so that what is held
//! between two parts is their difference.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use weir_process::metrics::Registry;
use weir_process::metrics::prometheus_client::collector::Collector;
use weir_process::metrics::prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use weir_process::metrics::prometheus_client::metrics::counter::{ConstCounter, Counter};
use weir_process::metrics::prometheus_client::metrics::family::Family;
use weir_process::metrics::prometheus_client::metrics::gauge::ConstGauge;
use weir_process::metrics::prometheus_client::metrics::histogram::Histogram;

use crate::buffer::Parcel;
use crate::queue::{Queue, Totals};

type Labels = Vec<(&'static str, String)>;

/// Upper bounds of the buckets for the time one read of a sensor takes: it runs on the agent's only thread.
const READ_SECONDS: [f64; 7] = [0.0001, 0.000_3, 0.001, 0.003, 0.01, 0.1, 1.0];

/// From the sensors to the spool.
#[derive(Clone)]
pub(crate) struct SamplingMetrics {
    errors: Family<Labels, Counter>,
    missed: Family<Labels, Counter>,
    reads: Family<Labels, Counter>,
    read_seconds: Family<Labels, Histogram>,
    readings: Counter,
    abandoned: Counter,
    refused: Counter,
    batches: Counter,
    batched_readings: Counter,
    batched_bytes: Counter,
    missed_total: Arc<AtomicU64>,
}

/// Why a tick gave no readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missed {
    /// The agent was busy, or the queue full under the policy `block`.
    Blocked,
    /// The agent was killed or its machine went down.
    Crash,
    /// The agent was stopped, or the sensor had failed and waited for its restart, or failed at this tick.
    Down,
}

impl Missed {
    /// As a label.
    fn reason(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Crash => "crash",
            Self::Down => "down",
        }
    }
}

impl SamplingMetrics {
    /// Registers everything. `missed_ticks` goes with every report to the sink.
    pub(crate) fn new(registry: &Registry, missed_ticks: Arc<AtomicU64>) -> Self {
        let counter = |name, help| registry.register(name, help, Counter::default());
        Self {
            errors: registry.register(
                "sensor_errors",
                "failed reads by sensor and kind",
                Family::default(),
            ),
            missed: registry.register(
                "sensor_missed_ticks",
                "ticks without readings by sensor and reason",
                Family::default(),
            ),
            reads: registry.register(
                "sensor_reads",
                "reads that gave readings, by sensor",
                Family::default(),
            ),
            read_seconds: registry.register(
                "sensor_read_seconds",
                "how long a read takes, by sensor",
                Family::new_with_constructor(|| Histogram::new(READ_SECONDS)),
            ),
            readings: counter("sampled_readings", "readings taken from sensors"),
            abandoned: counter(
                "sampled_abandoned_readings",
                "readings taken and lost because the agent had to stop",
            ),
            refused: counter(
                "batch_refused_readings",
                "readings of series or with values that no sink accepts",
            ),
            batches: counter("batch_batches", "batches put into the spool"),
            batched_readings: counter("batch_readings", "readings put into the spool"),
            batched_bytes: counter("batch_bytes", "bytes of payload put into the spool"),
            missed_total: missed_ticks,
        }
    }

    /// The counters of one sensor.
    pub(crate) fn sensor(&self, name: &str) -> SensorMetrics {
        SensorMetrics {
            all: self.clone(),
            name: name.to_owned(),
            reads: self.reads.get_or_create_owned(&sensor(name)),
        }
    }

    /// Readings that no sink would take.
    pub(crate) fn refused(&self, readings: u64) {
        self.refused.inc_by(readings);
    }

    /// A batch went into the spool.
    pub(crate) fn batched(&self, readings: u64, bytes: usize) {
        self.batches.inc();
        self.batched_readings.inc_by(readings);
        self.batched_bytes.inc_by(bytes as u64);
    }

    /// Readings that nobody took over before the agent stopped.
    pub(crate) fn abandoned(&self, readings: u64) {
        self.abandoned.inc_by(readings);
    }
}

/// What is counted of one sensor.
#[derive(Clone)]
pub(crate) struct SensorMetrics {
    all: SamplingMetrics,
    name: String,
    reads: Counter,
}

impl SensorMetrics {
    /// A read that gave readings.
    pub(crate) fn read(&self, readings: u64) {
        self.reads.inc();
        self.all.readings.inc_by(readings);
    }

    /// How long a read took, whatever came of it.
    pub(crate) fn took(&self, time: Duration) {
        self.all
            .read_seconds
            .get_or_create(&sensor(&self.name))
            .observe(time.as_secs_f64());
    }

    /// A read that gave none. `kind` is `error` or `panic`.
    pub(crate) fn failed(&self, kind: &'static str) {
        let labels = vec![("sensor", self.name.clone()), ("kind", kind.to_owned())];
        self.all.errors.get_or_create(&labels).inc();
    }

    /// Ticks without readings.
    pub(crate) fn missed(&self, ticks: u64, reason: Missed) {
        if ticks > 0 {
            let labels = vec![
                ("sensor", self.name.clone()),
                ("reason", reason.reason().to_owned()),
            ];
            self.all.missed.get_or_create(&labels).inc_by(ticks);
            self.all.missed_total.fetch_add(ticks, Ordering::Relaxed);
        }
    }

    /// Readings that nobody took over before the agent stopped.
    pub(crate) fn abandoned(&self, readings: u64) {
        self.all.abandoned(readings);
    }
}

fn sensor(name: &str) -> Labels {
    vec![("sensor", name.to_owned())]
}

/// Says what went through the queue and what it holds, whenever it is asked.
pub(crate) struct QueueCollector {
    queue: Queue<Parcel>,
}

impl QueueCollector {
    /// Of this queue.
    pub(crate) fn new(queue: Queue<Parcel>) -> Self {
        Self { queue }
    }
}

impl std::fmt::Debug for QueueCollector {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("QueueCollector")
    }
}

impl Collector for QueueCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Totals {
            pushed,
            taken,
            dropped_oldest,
            dropped_newest,
            held,
        } = self.queue.totals();
        let mut total = |name, help, value: u64| {
            let metric = ConstCounter::new(value);
            let descriptor = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
            metric.encode(descriptor)
        };
        total("queue_in_readings", "readings offered to the queue", pushed)?;
        total("queue_out_readings", "readings taken from the queue", taken)?;
        total(
            "queue_dropped_oldest_readings",
            "readings the full queue gave up from its front",
            dropped_oldest,
        )?;
        total(
            "queue_dropped_newest_readings",
            "readings the full queue gave up at its door",
            dropped_newest,
        )?;
        let mut gauge = |name, help, value: u64| {
            let metric = ConstGauge::new(value.cast_signed());
            let descriptor = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
            metric.encode(descriptor)
        };
        gauge("queue_readings", "readings in the queue now", held.readings)?;
        gauge("queue_bytes", "bytes in the queue now", held.bytes as u64)
    }
}
