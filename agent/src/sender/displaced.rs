//! Streams of this agent that another one delivers, and that it leaves alone for a while: a copy of its
//! machine runs somewhere.
//!
//! In: the lanes, each for as long as it waits. Out: their number, for the status page, and as the
//! metric to raise an alarm by.

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use weir_process::metrics::Registry;

/// See the module.
#[derive(Clone)]
pub(crate) struct Displaced {
    streams: watch::Sender<u64>,
    gauge: Gauge,
}

/// One stream is left alone, until this is dropped.
pub(crate) struct Waits<'a>(&'a Displaced);

impl Displaced {
    /// None, and a gauge that says so.
    pub(crate) fn new(registry: &Registry) -> Displaced {
        Displaced {
            streams: watch::Sender::new(0),
            gauge: registry.register(
                "sender_displaced",
                "streams that another agent delivers, a copy of this machine: they wait five minutes",
                Gauge::default(),
            ),
        }
    }

    /// One more is left alone.
    pub(crate) fn waits(&self) -> Waits<'_> {
        self.change(|streams| streams + 1);
        Waits(self)
    }

    /// How many are, now and on every change.
    pub(crate) fn streams(&self) -> watch::Receiver<u64> {
        self.streams.subscribe()
    }

    fn change(&self, to: impl Fn(u64) -> u64) {
        self.streams.send_modify(|streams| *streams = to(*streams));
        let streams = *self.streams.borrow();
        self.gauge.set(i64::try_from(streams).unwrap_or(i64::MAX));
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.change(|streams| streams.saturating_sub(1));
    }
}
