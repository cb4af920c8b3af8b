//! When the sink is told anew what the agent's clocks say.
//!
//! In: the clock, before each request. Out: a sample for the request, at the first one after the time of day was set and
//! otherwise once a minute. Hello carries the first of a call. A sample is a few bytes and only an upper bound: what is
//! late on the way makes it late, so the sink keeps the earliest.

use std::time::Duration;

use weir_process::clock::Clock;
use weir_proto::v1;

const EVERY: Duration = Duration::from_secs(60);

/// Clocks that part by more than this were set.
const STEP_NS: u128 = 1_000_000_000;

/// What the clocks say now.
pub(crate) fn sample(clock: &dyn Clock) -> v1::Clock {
    v1::Clock {
        wall_ns: clock.wall_ns(),
        monotonic_ns: clock.monotonic_ns(),
    }
}

/// What the sink was last told.
#[derive(Debug)]
pub(crate) struct Told {
    last: v1::Clock,
}

impl Told {
    /// `hello` went out with Hello.
    pub(crate) fn new(hello: v1::Clock) -> Self {
        Self { last: hello }
    }

    /// The sample the next request carries, if one is due.
    pub(crate) fn due(&mut self, clock: &dyn Clock) -> Option<v1::Clock> {
        let now = sample(clock);
        let passed = u128::from(now.monotonic_ns.saturating_sub(self.last.monotonic_ns));
        let is_due =
            passed >= EVERY.as_nanos() || boot_ns(&now).abs_diff(boot_ns(&self.last)) > STEP_NS;
        is_due.then(|| {
            self.last = now;
            now
        })
    }
}

fn boot_ns(clock: &v1::Clock) -> i128 {
    i128::from(clock.wall_ns) - i128::from(clock.monotonic_ns)
}

#[cfg(test)]
mod tests {
    use weir_process::clock::ManualClock;

    use super::*;

    /// Fails when [`Told::due`] leaves out either of its two reasons.
    #[test]
    fn a_sample_is_due_once_a_minute_and_when_the_clock_was_set() {
        let clock = ManualClock::new(5);
        let mut told = Told::new(sample(&clock));
        clock.advance(Duration::from_secs(59));
        assert_eq!(told.due(&clock), None);
        clock.advance(Duration::from_secs(1));
        assert!(told.due(&clock).is_some());
        assert_eq!(told.due(&clock), None);
        clock.set_wall(1_700_000_000_000_000_000);
        let after = told.due(&clock).expect("the clock was set");
        assert_eq!(after.wall_ns, 1_700_000_000_000_000_000);
        clock.set_wall(after.wall_ns - 900_000_000);
        assert_eq!(told.due(&clock), None, "slewed, not set");
    }
}
