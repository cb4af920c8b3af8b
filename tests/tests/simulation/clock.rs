//! Time in the simulated world: one that passes for all, and what each machine takes it for.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use weir_process::clock::Clock;

/// When the world begins, by clocks that are right.
pub(crate) const BEGINNING_NS: i64 = 1_800_000_000_000_000_000;

/// The time that passes: nanoseconds since the world began.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passing(Arc<AtomicU64>);

impl Passing {
    /// Sets it; the world does before each step.
    pub(crate) fn set(&self, elapsed: Duration) {
        let elapsed = u64::try_from(elapsed.as_nanos()).expect("worlds are short");
        self.0.store(elapsed, Ordering::SeqCst);
    }

    /// Nanoseconds since the world began.
    pub(crate) fn ns(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// What one machine takes it for.
#[derive(Debug)]
pub(crate) struct MachineClock {
    passing: Passing,
    machine: u8,
    off_ns: AtomicI64,
    boots: AtomicU64,
    booted_ns: AtomicU64,
}

impl MachineClock {
    /// A clock that is right.
    pub(crate) fn new(passing: &Passing, machine: u8) -> Arc<MachineClock> {
        Arc::new(MachineClock {
            passing: passing.clone(),
            machine,
            off_ns: AtomicI64::new(0),
            boots: AtomicU64::new(1),
            booted_ns: AtomicU64::new(0),
        })
    }

    /// Sets the wall clock so many seconds off.
    pub(crate) fn set_off(&self, seconds: i64) {
        self.off_ns.store(seconds * 1_000_000_000, Ordering::SeqCst);
    }

    /// The machine is switched on again.
    pub(crate) fn boot(&self) {
        self.boots.fetch_add(1, Ordering::SeqCst);
        self.booted_ns.store(self.passing.ns(), Ordering::SeqCst);
    }
}

impl Clock for MachineClock {
    fn wall_ns(&self) -> i64 {
        BEGINNING_NS + self.passing.ns().cast_signed() + self.off_ns.load(Ordering::SeqCst)
    }

    fn monotonic_ns(&self) -> u64 {
        1_000_000_000 + self.passing.ns() - self.booted_ns.load(Ordering::SeqCst)
    }

    fn boot_id(&self) -> [u8; 16] {
        let mut id = [self.machine; 16];
        id[8..].copy_from_slice(&self.boots.load(Ordering::SeqCst).to_le_bytes());
        id
    }
}
