//! Invented values that look like a machine's: for demos, benches and tests.
//!
//! In: a seed. Out: the same values every time the sensor is opened with that seed, whatever the clock says. Values have
//! one or two decimals, as real sensors do, and wander within their range.
//!
//! | mode | series |
//! |---|---|
//! | `walk` | gauges only |
//! | `mixed` | by turns gauges, counters, switches and texts |
//! | `counter` | gauges named `simulated.count` that hold how often the sensor was read: a missing or doubled reading shows |

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use weir_proto::v1;

use super::{Metric, Moment, Recorder, Scrape, Sensor, SensorError, Value};

/// How a simulated sensor is set up.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Simulated {
    /// How many series it has.
    pub(crate) metrics: usize,
    /// What decides its values.
    pub(crate) seed: u64,
    /// What its series look like.
    pub(crate) mode: Mode,
    /// Every so many reads fail; 0 is never.
    pub(crate) fail_every: u64,
    /// Every so many reads panic; 0 is never.
    pub(crate) panic_every: u64,
}

/// What the series look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Gauges that wander.
    Walk,
    /// Gauges, counters, switches and texts by turns.
    Mixed,
    /// The number of the read.
    Count,
}

/// A gauge's nature: its name, unit, range, the largest step, and how many decimals it shows.
struct Nature {
    name: &'static str,
    unit: &'static str,
    low: f64,
    high: f64,
    step: f64,
    scale: f64,
}

const fn nature(
    name: &'static str,
    unit: &'static str,
    range: (f64, f64),
    step: f64,
    scale: f64,
) -> Nature {
    Nature {
        name,
        unit,
        low: range.0,
        high: range.1,
        step,
        scale,
    }
}

const NATURES: &[Nature] = &[
    nature("simulated.temperature", "Cel", (15.0, 95.0), 0.3, 10.0),
    nature("simulated.humidity", "%", (20.0, 80.0), 0.5, 10.0),
    nature("simulated.pressure", "hPa", (980.0, 1040.0), 0.2, 10.0),
    nature("simulated.voltage", "V", (11.5, 12.6), 0.02, 100.0),
    nature("simulated.current", "A", (0.0, 40.0), 0.4, 100.0),
    nature("simulated.power", "W", (0.0, 480.0), 3.0, 10.0),
    nature("simulated.fan.speed", "{rpm}", (0.0, 7200.0), 40.0, 1.0),
    nature("simulated.vibration", "mm/s", (0.0, 8.0), 0.1, 100.0),
    nature("simulated.flow", "L/min", (0.0, 60.0), 0.6, 10.0),
    nature("simulated.level", "%", (0.0, 100.0), 0.2, 10.0),
];

const TEXTS: &[&str] = &["ok", "busy", "idle", "cleaning"];

/// A sensor that invents its values.
pub(super) struct Simulator {
    recorder: Recorder,
    settings: Simulated,
    channels: Vec<Channel>,
    random: StdRng,
    reads: u64,
}

/// One series and where it stands.
struct Channel {
    number: String,
    form: Form,
}

enum Form {
    Gauge { nature: &'static Nature, value: f64 },
    Counter { total: u64 },
    Switch { on: bool },
    Text { word: usize },
    Reads,
}

impl Simulator {
    /// The series that `settings` ask for, at places in their ranges that the seed decides.
    pub(super) fn new(settings: &Simulated, recorder: Recorder) -> Self {
        let mut random = StdRng::seed_from_u64(settings.seed);
        let channel = |place: usize| Channel {
            number: place.to_string(),
            form: form(settings.mode, place, &mut random),
        };
        let channels = (0..settings.metrics).map(channel).collect();
        Self {
            recorder,
            settings: settings.clone(),
            channels,
            random,
            reads: 0,
        }
    }

    fn fault(&self) -> Result<(), SensorError> {
        let every = |count: u64| count > 0 && self.reads.is_multiple_of(count);
        assert!(
            !every(self.settings.panic_every),
            "simulated panic of read {}",
            self.reads
        );
        if every(self.settings.fail_every) {
            return Err(SensorError::Simulated(self.reads));
        }
        Ok(())
    }
}

impl Sensor for Simulator {
    fn read(&mut self, _: Moment) -> Result<Scrape, SensorError> {
        self.reads += 1;
        self.fault()?;
        for channel in &mut self.channels {
            let attributes = [("channel", channel.number.as_str())];
            let (metric, value) = channel.form.next(self.reads, &mut self.random);
            self.recorder.put(metric, &attributes, value);
        }
        Ok(self.recorder.finish())
    }
}

impl Form {
    #[allow(clippy::cast_precision_loss)]
    fn next(&mut self, reads: u64, random: &mut StdRng) -> (Metric<'static>, Value) {
        match self {
            Self::Gauge { nature, value } => {
                let moved = *value + random.random_range(-nature.step..=nature.step);
                *value = moved.clamp(nature.low, nature.high);
                let shown = (*value * nature.scale).round() / nature.scale;
                (
                    Metric::gauge(nature.name, nature.unit),
                    Value::Number(shown),
                )
            }
            Self::Counter { total } => {
                *total += random.random_range(0..2_000_u64);
                (
                    Metric::counter("simulated.bytes", "By"),
                    Value::Number(*total as f64),
                )
            }
            Self::Switch { on } => {
                *on ^= random.random_bool(0.02);
                let metric = Metric {
                    name: "simulated.valve.open",
                    unit: "",
                    kind: v1::Kind::Bool,
                };
                (metric, Value::Number(f64::from(u8::from(*on))))
            }
            Self::Text { word } => {
                if random.random_bool(0.05) {
                    *word = random.random_range(0..TEXTS.len());
                }
                let metric = Metric {
                    name: "simulated.state",
                    unit: "",
                    kind: v1::Kind::Text,
                };
                (metric, Value::Text(TEXTS[*word].into()))
            }
            Self::Reads => (
                Metric::gauge("simulated.count", "{read}"),
                Value::Number(reads as f64),
            ),
        }
    }
}

fn form(mode: Mode, place: usize, random: &mut StdRng) -> Form {
    let gauge = |place: usize, random: &mut StdRng| {
        let nature = &NATURES[place % NATURES.len()];
        Form::Gauge {
            nature,
            value: random.random_range(nature.low..=nature.high),
        }
    };
    match (mode, place % 4) {
        (Mode::Count, _) => Form::Reads,
        (Mode::Mixed, 1) => Form::Counter { total: 0 },
        (Mode::Mixed, 2) => Form::Switch {
            on: random.random_bool(0.5),
        },
        (Mode::Mixed, 3) => Form::Text {
            word: random.random_range(0..TEXTS.len()),
        },
        (Mode::Mixed, _) => gauge(place / 4, random),
        (Mode::Walk, _) => gauge(place, random),
    }
}
