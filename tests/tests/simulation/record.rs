//! The sensors' own record of what they gave: what everything else is held against.
//!
//! Each scrape of a sensor has a number of its own over all lives of its agent, and each of its readings says that number:
//! `value = number + fraction`, where the fraction follows from number and metric. So a stored row names the scrape it came
//! from, and a value that was changed on the way shows.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use weir_agent::sensors::{Given, Moment};

use crate::clock::Passing;

/// One scrape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    /// What the agent's clock said.
    pub(crate) wall_ns: i64,
    /// When it was, since the world began.
    pub(crate) at_ns: u64,
    /// In which life of the agent.
    pub(crate) life: usize,
}

/// All scrapes of one agent: by sensor, then by number.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) taken: Vec<Vec<Taken>>,
    /// The life that is being lived.
    pub(crate) life: usize,
    /// Sensors give nothing more.
    pub(crate) silent: bool,
}

/// Shared with the sensors.
#[derive(Clone, Debug)]
pub(crate) struct Recording {
    record: Arc<Mutex<Record>>,
    passing: Passing,
}

impl Recording {
    pub(crate) fn new(sensors: usize, passing: &Passing) -> Recording {
        let record = Record {
            taken: vec![Vec::new(); sensors],
            ..Record::default()
        };
        Recording {
            record: Arc::new(Mutex::new(record)),
            passing: passing.clone(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("nothing panics under it")
    }

    /// The agent's sensors.
    pub(crate) fn sensors(&self, device: &str, metrics: usize, interval: Duration) -> Vec<Given> {
        let count = self.lock().taken.len();
        let sensor = |place: usize| {
            let recording = self.clone();
            Given {
                name: format!("sensor-{place}"),
                device: device.to_owned(),
                interval,
                metrics: (0..metrics).map(metric_name).collect(),
                reading: Arc::new(move |now| recording.take(place, metrics, now)),
            }
        };
        (0..count).map(sensor).collect()
    }

    fn take(&self, sensor: usize, metrics: usize, now: Moment) -> Result<Vec<f64>, String> {
        let mut record = self.lock();
        if record.silent {
            return Err("silent".to_owned());
        }
        let life = record.life;
        let taken = &mut record.taken[sensor];
        let number = taken.len();
        taken.push(Taken {
            wall_ns: now.wall_ns,
            at_ns: self.passing.ns(),
            life,
        });
        Ok((0..metrics).map(|metric| value(number, metric)).collect())
    }
}

/// What a metric says in a scrape.
pub(crate) fn value(number: usize, metric: usize) -> f64 {
    let mixed = (number as u64 * 31 + metric as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44;
    number as f64 + mixed as f64 / (1_u64 << 20) as f64
}

/// The scrape a value is from; nothing when no sensor said it.
pub(crate) fn number_of(said: f64, metric: usize) -> Option<usize> {
    let number = said.floor();
    let known = (0.0..1e9).contains(&number) && value(number as usize, metric) == said;
    known.then_some(number as usize)
}

pub(crate) fn metric_name(metric: usize) -> String {
    format!("gauge.{metric}")
}

/// A place out of a name that ends with it: `sensor-3`, `gauge.3`.
pub(crate) fn place(name: &str) -> Option<usize> {
    name.rsplit(['-', '.']).next()?.parse().ok()
}
