//! The spool's numbers for a scrape.
//!
//! Everything here is read from the books when it is looked at, so nothing can drift from them;
//! counters of one process are kept by what moves them.

use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use weir_process::metrics::Registry;

use super::Spool;
use crate::ledger::Totals;

impl Spool {
    /// Adds the spool's metrics: `weir_agent_spool_*`, and the ledger as `weir_agent_ledger_*`.
    pub fn register(&self, registry: &Registry) {
        registry.collect(Scrape(self.clone()));
    }
}

struct Scrape(Spool);

impl std::fmt::Debug for Scrape {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let spool = &self.0;
        let view = spool.ledger();
        let oldest_ns = view.streams.iter().map(|stream| stream.oldest_unacked_ns);
        let oldest_ns = oldest_ns.filter(|ns| *ns != 0).min();
        let age_ns = oldest_ns.map_or(0, |ns| (spool.shared.clock.wall_ns() - ns).max(0));
        let stats = spool.lock().live().map(|live| live.stats());
        let stats = stats.unwrap_or_default();

        let mut gauges = Gauges(&mut encoder);
        gauges.add(
            "spool_bytes",
            "bytes the spool takes on disk",
            count(view.spool_bytes),
        )?;
        gauges.add(
            "spool_max_bytes",
            "the spool's limit",
            count(view.spool_max_bytes),
        )?;
        gauges.add(
            "spool_streams",
            "streams the spool holds",
            count(view.streams.len() as u64),
        )?;
        gauges.add(
            "spool_oldest_age_seconds",
            "age of the oldest reading that is not acknowledged",
            age_ns / 1_000_000_000,
        )?;
        gauges.add(
            "dead_letter_bytes",
            "bytes of batches that were set aside",
            count(spool.dead_letters().known_bytes()),
        )?;
        gauges.add(
            "ledger_spooled",
            "readings not acknowledged yet",
            count(view.totals.spooled),
        )?;
        gauges.add(
            "ledger_dropping",
            "readings dropped by the agent, not confirmed by the sink",
            count(view.totals.dropping.values().sum()),
        )?;
        gauges.add(
            "ledger_unexplained",
            "readings the books cannot account for",
            view.totals.unexplained,
        )?;
        ledger(&mut encoder, &view.totals)?;
        let seconds = Duration::from_nanos(stats.sync_nanos_total).as_secs_f64();
        seconds_total(
            &mut encoder,
            "spool_sync",
            "time spent in fdatasync",
            seconds,
        )?;
        total(
            &mut encoder,
            "spool_syncs",
            "commits of the current stream",
            stats.syncs,
        )?;
        total(
            &mut encoder,
            "spool_written_bytes",
            "bytes written for the current stream",
            stats.bytes_written,
        )
    }
}

fn ledger(encoder: &mut DescriptorEncoder<'_>, totals: &Totals) -> Result<(), std::fmt::Error> {
    let produced = totals.produced;
    total(
        encoder,
        "ledger_produced",
        "readings of all streams held or delivered",
        produced,
    )?;
    total(
        encoder,
        "ledger_acked",
        "readings the sink has made durable; falls where a sink lost what it had acknowledged",
        totals.acked,
    )?;
    total(
        encoder,
        "ledger_replayed",
        "readings that were refused and put back into the spool",
        totals.replayed,
    )
}

struct Gauges<'a, 'e>(&'a mut DescriptorEncoder<'e>);

impl Gauges<'_, '_> {
    fn add(&mut self, name: &str, help: &str, value: i64) -> Result<(), std::fmt::Error> {
        let gauge = ConstGauge::new(value);
        let encoder = self
            .0
            .encode_descriptor(name, help, None, gauge.metric_type())?;
        gauge.encode(encoder)
    }
}

fn total(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), std::fmt::Error> {
    let counter = ConstCounter::new(value);
    let encoder = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
    counter.encode(encoder)
}

fn seconds_total(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: f64,
) -> Result<(), std::fmt::Error> {
    let counter = ConstCounter::new(value);
    let kind = counter.metric_type();
    let encoder = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), kind)?;
    counter.encode(encoder)
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
