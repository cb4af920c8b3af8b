//! Seeded values that look like a sensor's: a slow walk with two decimals, now and then still.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// One metric's walk.
#[derive(Debug)]
pub(crate) struct Signal {
    random: StdRng,
    hundredths: i64,
}

impl Signal {
    /// A walk that depends on its seed alone.
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let hundredths = random.random_range(1_000..10_000);
        Self { random, hundredths }
    }

    /// The next value.
    pub(crate) fn next(&mut self) -> f64 {
        // Two moves in three: a temperature does not change at every reading.
        if self.random.random_range(0..3) != 0 {
            self.hundredths += self.random.random_range(-12..=12);
        }
        self.hundredths as f64 / 100.0
    }
}
