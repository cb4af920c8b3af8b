//! The request rate: one token per request that carries batches.
//!
//! In: a rate in requests per second (fractions included: 0.5 is one request every 2 s, never
//! rounded) and a burst. Out: "go", or the moment to ask again. Promises: never sleeps itself, and
//! reads tokio's clock, so that a paused or simulated clock steers it (governor's own `until_ready`
//! waits on a timer of its own). This is the one file that names governor.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

#[cfg(test)]
mod tests;

/// A token bucket. No rate means no limit.
pub(crate) struct Rate {
    bucket: Option<Bucket>,
}

struct Bucket {
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Elapsed>>,
    clock: TokioClock,
}

impl Rate {
    /// `per_second` of 0 (or anything that is not a positive number) switches the limit off.
    pub(crate) fn new(per_second: f64, burst: u32) -> Rate {
        let period = period(per_second);
        let bucket = period.and_then(Quota::with_period).map(|quota| {
            let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
            let clock = TokioClock::starting_now();
            Bucket {
                limiter: RateLimiter::direct_with_clock(quota.allow_burst(burst), clock),
                clock,
            }
        });
        Rate { bucket }
    }

    /// Whether there is a limit.
    pub(crate) fn is_limited(&self) -> bool {
        self.bucket.is_some()
    }

    /// Takes a token, or says how long to wait before asking again.
    pub(crate) fn take(&self) -> Result<(), Duration> {
        let Some(bucket) = &self.bucket else {
            return Ok(());
        };
        bucket.limiter.check().map_err(|refusal| {
            let wait = refusal.wait_time_from(bucket.clock.now());
            // tokio's timers have a grain of 1 ms; asking a moment early would only spin.
            wait.max(Duration::from_micros(100))
        })
    }
}

/// The time between two tokens; none for "no limit". At least a nanosecond, at most 100 years.
fn period(per_second: f64) -> Option<Duration> {
    if !per_second.is_finite() || per_second <= 0.0 {
        return None;
    }
    let seconds = (1.0 / per_second).min(3.2e9);
    Duration::try_from_secs_f64(seconds)
        .ok()
        .map(|period| period.max(Duration::from_nanos(1)))
}

/// governor's view of tokio's clock: nanoseconds since the bucket was made.
#[derive(Clone, Copy, Debug)]
struct TokioClock {
    start: Instant,
}

impl TokioClock {
    fn starting_now() -> TokioClock {
        TokioClock {
            start: Instant::now(),
        }
    }
}

impl Clock for TokioClock {
    type Instant = Elapsed;

    fn now(&self) -> Elapsed {
        Elapsed(Nanos::from(self.start.elapsed()))
    }
}

/// Time since the bucket's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Elapsed(Nanos);

impl std::ops::Add<Nanos> for Elapsed {
    type Output = Elapsed;

    fn add(self, more: Nanos) -> Elapsed {
        Elapsed(self.0 + more)
    }
}

impl Reference for Elapsed {
    fn duration_since(&self, earlier: Self) -> Nanos {
        Nanos::new(self.0.as_u64().saturating_sub(earlier.0.as_u64()))
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        let left = self.0.as_u64().checked_sub(duration.as_u64());
        Elapsed(left.map_or(self.0, Nanos::new))
    }
}
