//! Records that ingest hands over already decoded, so that they are not decoded twice.
//!
//! Bounded in bytes. What does not fit is simply not taken: the fold then reads that record
//! from the journal, and nobody waits.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::{Arrival, Decoded};

#[derive(Debug)]
pub(crate) struct Intake {
    limit: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: BTreeMap<u64, (Arrival, usize)>,
    bytes: usize,
    /// Everything through this number has been folded.
    folded: u64,
    refused: u64,
}

impl Intake {
    pub(crate) fn new(limit: usize, folded: u64) -> Self {
        Self {
            limit,
            inner: Mutex::new(Inner {
                folded,
                ..Inner::default()
            }),
        }
    }

    /// Keeps the arrival unless it is late or does not fit.
    pub(crate) fn offer(&self, arrival: Arrival) {
        let bytes = size(&arrival);
        let mut inner = self.lock();
        if arrival.number <= inner.folded {
            return;
        }
        if inner.bytes + bytes > self.limit {
            inner.refused += 1;
            return;
        }
        inner.bytes += bytes;
        if let Some((_, old)) = inner.waiting.insert(arrival.number, (arrival, bytes)) {
            inner.bytes -= old;
        }
    }

    /// The arrival of this number, if it is here; everything before it is let go.
    pub(crate) fn take(&self, number: u64) -> Option<Arrival> {
        let mut inner = self.lock();
        inner.folded = number;
        while let Some(entry) = inner.waiting.first_entry() {
            if *entry.key() > number {
                return None;
            }
            let (found, (arrival, bytes)) = entry.remove_entry();
            inner.bytes -= bytes;
            if found == number {
                return Some(arrival);
            }
        }
        None
    }

    /// How many did not fit, ever.
    pub(crate) fn refused(&self) -> u64 {
        self.lock().refused
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .expect("nothing panics while it holds the intake")
    }
}

fn size(arrival: &Arrival) -> usize {
    let decoded = arrival.decoded.as_ref().map_or(0, decoded_size);
    256 + arrival.envelope.record.len() + decoded
}

fn decoded_size(decoded: &Decoded) -> usize {
    decoded.series_defined.len() * 256 + decoded.readings.bytes()
}
