//! Readings that other code gives: for programs that hold an agent inside themselves, such as a simulation that keeps its own
//! record of what was read.
//!
//! In: a function of the moment. Out: its numbers as gauges, one per metric.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Metric, Moment, Recorder, Scrape, Sensor, SensorError};

/// Answers one number per metric, or why there are none. It runs on the agent's one thread and must not wait; a panic is
/// the sensor's own failure.
pub type Reading = Arc<dyn Fn(Moment) -> Result<Vec<f64>, String> + Send + Sync>;

/// A sensor made of a function.
#[derive(Clone)]
pub struct Given {
    /// Its name, unique in its agent; the `source` of its series.
    pub name: String,
    /// What it reads.
    pub device: String,
    /// How often it is read.
    pub interval: Duration,
    /// Names of its gauges.
    pub metrics: Vec<String>,
    /// What is read.
    pub reading: Reading,
}

/// Two are the same when they are one function under one name.
impl PartialEq for Given {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.device == other.device
            && self.metrics == other.metrics
            && Arc::ptr_eq(&self.reading, &other.reading)
    }
}

impl fmt::Debug for Given {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Given")
            .field("name", &self.name)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

/// Reads it.
pub(super) struct Reader {
    given: Given,
    recorder: Recorder,
}

impl Reader {
    pub(super) fn new(given: &Given, recorder: Recorder) -> Self {
        Self {
            given: given.clone(),
            recorder,
        }
    }
}

impl Sensor for Reader {
    fn read(&mut self, now: Moment) -> Result<Scrape, SensorError> {
        let values = (self.given.reading)(now).map_err(SensorError::Given)?;
        for (metric, value) in self.given.metrics.iter().zip(values) {
            self.recorder.number(Metric::gauge(metric, ""), &[], value);
        }
        Ok(self.recorder.finish())
    }
}
