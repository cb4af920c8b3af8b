//! The spool's numbers for a scrape, and its say in the program's health.
//!
//! Everything here is read from the books when it is looked at, so nothing can drift from them;
//! counters of one process are kept by what moves them.

use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use tokio::time::Instant;
use weir_process::health::Stage;
use weir_process::metrics::Registry;

use super::Spool;
use crate::ledger::Totals;

/// How often losses are looked at and the stage says that it is alive.
const TICK: Duration = Duration::from_millis(250);
/// How often the data directory is looked at for requests of a command.
const ASK: Duration = Duration::from_secs(1);
/// How often the high-water mark of the live stream is noted: what a damaged end costs is exact up to then.
const NOTE: Duration = Duration::from_secs(30);

impl Spool {
    /// Adds the spool's metrics: `weir_agent_spool_*`, and the ledger as `weir_agent_ledger_*`.
    pub fn register(&self, registry: &Registry) {
        registry.collect(Scrape(self.clone()));
    }

    /// Keeps losses flowing into the books, and says how the spool fares. Runs until it is dropped.
    pub(crate) async fn tend(&self, stage: Stage) {
        tokio::join!(self.keep_books(stage), self.serve());
    }

    /// Answers commands; one may wait for the disk for a while.
    async fn serve(&self) {
        let mut ticks = tokio::time::interval(ASK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            self.serve_request().await;
        }
    }

    async fn keep_books(&self, stage: Stage) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut noted = Instant::now();
        loop {
            ticks.tick().await;
            if let Err(error) = self.flush_lost(false) {
                tracing::debug!(%error, "cannot write what was dropped yet");
            }
            if noted.elapsed() >= NOTE {
                noted = Instant::now();
                self.note_progress();
            }
            self.speak(&stage);
        }
    }

    /// What moves, for `pulse`: the last durable sequence and the batches that wait behind it; a number that
    /// changes with every ack, and the readings that wait for one.
    pub(crate) fn pulse(&self) -> ((u64, u64), (u64, u64)) {
        let inner = self.lock();
        let commit = inner.live().map_or((0, 0), |live| {
            let durable_through = live.progress().borrow().durable_through;
            let last = live.journal.next() - 1;
            (durable_through, last.saturating_sub(durable_through))
        });
        let mut acks = inner.retired.produced;
        let mut readings = 0;
        for stream in &inner.streams {
            let account = stream.account();
            acks = acks.wrapping_add(account.acked_through);
            readings += stream.durable().1.saturating_sub(account.readings_through);
        }
        (commit, (acks, readings))
    }

    /// The live stream's high-water mark on disk: one small write and sync.
    fn note_progress(&self) {
        let live = self.lock().live();
        if let Some(Err(error)) = live.map(|live| live.note_progress()) {
            tracing::warn!(%error, "cannot note how far the spool is durable");
        }
    }

    fn speak(&self, stage: &Stage) {
        let inner = self.lock();
        let (bytes, max_bytes) = (inner.bytes(), self.shared.config.max_bytes);
        let progress = inner.live().map(|live| live.progress().borrow().clone());
        let waits_for_disk = progress.is_none() && !inner.finished;
        drop(inner);
        let progress = progress.unwrap_or_default();
        if let Some(reason) = progress.poisoned {
            stage.dead(format!("spool accepts nothing more: {reason}"));
        } else if progress.disk_full || waits_for_disk {
            stage.failing("disk is full: nothing can be spooled");
        } else if self.is_starved() {
            stage.failing(format!("spool is full: {bytes} of {max_bytes} bytes"));
        } else {
            stage.ok();
        }
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
        "readings the sink has made durable",
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
