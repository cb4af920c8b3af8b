//! Delays between attempts to reach the sink.
//!
//! In: "it failed" (perhaps with the sink's own hint) and "it moved". Out: how long to wait.
//! Promises: starts at the floor, doubles with jitter up to the ceiling, starts over on progress,
//! never gives up, and never waits less than the sink asked for. backon is a source of delays only;
//! the loop is the sender's. This is the one file that names backon.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use weir_process::random;

#[cfg(test)]
mod tests;

/// The longest hint that is believed: a sink may not silence its agents for a day.
const MAX_HINT: Duration = Duration::from_secs(600);

/// Where the next delay comes from.
pub(crate) struct Retry {
    floor: Duration,
    ceiling: Duration,
    delays: ExponentialBackoff,
}

impl Retry {
    /// Delays between `floor` and `ceiling`.
    pub(crate) fn new(floor: Duration, ceiling: Duration) -> Retry {
        let floor = floor.max(Duration::from_millis(1));
        let ceiling = ceiling.max(floor);
        Retry {
            floor,
            ceiling,
            delays: delays(floor, ceiling),
        }
    }

    /// The next delay; at least the sink's hint, where it gave one.
    pub(crate) fn next(&mut self, hint: Option<Duration>) -> Duration {
        let own = self.delays.next().unwrap_or(self.ceiling).min(self.ceiling);
        own.max(hint.unwrap_or_default().min(MAX_HINT))
    }

    /// The next delay at least `floor` long: for what only an operator can mend.
    pub(crate) fn next_slow(&mut self, hint: Option<Duration>) -> Duration {
        self.next(hint).max(self.ceiling / 2)
    }

    /// The next delay after the sink did not let this agent in: whoever keeps asking is noted there, and a fleet with
    /// one wrong credential must not beat in step.
    pub(crate) fn next_denied(&mut self, hint: Option<Duration>) -> Duration {
        let least = self.ceiling * 3 + random::below(self.ceiling);
        self.next(hint).max(least)
    }

    /// Something was acknowledged: the next failure starts at the floor again.
    pub(crate) fn moved(&mut self) {
        self.delays = delays(self.floor, self.ceiling);
    }
}

/// backon adds its jitter on top of the delay, up to twice of it: half the ceiling keeps within.
fn delays(floor: Duration, ceiling: Duration) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(floor)
        .with_max_delay((ceiling / 2).max(floor))
        .with_factor(2.0)
        .with_jitter()
        .with_jitter_seed(random::number())
        .without_max_times()
        .build()
}
