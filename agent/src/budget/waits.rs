//! How long batches and commits wait, so that a day's limits hold. Pure.
//!
//! | a day would take | then |
//! |---|---|
//! | more to the disk than its limit | commits and batches wait twice as long |
//! | more on the wire than its limit | batches wait twice as long |
//! | less than 45 % of each limit | what was lengthened is halved |
//!
//! Fewer and larger groups share blocks, syncs, frames and acknowledgements. Half the wait costs at most twice the bytes,
//! so a step back at 45 % does not call for the next step forth. A step is judged when it has been in force for a minute,
//! and for four rounds of batch and commit. No wait becomes longer than `budget.max_interval`, or shorter than configured.

use std::time::Duration;

use tokio::time::Instant;

use super::{Limits, Rates};

/// A step is in force at least so long before it is judged.
const SHORTEST_TRIAL: Duration = Duration::from_secs(60);
/// And for so many times what a reading waits.
const TRIAL_ROUNDS: u32 = 4;
/// Doubling begins here where less is configured.
const FIRST_STEP: Duration = Duration::from_millis(250);
/// Below this part of a limit there is room for shorter waits.
const ROOMY: f64 = 0.45;

/// How long readings wait before they are safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waits {
    /// For their batch.
    pub(crate) age: Duration,
    /// For their commit.
    pub(crate) commit: Duration,
}

impl Waits {
    /// Readings of so long can be lost when the agent or its machine dies.
    pub(crate) fn loss_bound(self) -> Duration {
        self.age + self.commit
    }
}

/// What follows from a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The waits before and from now on, where they change.
    pub(crate) changed: Option<(Waits, Waits)>,
    /// No longer wait is allowed, and the disk gets more than its limit.
    pub(crate) flash_exceeded: bool,
    /// No longer wait is allowed, and the wire gets more than its limit.
    pub(crate) wire_exceeded: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Governor {
    limits: Limits,
    configured: Waits,
    now: Waits,
    since: Instant,
    flash_exceeded: bool,
    wire_exceeded: bool,
}

impl Governor {
    /// In force are the configured waits.
    pub(crate) fn new(limits: Limits, configured: Waits, now: Instant) -> Self {
        Self {
            limits,
            configured,
            now: configured,
            since: now,
            flash_exceeded: false,
            wire_exceeded: false,
        }
    }

    /// Judges what the waits in force lead to.
    pub(crate) fn judge(&mut self, now: Instant, rates: Rates) -> Verdict {
        let trial = SHORTEST_TRIAL.max(TRIAL_ROUNDS * self.now.loss_bound());
        let (Some(flash), Some(wire)) = (rates.flash, rates.wire) else {
            return self.verdict(None);
        };
        if now.duration_since(self.since) < trial {
            return self.verdict(None);
        }
        let flash_over = over(flash, self.limits.flash);
        let wire_over = over(wire, self.limits.wire);
        let before = self.now;
        if flash_over || wire_over {
            let longest = self.limits.longest(self.configured);
            self.now.age = longer(before.age, longest.age);
            if flash_over {
                self.now.commit = longer(before.commit, longest.commit);
            }
        } else {
            self.shorten(
                roomy(flash, self.limits.flash),
                roomy(wire, self.limits.wire),
            );
        }
        self.flash_exceeded = flash_over && self.now == before;
        self.wire_exceeded = wire_over && self.now.age == before.age;
        if self.now == before {
            return self.verdict(None);
        }
        self.since = now;
        self.verdict(Some((before, self.now)))
    }

    fn shorten(&mut self, flash_roomy: bool, wire_roomy: bool) {
        if flash_roomy {
            self.now.commit = shorter(self.now.commit, self.configured.commit);
        }
        if flash_roomy && wire_roomy {
            self.now.age = shorter(self.now.age, self.configured.age);
        }
    }

    fn verdict(&self, changed: Option<(Waits, Waits)>) -> Verdict {
        Verdict {
            changed,
            flash_exceeded: self.flash_exceeded,
            wire_exceeded: self.wire_exceeded,
        }
    }
}

fn over(per_day: f64, limit: u64) -> bool {
    limit > 0 && per_day > limit as f64
}

fn roomy(per_day: f64, limit: u64) -> bool {
    limit == 0 || per_day < limit as f64 * ROOMY
}

fn longer(wait: Duration, longest: Duration) -> Duration {
    wait.saturating_mul(2).max(FIRST_STEP).min(longest)
}

fn shorter(wait: Duration, configured: Duration) -> Duration {
    let half = wait / 2;
    if half < FIRST_STEP {
        configured
    } else {
        half.max(configured)
    }
}
