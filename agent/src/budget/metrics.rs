//! The budgets' numbers for a scrape: read when they are looked at.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;
use weir_process::metrics::Registry;
use weir_process::metrics::prometheus_client::collector::Collector;
use weir_process::metrics::prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use weir_process::metrics::prometheus_client::metrics::counter::ConstCounter;
use weir_process::metrics::prometheus_client::metrics::gauge::ConstGauge;

use super::{Keeper, Seen, Use};
use crate::buffer::Age;
use crate::sender::traffic::Traffic;
use crate::spool::Spool;

impl Keeper {
    /// Adds the metrics of what is used up.
    pub(super) fn register(&self, registry: &Registry) {
        registry.collect(Scrape {
            written: Arc::clone(&self.sources.written),
            traffic: Arc::clone(&self.sources.traffic),
            age: self.sources.age.clone(),
            spool: self.sources.spool.clone(),
            seen: self.seen(),
        });
    }
}

struct Scrape {
    written: Arc<AtomicU64>,
    traffic: Arc<Traffic>,
    age: Age,
    spool: Spool,
    seen: watch::Receiver<Seen>,
}

impl fmt::Debug for Scrape {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.totals(&mut encoder)?;
        self.gauges(&mut encoder)
    }
}

impl Scrape {
    fn totals(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let totals = [
            (
                "flash_bytes",
                "blocks of 4096 bytes written to the disk, and one per sync, in bytes",
                self.written.load(Ordering::Relaxed),
            ),
            (
                "wire_sent_bytes",
                "bytes to the sink, without TCP and IP",
                self.traffic.sent(),
            ),
            (
                "wire_received_bytes",
                "bytes from the sink, without TCP and IP",
                self.traffic.received(),
            ),
            (
                "budget_changes",
                "how often a budget changed how long batches and commits wait",
                self.seen.borrow().changes,
            ),
        ];
        for (name, help, value) in totals {
            let metric = ConstCounter::new(value);
            let descriptor = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
            metric.encode(descriptor)?;
        }
        Ok(())
    }

    fn gauges(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let seen = *self.seen.borrow();
        let mut gauge = |name: &str, help, value: f64| {
            let metric = ConstGauge::new(value);
            let descriptor = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
            metric.encode(descriptor)
        };
        gauge(
            "spool_full_seconds",
            "seconds until the spool is full; NaN while what waits does not grow",
            seen.spool_full_seconds.unwrap_or(f64::NAN),
        )?;
        gauge(
            "batch_age_seconds",
            "how long a reading may wait for its batch to leave, now",
            self.age.get().as_secs_f64(),
        )?;
        gauge(
            "spool_commit_interval_seconds",
            "how long a batch may wait for its commit, now",
            self.spool.commit_interval().as_secs_f64(),
        )?;
        for (thing, used) in [("flash", seen.flash), ("wire", seen.wire)] {
            let Use {
                per_day,
                limit,
                exceeded,
                ..
            } = used;
            gauge(
                &format!("{thing}_bytes_per_day"),
                "what the last ten minutes make in a day; NaN while nobody knows",
                per_day.unwrap_or(f64::NAN),
            )?;
            gauge(
                &format!("{thing}_limit_bytes_per_day"),
                "most bytes in a day; 0 for no limit",
                limit as f64,
            )?;
            gauge(
                &format!("{thing}_budget_exceeded"),
                "1 while even the longest waits exceed the limit",
                f64::from(u8::from(exceeded)),
            )?;
        }
        Ok(())
    }
}
