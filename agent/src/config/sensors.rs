//! Which sensors are sampled.
//!
//! In: the keys `sensors` and `simulated.*`, or the `[[sensor]]` tables of the settings file:
//!
//! | entry | meaning | default |
//! |---|---|---|
//! | `name` | unique name, the `source` of its series | its type |
//! | `type` | `host` or `simulated` | must be there |
//! | `device` | device of its series | the agent's name (host), the sensor's name (simulated) |
//! | `interval` | how often it is read | `sample.interval` |
//! | `metrics`, `seed`, `mode`, `fail_every`, `panic_every` | as `simulated.*` | those keys |
//!
//! Out: the sensors, or faults that name the entry.

use std::ops::RangeInclusive;
use std::time::Duration;

use weir_process::config::{Reader, toml};

use crate::sampler::SensorConfig;
use crate::sensors::{Kind, Mode, Simulated};

/// How often a sensor may be read.
pub(super) const INTERVALS: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(24 * 3600);

/// Most series of one simulated sensor.
const MAX_METRICS: u64 = 10_000;

const KINDS: &str = "host or simulated";

/// The sensors that the settings ask for. `agent` is the agent's name.
pub(super) fn read(reader: &mut Reader, agent: &str, interval: Duration) -> Vec<SensorConfig> {
    let defaults = Simulated {
        metrics: usize::try_from(reader.count_within("simulated.metrics", 1..=MAX_METRICS))
            .unwrap_or(usize::MAX),
        seed: reader.count("simulated.seed"),
        mode: mode(reader.choice("simulated.mode")).unwrap_or(Mode::Walk),
        fail_every: reader.count("simulated.fail_every"),
        panic_every: reader.count("simulated.panic_every"),
    };
    let mut sensors = Vec::new();
    let tables = reader.section("sensor").cloned();
    let device = reader.text("simulated.device");
    if let Err(message) = check_name(&device) {
        reader.fault("simulated.device", message);
    }
    let listed = reader.text("sensors");
    if tables.is_none() || reader.is_set("sensors") {
        for word in listed
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
        {
            let (kind, device) = match word {
                "host" => (Kind::Host, agent.to_owned()),
                "simulated" => (Kind::Simulated(defaults.clone()), device.clone()),
                other => {
                    reader.fault("sensors", format!("{other} is not a sensor: write {KINDS}"));
                    continue;
                }
            };
            add(
                reader,
                &mut sensors,
                "sensors",
                SensorConfig {
                    name: word.to_owned(),
                    kind,
                    device,
                    interval,
                },
            );
        }
    }
    match tables {
        Some(toml::Value::Array(tables)) => {
            for (place, table) in tables.iter().enumerate() {
                let entry = format!("sensor[{place}]");
                let mut table = Entry {
                    reader,
                    name: entry.clone(),
                    table: table.as_table().cloned().unwrap_or_default(),
                };
                let sensor = table.sensor(agent, interval, &defaults);
                table.finish();
                if let Some(sensor) = sensor {
                    add(reader, &mut sensors, &entry, sensor);
                }
            }
        }
        Some(_) => reader.fault(
            "sensor",
            "is not a list of tables: write [[sensor]] above each",
        ),
        None => {}
    }
    if sensors.is_empty() {
        reader.fault("sensors", format!("names no sensor: write {KINDS}"));
    }
    sensors
}

/// Adds a sensor under its name, if no other has it.
fn add(reader: &mut Reader, sensors: &mut Vec<SensorConfig>, entry: &str, sensor: SensorConfig) {
    if sensors.iter().any(|known| known.name == sensor.name) {
        reader.fault(
            entry,
            format!(
                "there are two sensors named {}: give each its own name",
                sensor.name
            ),
        );
    } else {
        sensors.push(sensor);
    }
}

/// Whether a name can be the name of an agent, a device or a sensor everywhere it goes.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let longest = weir_proto::limits::MAX_NAME_BYTES;
    if name.trim().is_empty() {
        return Err("is empty: write a name".to_owned());
    }
    if name.len() > longest {
        return Err(format!(
            "is longer than {longest} bytes: write a shorter one"
        ));
    }
    if name.chars().any(char::is_control) {
        return Err("holds a control character: write plain text".to_owned());
    }
    Ok(())
}

fn mode(word: &str) -> Option<Mode> {
    match word {
        "walk" => Some(Mode::Walk),
        "mixed" => Some(Mode::Mixed),
        "counter" => Some(Mode::Count),
        _ => None,
    }
}

/// One `[[sensor]]` table while it is read: what was read is taken out, what is left nobody knows.
struct Entry<'a> {
    reader: &'a mut Reader,
    name: String,
    table: toml::Table,
}

impl Entry<'_> {
    fn sensor(
        &mut self,
        agent: &str,
        interval: Duration,
        defaults: &Simulated,
    ) -> Option<SensorConfig> {
        let kind = self.text("type").unwrap_or_default();
        let name = self.text("name").unwrap_or_else(|| kind.clone());
        let device = self.text("device");
        let interval = self.interval().unwrap_or(interval);
        let (kind, device) = match kind.as_str() {
            "host" => (Kind::Host, device.unwrap_or_else(|| agent.to_owned())),
            "simulated" => (
                Kind::Simulated(self.simulated(defaults)),
                device.unwrap_or_else(|| name.clone()),
            ),
            "" => return self.refuse("type", format!("is not set: write {KINDS}")),
            other => return self.refuse("type", format!("{other} is not a sensor: write {KINDS}")),
        };
        for (entry, name) in [("name", &name), ("device", &device)] {
            if let Err(message) = check_name(name) {
                self.fault(entry, message);
            }
        }
        Some(SensorConfig {
            name,
            kind,
            device,
            interval,
        })
    }

    fn simulated(&mut self, defaults: &Simulated) -> Simulated {
        let metrics = self.count("metrics").unwrap_or(defaults.metrics as u64);
        if !(1..=MAX_METRICS).contains(&metrics) {
            self.fault(
                "metrics",
                format!("is out of range: write 1 to {MAX_METRICS}"),
            );
        }
        let mode = match self.text("mode") {
            None => defaults.mode,
            Some(word) => mode(&word).unwrap_or_else(|| {
                self.fault(
                    "mode",
                    format!("{word} is not a mode: write walk, mixed or counter"),
                );
                defaults.mode
            }),
        };
        Simulated {
            metrics: usize::try_from(metrics).unwrap_or(usize::MAX),
            seed: self.count("seed").unwrap_or(defaults.seed),
            mode,
            fail_every: self.count("fail_every").unwrap_or(defaults.fail_every),
            panic_every: self.count("panic_every").unwrap_or(defaults.panic_every),
        }
    }

    fn interval(&mut self) -> Option<Duration> {
        let text = self.text("interval")?;
        match humantime::parse_duration(&text) {
            Ok(interval) if INTERVALS.contains(&interval) => Some(interval),
            Ok(_) => self.refuse("interval", "is out of range: write 1ms to 24h".to_owned()),
            Err(_) => self.refuse(
                "interval",
                format!("cannot read {text:?}: write a duration such as 500ms, 5s or 1m"),
            ),
        }
    }

    fn text(&mut self, entry: &str) -> Option<String> {
        match self.table.remove(entry)? {
            toml::Value::String(text) => Some(text),
            other => self.refuse(
                entry,
                format!("is of type {}: write text in quotes", other.type_str()),
            ),
        }
    }

    fn count(&mut self, entry: &str) -> Option<u64> {
        let value = self.table.remove(entry)?;
        match value
            .as_integer()
            .and_then(|number| u64::try_from(number).ok())
        {
            Some(count) => Some(count),
            None => self.refuse(entry, "is not a whole number from 0".to_owned()),
        }
    }

    fn refuse<T>(&mut self, entry: &str, message: String) -> Option<T> {
        self.fault(entry, message);
        None
    }

    fn fault(&mut self, entry: &str, message: String) {
        let name = format!("{}.{entry}", self.name);
        self.reader.fault(&name, message);
    }

    fn finish(&mut self) {
        for entry in self.table.keys().cloned().collect::<Vec<_>>() {
            self.fault(&entry, "is not an entry of a sensor".to_owned());
        }
    }
}
