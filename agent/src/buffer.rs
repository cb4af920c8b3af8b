//! A sensor's own buffer: scrapes on their way to becoming part of a batch.
//!
//! In: scrapes of one sensor, in the order of their times. Out: a [`Parcel`] when so many readings or bytes have come
//! together, or the first of them has waited long enough. Pure: the time is an argument.
//!
//! A buffer waits for half of the [`Age`] of a batch at most; the other half is left for the parcels of several sensors to come
//! together in one batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::queue::Weight;
use crate::sensors::{Scrape, Shape, Value};

#[cfg(test)]
mod tests;

/// When readings must move on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limits {
    /// As soon as there are so many.
    pub(crate) readings: u64,
    /// As soon as they take so much, about, before compression.
    pub(crate) bytes: usize,
    /// As soon as the first of them is so old, at first: see [`Age`].
    pub(crate) age: Duration,
}

/// How old the first reading of a batch may become, now: `batch.max_age`, or more where a budget needs it. Cloning gives
/// another handle to the same.
#[derive(Debug, Clone)]
pub(crate) struct Age(Arc<AtomicU64>);

impl Age {
    /// Of this length until it is set.
    pub(crate) fn new(age: Duration) -> Self {
        let this = Self(Arc::default());
        this.set(age);
        this
    }

    /// As it is now.
    pub(crate) fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    /// Changes it, for what waits already as well.
    pub(crate) fn set(&self, age: Duration) {
        let nanos = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        self.0.store(nanos, Ordering::Relaxed);
    }
}

/// Clocks that part by more than this were set. Slewing stays far below it between two readings of one batch.
const STEP_NS: u64 = 1_000_000_000;

/// When the first reading of something was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    /// For waiting.
    pub(crate) at: Instant,
    /// For the header of a batch.
    pub(crate) monotonic_ns: u64,
    /// Time of day at that moment.
    pub(crate) wall_ns: i64,
}

impl Start {
    /// Whether the time of day was set between the two. One header describes all readings of a batch, so what was
    /// read before and what was read after cannot be in one.
    pub(crate) fn is_parted_from(&self, other: &Self) -> bool {
        self.boot_ns().abs_diff(other.boot_ns()) > u128::from(STEP_NS)
    }

    /// What the time of day was at monotonic 0, as the clock is set now.
    pub(crate) fn boot_ns(&self) -> i128 {
        i128::from(self.wall_ns) - i128::from(self.monotonic_ns)
    }

    /// The monotonic time at which the time of day was `wall_ns`, as the clock is set now; not before the boot.
    pub(crate) fn monotonic_at(&self, wall_ns: i64) -> u64 {
        let since_boot = (i128::from(wall_ns) - self.boot_ns()).max(0);
        u64::try_from(since_boot).unwrap_or(u64::MAX)
    }
}

/// Consecutive scrapes of one shape.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Run {
    /// What the values are of.
    pub(crate) shape: Arc<Shape>,
    /// Unix nanoseconds, ascending.
    pub(crate) times: Vec<i64>,
    /// Scrape after scrape, `times.len() * shape.series.len()` values.
    pub(crate) values: Vec<Value>,
}

/// Readings of one sensor that travel together.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parcel {
    /// In the order of their times.
    pub(crate) runs: Vec<Run>,
    /// How many values there are.
    pub(crate) readings: u64,
    /// What they take in a payload before compression, about.
    pub(crate) bytes: usize,
    /// When the first was taken.
    pub(crate) start: Start,
}

impl Parcel {
    fn new(start: Start) -> Self {
        Self {
            runs: Vec::new(),
            readings: 0,
            bytes: 0,
            start,
        }
    }

    fn add(&mut self, time_ns: i64, scrape: Scrape) {
        self.readings += scrape.values.len() as u64;
        self.bytes += bytes(&scrape);
        match self.runs.last_mut() {
            Some(run) if Arc::ptr_eq(&run.shape, &scrape.shape) => {
                run.times.push(time_ns);
                run.values.extend(scrape.values);
            }
            _ => self.runs.push(Run {
                shape: scrape.shape,
                times: vec![time_ns],
                values: scrape.values,
            }),
        }
    }

    /// What it takes of the queue: its memory, which is about twice its payload.
    pub(crate) fn weight(&self) -> Weight {
        Weight {
            bytes: size_of::<Self>() + 2 * self.bytes,
            readings: self.readings,
        }
    }
}

/// What a scrape takes in a payload before compression, about: its values, its time, and a few bytes per column.
pub(crate) fn bytes(scrape: &Scrape) -> usize {
    const PER_COLUMN: usize = 16;
    let values: usize = scrape.values.iter().map(Value::bytes).sum();
    values + size_of::<i64>() + PER_COLUMN * scrape.values.len()
}

/// Collects the scrapes of one sensor.
#[derive(Debug)]
pub(crate) struct Buffer {
    limits: Limits,
    parcel: Option<Parcel>,
}

impl Buffer {
    /// Empty. `limits` are those of a batch.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            parcel: None,
        }
    }

    /// Whether a scrape fits beside what is there: never when the time of day was set in between. A scrape that is larger
    /// than the limits by itself fits when nothing is.
    pub(crate) fn has_room(&self, start: &Start, scrape: &Scrape) -> bool {
        self.parcel.as_ref().is_none_or(|parcel| {
            parcel.readings + scrape.values.len() as u64 <= self.limits.readings
                && parcel.bytes + bytes(scrape) <= self.limits.bytes
                && !parcel.start.is_parted_from(start)
        })
    }

    /// Puts a scrape in, whatever the limits say.
    pub(crate) fn add(&mut self, time_ns: i64, start: Start, scrape: Scrape) {
        if !scrape.values.is_empty() {
            self.parcel
                .get_or_insert_with(|| Parcel::new(start))
                .add(time_ns, scrape);
        }
    }

    /// Whether what is there has reached a limit of size.
    pub(crate) fn is_full(&self) -> bool {
        self.parcel.as_ref().is_some_and(|parcel| {
            parcel.readings >= self.limits.readings || parcel.bytes >= self.limits.bytes
        })
    }

    /// When what is there has waited long enough, for a batch of this age.
    pub(crate) fn due_at(&self, age: &Age) -> Option<Instant> {
        let parcel = self.parcel.as_ref()?;
        Some(parcel.start.at + age.get() / 2)
    }

    /// Everything that is there.
    pub(crate) fn take(&mut self) -> Option<Parcel> {
        self.parcel.take()
    }
}
