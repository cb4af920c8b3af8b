//! Metrics in the Prometheus sense: registered once under the program's prefix, read by a scrape.
//!
//! Counters are registered without `_total`, which the text format appends. What the program itself measures carries
//! its prefix (`weir_agent_`, `weir_sink_`); what every program exports about its own process carries the customary
//! `process_` names, so that ready-made dashboards find them. Labels come from closed sets.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry as Names};

mod process;

use process::ProcessMetrics;
pub use prometheus_client;

/// The commit this was built from, when the build said so in `WEIR_COMMIT`.
pub const COMMIT: &str = match option_env!("WEIR_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// The media type of [`Registry::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of one program. Cloning gives another handle to the same.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    own: Names,
    process: Names,
}

impl Registry {
    /// An empty registry whose names begin with `prefix` and an underscore, as in `weir_agent`.
    pub fn new(prefix: &str) -> Self {
        let inner = Inner {
            own: Names::with_prefix(prefix),
            process: Names::default(),
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// Adds a metric and answers a handle to it. `help` is a sentence without full stop.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.lock().own.register(name, help, metric.clone());
        metric
    }

    /// Adds something that answers with metrics whenever it is asked.
    pub fn collect(&self, collector: impl Collector) {
        self.lock().own.register_collector(Box::new(collector));
    }

    /// Adds `<prefix>_build_info{version,commit}`, which is always 1.
    pub fn build_info(&self, version: &'static str) {
        let info = Info::new([("version", version), ("commit", COMMIT)]);
        let help = "the version and the commit this program was built from";
        self.lock().own.register("build", help, info);
    }

    /// Adds what is known about this process: memory, processor time, open files, threads and when it started.
    pub fn process_metrics(&self, started_wall_ns: i64) {
        let collector = Box::new(ProcessMetrics::new(started_wall_ns));
        self.lock().process.register_collector(collector);
    }

    /// Everything in the OpenMetrics text format, see [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let inner = self.lock();
        let mut out = String::new();
        text::encode_registry(&mut out, &inner.own)
            .and_then(|()| text::encode_registry(&mut out, &inner.process))
            .and_then(|()| text::encode_eof(&mut out))
            .expect("writing into a string does not fail");
        out
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Registering appends to a list: after a panic elsewhere it is still whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Registry")
    }
}

/// A version as `--version` shows it: `0.1.0 (1a2b3c4)`.
pub fn version_with_commit(version: &str) -> String {
    format!("{version} ({COMMIT})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;

    #[test]
    fn names_carry_the_prefix_and_counters_total() {
        let registry = Registry::new("weir_test");
        let sent: Counter = registry.register("sender_batches", "batches sent", Counter::default());
        let depth: Gauge = registry.register("queue_depth", "entries waiting", Gauge::default());
        sent.inc_by(3);
        depth.set(-2);
        let text = registry.clone().encode();
        assert!(
            text.contains("\nweir_test_sender_batches_total 3\n"),
            "{text}"
        );
        assert!(text.contains("\nweir_test_queue_depth -2\n"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn build_info_is_one_and_says_what_was_built() {
        let registry = Registry::new("weir_test");
        registry.build_info("1.2.3");
        let text = registry.encode();
        let line = format!("weir_test_build_info{{version=\"1.2.3\",commit=\"{COMMIT}\"}} 1\n");
        assert!(text.contains(&line), "{text}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_reports_memory_time_and_files() {
        let registry = Registry::new("weir_test");
        registry.process_metrics(1_700_000_000_500_000_000);
        let text = registry.encode();
        let value = |name: &str| -> f64 {
            let line = text
                .lines()
                .find(|line| line.starts_with(&format!("{name} ")));
            let line = line.unwrap_or_else(|| panic!("{name} in {text}"));
            line[name.len() + 1..].parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_cpu_seconds_total") > 0.0);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_threads") >= 1.0);
        assert_eq!(value("process_start_time_seconds"), 1_700_000_000.5);
    }
}
