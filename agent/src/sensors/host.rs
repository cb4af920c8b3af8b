//! The machine the agent runs on: processors, memory, disks, file systems, network, temperatures.
//!
//! Names, units and attributes follow OpenTelemetry's semantic conventions for system and hardware metrics; load averages,
//! which those do not name, are called as the OpenTelemetry collector calls them.
//!
//! | metric | unit | attributes |
//! |---|---|---|
//! | `system.uptime` | s | |
//! | `system.cpu.utilization` | 1 | `cpu.logical_number` |
//! | `system.cpu.load_average.1m`, `.5m`, `.15m` | {thread} | |
//! | `system.memory.usage`, `.utilization` | By, 1 | `system.memory.state` = used, free |
//! | `system.memory.limit` | By | |
//! | `system.memory.linux.available` | By | Linux only |
//! | `system.paging.usage`, `.utilization` | By, 1 | `system.paging.state` = used, free; only with swap |
//! | `system.disk.io` | By | `system.device`, `disk.io.direction` = read, write |
//! | `system.filesystem.usage`, `.utilization` | By, 1 | `system.device`, `system.filesystem.mountpoint`, `.type`, `.state` = used, free |
//! | `system.network.io` | By | `network.interface.name`, `network.io.direction` = receive, transmit |
//! | `system.network.packet.count` | {packet} | `system.device`, `network.io.direction` |
//! | `system.network.errors` | {error} | `network.interface.name`, `network.io.direction` |
//! | `hw.temperature` | Cel | `hw.id`, `hw.name`; where the machine has such a sensor |
//!
//! Utilization of the processors needs two looks, so the first scrape has none. Pseudo file systems, loop devices and the
//! interfaces of containers and bridges are left out: they are the machine's bookkeeping.

mod network;
mod storage;

use sysinfo::{Components, CpuRefreshKind, MINIMUM_CPU_UPDATE_INTERVAL, MemoryRefreshKind, System};

use super::{Metric, Moment, Recorder, Scrape, Sensor, SensorError};
use network::Network;
use storage::Storage;

const UPTIME: Metric<'_> = Metric::gauge("system.uptime", "s");
const CPU_UTILIZATION: Metric<'_> = Metric::gauge("system.cpu.utilization", "1");
const LOAD_1M: Metric<'_> = Metric::gauge("system.cpu.load_average.1m", "{thread}");
const LOAD_5M: Metric<'_> = Metric::gauge("system.cpu.load_average.5m", "{thread}");
const LOAD_15M: Metric<'_> = Metric::gauge("system.cpu.load_average.15m", "{thread}");
const MEMORY_USAGE: Metric<'_> = Metric::gauge("system.memory.usage", "By");
const MEMORY_UTILIZATION: Metric<'_> = Metric::gauge("system.memory.utilization", "1");
const MEMORY_LIMIT: Metric<'_> = Metric::gauge("system.memory.limit", "By");
const MEMORY_AVAILABLE: Metric<'_> = Metric::gauge("system.memory.linux.available", "By");
const PAGING_USAGE: Metric<'_> = Metric::gauge("system.paging.usage", "By");
const PAGING_UTILIZATION: Metric<'_> = Metric::gauge("system.paging.utilization", "1");
const TEMPERATURE: Metric<'_> = Metric::gauge("hw.temperature", "Cel");

/// How often what can be plugged in is looked for again.
const RELIST_NS: u64 = 60_000_000_000;

/// Reads this machine through sysinfo.
pub(super) struct Host {
    recorder: Recorder,
    system: System,
    storage: Storage,
    network: Network,
    components: Components,
    cpu_numbers: Vec<String>,
    cpu_read_at: Option<u64>,
    cpu_known: bool,
    listed_at: Option<u64>,
}

impl Host {
    /// Looks at the machine once.
    pub(super) fn open(recorder: Recorder) -> Result<Self, SensorError> {
        let refused = |what| {
            move |error: sysinfo::Error| SensorError::Read {
                what,
                reason: error.to_string(),
            }
        };
        Ok(Self {
            recorder,
            system: System::new().map_err(refused("processors and memory"))?,
            storage: Storage::open().map_err(refused("disks"))?,
            network: Network::open()?,
            components: Components::new().map_err(refused("temperatures"))?,
            cpu_numbers: Vec::new(),
            cpu_read_at: None,
            cpu_known: false,
            listed_at: None,
        })
    }

    fn processors(&mut self, now: Moment) -> Result<(), SensorError> {
        let minimum = u64::try_from(MINIMUM_CPU_UPDATE_INTERVAL.as_nanos()).unwrap_or(u64::MAX);
        let due = self
            .cpu_read_at
            .is_none_or(|at| now.monotonic_ns.saturating_sub(at) >= minimum);
        if due {
            self.system
                .refresh_cpu_specifics(CpuRefreshKind::nothing().with_usage());
            self.cpu_known = self.cpu_read_at.is_some();
            self.cpu_read_at = Some(now.monotonic_ns);
        }
        if self.cpu_known {
            let cpus = self.system.cpus();
            while self.cpu_numbers.len() < cpus.len() {
                self.cpu_numbers.push(self.cpu_numbers.len().to_string());
            }
            for (number, cpu) in self.cpu_numbers.iter().zip(cpus) {
                let attributes = [("cpu.logical_number", number.as_str())];
                self.recorder.number(
                    CPU_UTILIZATION,
                    &attributes,
                    rounded(f64::from(cpu.usage()) / 100.0),
                );
            }
        }
        let load = System::load_average().map_err(|error| SensorError::Read {
            what: "load average",
            reason: error.to_string(),
        })?;
        self.recorder.number(LOAD_1M, &[], load.one);
        self.recorder.number(LOAD_5M, &[], load.five);
        self.recorder.number(LOAD_15M, &[], load.fifteen);
        Ok(())
    }

    fn memory(&mut self) -> Result<(), SensorError> {
        self.system
            .refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram().with_swap());
        let total = self.system.total_memory();
        if total == 0 {
            return Err(SensorError::Read {
                what: "memory",
                reason: "the system reports none".to_owned(),
            });
        }
        let states = [
            ("used", self.system.used_memory()),
            ("free", self.system.free_memory()),
        ];
        for (state, bytes) in states {
            let attributes = [("system.memory.state", state)];
            self.recorder
                .number(MEMORY_USAGE, &attributes, number(bytes));
            self.recorder
                .number(MEMORY_UTILIZATION, &attributes, share(bytes, total));
        }
        self.recorder.number(MEMORY_LIMIT, &[], number(total));
        if cfg!(target_os = "linux") {
            self.recorder.number(
                MEMORY_AVAILABLE,
                &[],
                number(self.system.available_memory()),
            );
        }
        let swap = self.system.total_swap();
        if swap > 0 {
            for (state, bytes) in [
                ("used", self.system.used_swap()),
                ("free", self.system.free_swap()),
            ] {
                let attributes = [("system.paging.state", state)];
                self.recorder
                    .number(PAGING_USAGE, &attributes, number(bytes));
                self.recorder
                    .number(PAGING_UTILIZATION, &attributes, share(bytes, swap));
            }
        }
        Ok(())
    }

    fn temperatures(&mut self, relist: bool) {
        if relist {
            self.components.refresh(true);
        } else {
            for component in self.components.iter_mut() {
                component.refresh();
            }
        }
        let mut seen: Vec<&str> = Vec::new();
        for component in self.components.iter() {
            let id = component.id().unwrap_or_else(|| component.label());
            let Some(celsius) = component
                .temperature()
                .filter(|celsius| celsius.is_finite())
            else {
                continue;
            };
            if id.is_empty() || seen.contains(&id) {
                continue;
            }
            seen.push(id);
            let attributes = [("hw.id", id), ("hw.name", component.label())];
            self.recorder
                .number(TEMPERATURE, &attributes, hundredths(celsius));
        }
    }

    fn record(&mut self, now: Moment) -> Result<(), SensorError> {
        let relist = self
            .listed_at
            .is_none_or(|at| now.monotonic_ns.saturating_sub(at) >= RELIST_NS);
        let uptime = System::uptime().map_err(|error| SensorError::Read {
            what: "uptime",
            reason: error.to_string(),
        })?;
        self.recorder.number(UPTIME, &[], number(uptime));
        self.processors(now)?;
        self.memory()?;
        self.storage.record(relist, &mut self.recorder);
        self.network.record(&mut self.recorder)?;
        self.temperatures(relist);
        if relist {
            self.listed_at = Some(now.monotonic_ns);
        }
        Ok(())
    }
}

impl Sensor for Host {
    fn read(&mut self, now: Moment) -> Result<Scrape, SensorError> {
        // What a read that failed half way had said must not become part of the next one.
        self.recorder.discard();
        self.record(now)?;
        Ok(self.recorder.finish())
    }
}

/// A count as a double: exact up to 2^53, which is 9 PB.
#[allow(clippy::cast_precision_loss)]
fn number(count: u64) -> f64 {
    count as f64
}

fn share(part: u64, whole: u64) -> f64 {
    rounded(number(part) / number(whole))
}

/// Shares are kept to 1/10000: what is beyond is noise, and costs bytes for ever.
fn rounded(share: f64) -> f64 {
    (share * 10_000.0).round() / 10_000.0
}

/// Thousandths of a degree come as `f32`; two decimals of a double are what the sensor meant.
fn hundredths(celsius: f32) -> f64 {
    (f64::from(celsius) * 100.0).round() / 100.0
}
