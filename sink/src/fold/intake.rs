//! Records that ingest hands over already decoded, so that they are not decoded twice.
//!
//! Bounded in bytes. What does not fit is simply not taken: the fold then reads those records
//! from the journal, and nobody waits.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::Parcel;

#[derive(Debug)]
pub(crate) struct Intake {
    limit: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By the number of their first record, with their bytes.
    waiting: BTreeMap<u64, (Parcel, usize)>,
    bytes: usize,
    /// Everything through this number has been folded, or is about to be.
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

    /// Keeps the parcel unless it is late or does not fit.
    pub(crate) fn offer(&self, parcel: Parcel) {
        let bytes = parcel.bytes();
        let mut inner = self.lock();
        if parcel.number() <= inner.folded {
            return;
        }
        if inner.bytes + bytes > self.limit {
            inner.refused += parcel.end() - parcel.number();
            return;
        }
        inner.bytes += bytes;
        if let Some((_, old)) = inner.waiting.insert(parcel.number(), (parcel, bytes)) {
            inner.bytes -= old;
        }
    }

    /// The parcel that begins with this number, if it is here; everything before it is let go.
    pub(crate) fn take(&self, number: u64) -> Option<Parcel> {
        // Declared before the lock is taken, so that they are let go when nobody waits for it.
        let mut passed = Vec::new();
        let mut inner = self.lock();
        inner.folded = number;
        while let Some(entry) = inner.waiting.first_entry() {
            if *entry.key() > number {
                break;
            }
            let (found, (parcel, bytes)) = entry.remove_entry();
            inner.bytes -= bytes;
            if found == number {
                inner.folded = parcel.end() - 1;
                return Some(parcel);
            }
            passed.push(parcel);
        }
        None
    }

    /// How many records did not fit, ever.
    pub(crate) fn refused(&self) -> u64 {
        self.lock().refused
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .expect("nothing panics while it holds the intake")
    }
}
