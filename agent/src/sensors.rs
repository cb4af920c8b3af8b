//! Sensors: where readings come from.
//!
//! In: a moment. Out: a [`Scrape`], the values of all series of one device at that moment. A sensor is one file in
//! `sensors/` and one arm of [`open`]. It may fail or panic: the sampler reports that and opens it anew.
//!
//! A scrape points to its [`Shape`], the definitions of its series, which stays the same object as long as the series do:
//! what is read every second carries values alone, and everything behind can tell by one pointer that nothing has changed.

mod given;
mod host;
mod simulated;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use weir_proto::v1;

pub use given::{Given, Reading};
pub(crate) use simulated::{Mode, Simulated};

/// One point in time on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Unix nanoseconds.
    pub wall_ns: i64,
    /// Nanoseconds of this boot.
    pub monotonic_ns: u64,
}

/// Something that can be read.
pub(crate) trait Sensor: Send {
    /// Reads everything once. It runs on the agent's one thread, so it must not wait for anything slower than this host.
    fn read(&mut self, now: Moment) -> Result<Scrape, SensorError>;
}

/// Why a sensor gave no readings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SensorError {
    /// The operating system would not say.
    #[error("cannot read {what}: {reason}")]
    Read {
        /// What was asked for.
        what: &'static str,
        /// What the system answered.
        reason: String,
    },
    /// What the code that was given says.
    #[error("{0}")]
    Given(String),
    /// A simulated sensor was told to fail.
    #[error("simulated failure of read {0}")]
    Simulated(u64),
}

/// Which sensor, and how it is set up.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    /// The machine the agent runs on.
    Host,
    /// Invented values.
    Simulated(Simulated),
    /// Code that was given to the agent.
    Given(Given),
}

/// Makes a sensor ready to be read. `source` is its name, `device` what it reads.
pub(crate) fn open(
    kind: &Kind,
    source: &str,
    device: &str,
) -> Result<Box<dyn Sensor>, SensorError> {
    let recorder = Recorder::new(source, device);
    match kind {
        Kind::Host => Ok(Box::new(host::Host::open(recorder)?)),
        Kind::Given(given) => Ok(Box::new(given::Reader::new(given, recorder))),
        Kind::Simulated(settings) => Ok(Box::new(simulated::Simulator::new(settings, recorder))),
    }
}

/// The definitions of what a scrape holds, in its order. Their `ref` is 0: refs belong to a stream.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Shape {
    /// One definition per value.
    pub(crate) series: Vec<v1::Series>,
}

/// One value of one series.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// Gauge, counter or bool (0 and 1).
    Number(f64),
    /// Text.
    Text(Box<str>),
}

impl Value {
    /// About how much this takes in an uncompressed payload.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Number(_) => size_of::<f64>(),
            Self::Text(text) => text.len() + 2,
        }
    }
}

/// The values of all series of a sensor at one moment; as many as its shape has.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scrape {
    /// What the values are of.
    pub(crate) shape: Arc<Shape>,
    /// One value per series.
    pub(crate) values: Vec<Value>,
}

/// A metric as a sensor knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Metric<'a> {
    pub(crate) name: &'a str,
    pub(crate) unit: &'a str,
    pub(crate) kind: v1::Kind,
}

impl<'a> Metric<'a> {
    /// A value at a moment.
    pub(crate) const fn gauge(name: &'a str, unit: &'a str) -> Self {
        Self {
            name,
            unit,
            kind: v1::Kind::Gauge,
        }
    }

    /// A total that only grows.
    pub(crate) const fn counter(name: &'a str, unit: &'a str) -> Self {
        Self {
            name,
            unit,
            kind: v1::Kind::Counter,
        }
    }
}

/// Turns what a sensor says, value by value, into scrapes. It keeps the last shape and allocates definitions only when
/// something is different from the last time.
#[derive(Debug)]
pub(crate) struct Recorder {
    source: String,
    device: String,
    shape: Arc<Shape>,
    changed: Option<Vec<v1::Series>>,
    values: Vec<Value>,
}

impl Recorder {
    fn new(source: &str, device: &str) -> Self {
        Self {
            source: source.to_owned(),
            device: device.to_owned(),
            shape: Arc::default(),
            changed: None,
            values: Vec::new(),
        }
    }

    /// A number; `attributes` are sorted by nobody and compared by key.
    pub(crate) fn number(&mut self, metric: Metric<'_>, attributes: &[(&str, &str)], value: f64) {
        self.put(metric, attributes, Value::Number(value));
    }

    /// Any value.
    pub(crate) fn put(&mut self, metric: Metric<'_>, attributes: &[(&str, &str)], value: Value) {
        let place = self.values.len();
        self.values.push(value);
        if self.changed.is_none() {
            let known = self.shape.series.get(place);
            if known.is_some_and(|series| describes(series, metric, attributes)) {
                return;
            }
            self.changed = Some(self.shape.series[..place].to_vec());
        }
        let series = self.define(metric, attributes);
        self.changed.get_or_insert_default().push(series);
    }

    /// Everything said since the last call.
    pub(crate) fn finish(&mut self) -> Scrape {
        let capacity = self.values.len();
        let values = std::mem::replace(&mut self.values, Vec::with_capacity(capacity));
        if let Some(series) = self.changed.take() {
            self.shape = Arc::new(Shape { series });
        } else if values.len() < self.shape.series.len() {
            let series = self.shape.series[..values.len()].to_vec();
            self.shape = Arc::new(Shape { series });
        }
        Scrape {
            shape: Arc::clone(&self.shape),
            values,
        }
    }

    /// Forgets what was said since the last call of `finish`.
    pub(crate) fn discard(&mut self) {
        self.values.clear();
        self.changed = None;
    }

    fn define(&self, metric: Metric<'_>, attributes: &[(&str, &str)]) -> v1::Series {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        v1::Series {
            r#ref: 0,
            device: self.device.clone(),
            metric: metric.name.to_owned(),
            unit: metric.unit.to_owned(),
            kind: metric.kind.into(),
            source: self.source.clone(),
            attributes: attributes.iter().map(own).collect(),
        }
    }
}

/// Whether `series` is this metric with these attributes; device and source are the recorder's own.
fn describes(series: &v1::Series, metric: Metric<'_>, attributes: &[(&str, &str)]) -> bool {
    series.metric == metric.name
        && series.unit == metric.unit
        && series.kind == i32::from(metric.kind)
        && series.attributes.len() == attributes.len()
        && attributes.iter().all(|(key, value)| {
            series
                .attributes
                .get(*key)
                .is_some_and(|known| known == value)
        })
}
