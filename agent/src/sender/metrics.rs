//! The sender's counters: `weir_agent_sender_*` and the totals of this process.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use std::sync::atomic::AtomicU64;
use weir_process::metrics::Registry;

use super::drain::Drain;
use crate::ledger::{self, Settled};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: &'static str,
}

/// Handles to the counters.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) requests: Counter,
    pub(crate) batches: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) throttle_seconds: Counter<f64, AtomicU64>,
    pub(crate) connected: Gauge,
    pub(crate) window_bytes: Gauge,
    pub(crate) outstanding_bytes: Gauge,
    pub(crate) refused: Counter,
    pub(crate) dead_letters: Counter,
    pub(crate) fork_resent: Counter,
    pub(crate) renewals: Counter,
    drain: DrainGauges,
    acked: Counter,
    dropped: Family<Reason, Counter>,
    retries: Family<Code, Counter>,
}

impl Metrics {
    /// Registers them.
    pub(crate) fn new(registry: &Registry) -> Metrics {
        Metrics {
            requests: registry.register(
                "sender_requests",
                "requests sent that carried batches",
                Counter::default(),
            ),
            batches: registry.register("sender_batches", "batches sent", Counter::default()),
            sent_bytes: registry.register(
                "sender_bytes",
                "bytes of records sent",
                Counter::default(),
            ),
            throttle_seconds: registry.register(
                "sender_throttle_seconds",
                "time that requests waited for the request rate",
                Counter::default(),
            ),
            connected: registry.register(
                "sender_connected",
                "1 while a sink has welcomed this agent",
                Gauge::default(),
            ),
            window_bytes: registry.register(
                "sender_window_bytes",
                "bytes that may be unacknowledged",
                Gauge::default(),
            ),
            outstanding_bytes: registry.register(
                "sender_outstanding_bytes",
                "bytes sent and not acknowledged",
                Gauge::default(),
            ),
            refused: registry.register(
                "sender_refused",
                "batches the sink refused",
                Counter::default(),
            ),
            dead_letters: registry.register(
                "sender_dead_letters",
                "batches set aside in the dead-letter store",
                Counter::default(),
            ),
            fork_resent: registry.register(
                "sender_fork_resent",
                "readings sent again after a stream had forked: they may be stored twice",
                Counter::default(),
            ),
            renewals: registry.register(
                "sender_renewals",
                "streams begun so that new readings need not wait behind a backlog",
                Counter::default(),
            ),
            drain: DrainGauges::new(registry),
            acked: registry.register(
                "sender_acked_readings",
                "readings the sink has made durable",
                Counter::default(),
            ),
            dropped: registry.register(
                "dropped_readings",
                "readings dropped for good, by reason",
                Family::default(),
            ),
            retries: registry.register(
                "sender_retries",
                "attempts that failed, by what the sink answered",
                Family::default(),
            ),
        }
    }

    /// Counts what an acknowledgement settled.
    pub(crate) fn settled(&self, settled: Settled) {
        match settled {
            Settled::Stored(readings) => {
                self.acked.inc_by(readings);
            }
            Settled::Dropped(reason, readings) => {
                let reason = ledger::reason_name(ledger::slot(reason));
                self.dropped
                    .get_or_create(&Reason { reason })
                    .inc_by(readings);
            }
            Settled::Again => {}
        }
    }

    /// Shows how the backlog drains.
    pub(crate) fn show_drain(&self, drain: &Drain) {
        let bytes = i64::try_from(drain.bytes).unwrap_or(i64::MAX);
        self.drain.backlog_bytes.set(bytes);
        self.drain.rate.set(drain.readings_per_second);
        self.drain.seconds.set(drain.seconds.unwrap_or(f64::NAN));
    }

    /// Counts a failed attempt.
    pub(crate) fn retried(&self, code: &'static str) {
        self.retries.get_or_create(&Code { code }).inc();
    }
}

/// What is shown of a [`Drain`].
#[derive(Clone)]
struct DrainGauges {
    backlog_bytes: Gauge,
    rate: Gauge<f64, AtomicU64>,
    seconds: Gauge<f64, AtomicU64>,
}

impl DrainGauges {
    fn new(registry: &Registry) -> DrainGauges {
        DrainGauges {
            backlog_bytes: registry.register(
                "sender_backlog_bytes",
                "bytes on disk of readings that are not acknowledged, nearly",
                Gauge::default(),
            ),
            rate: registry.register(
                "sender_drain_readings_per_second",
                "readings per second by which the backlog became less in the last 30 s; negative while it grows",
                Gauge::default(),
            ),
            seconds: registry.register(
                "sender_drain_seconds",
                "seconds until the backlog is gone at that rate; NaN while it does not become less",
                Gauge::default(),
            ),
        }
    }
}
