//! What is known about this process, read anew on every scrape. What the system does not tell is left out.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// The process, as the operating system sees it.
#[derive(Debug)]
pub(super) struct ProcessMetrics {
    started_seconds: f64,
}

impl ProcessMetrics {
    pub(super) fn new(started_wall_ns: i64) -> Self {
        Self {
            started_seconds: started_wall_ns as f64 / 1e9,
        }
    }
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let cpu = ConstCounter::new(cpu_seconds());
        let descriptor = encoder.encode_descriptor(
            "process_cpu_seconds",
            "processor time used, user and system",
            None,
            cpu.metric_type(),
        )?;
        cpu.encode(descriptor)?;
        let mut gauge = |name: &str, help: &str, value: f64| {
            let value = ConstGauge::new(value);
            let descriptor = encoder.encode_descriptor(name, help, None, value.metric_type())?;
            value.encode(descriptor)
        };
        gauge(
            "process_start_time_seconds",
            "when the program started, seconds since 1970",
            self.started_seconds,
        )?;
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        if let Some(kib) = status_number(&status, "VmRSS:") {
            let help = "memory in use that is not swapped out";
            gauge("process_resident_memory_bytes", help, kib * 1024.0)?;
        }
        if let Some(threads) = status_number(&status, "Threads:") {
            gauge("process_threads", "threads of the program", threads)?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            let open = open.count() as f64;
            gauge("process_open_fds", "open files and sockets", open)?;
        }
        if let Some(limit) = getrlimit(Resource::Nofile).current {
            let help = "how many files and sockets may be open";
            gauge("process_max_fds", help, limit as f64)?;
        }
        Ok(())
    }
}

fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

/// The number in a line such as `VmRSS:      5120 kB`.
fn status_number(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
