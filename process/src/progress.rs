//! Whether something moves that ought to: looked at now and then, it says for how long it has stood still.
//!
//! In: a number that changes whenever the thing moves, and whether anything waits for it. Out: how long
//! it has stood, once that is longer than the limit. Only time between looks that came as they should
//! is counted: a program that was stopped for a minute, or a machine that slept, has not stalled.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::work;

/// How often to look.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A later look counts for no more than this.
const LONGEST_STEP: Duration = Duration::from_secs(2);

/// Ticks every [`LOOK_EVERY`], for whatever looks now and then; the first at once. All such looks of a program fall on
/// the same moments, because waking a processor that sleeps costs more than any of them; but in a simulation, where nothing
/// may come from outside it. Missed ones are left out.
pub fn looks() -> Interval {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let now = Instant::now();
    let first = match work::is_in_place() {
        true => now,
        false => *FIRST.get_or_init(|| now),
    };
    let into = now.saturating_duration_since(first).as_nanos() % LOOK_EVERY.as_nanos();
    let into = Duration::from_nanos(u64::try_from(into).unwrap_or(0));
    // In the past: due at once, and the next one is a whole period after it.
    let begin = now.checked_sub(into).unwrap_or(now);
    let mut ticks = interval_at(begin, LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// One thing that ought to move.
#[derive(Clone, Debug)]
pub struct Progress {
    limit: Duration,
    at: Option<u64>,
    looked: Instant,
    stood: Duration,
}

impl Progress {
    /// It may stand for `limit` while something waits.
    pub fn new(limit: Duration) -> Progress {
        Progress {
            limit,
            at: None,
            looked: Instant::now(),
            stood: Duration::ZERO,
        }
    }

    /// Looks: where it is, and whether anything waits for it. Answers how long it has stood, if too long.
    pub fn look(&mut self, at: u64, waits: bool) -> Option<Duration> {
        if self.at != Some(at) || !waits {
            self.stood = Duration::ZERO;
        } else {
            self.stood += self.looked.elapsed().min(LONGEST_STEP);
        }
        self.at = Some(at);
        self.verdict()
    }

    /// Looks at a time that does not count: it cannot move now, and nobody is to blame. What was counted stays,
    /// unless it has moved since.
    pub fn pause(&mut self, at: u64, waits: bool) -> Option<Duration> {
        if self.at != Some(at) || !waits {
            self.stood = Duration::ZERO;
        }
        self.at = Some(at);
        self.verdict()
    }

    fn verdict(&mut self) -> Option<Duration> {
        self.looked = Instant::now();
        (self.stood > self.limit).then_some(self.stood)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(3);

    /// Mutation: a plain interval for each begins where it is made.
    #[tokio::test(start_paused = true)]
    async fn all_looks_fall_on_the_same_moments() {
        let mut one = looks();
        one.tick().await;
        advance(Duration::from_millis(300)).await;
        let mut other = looks();
        other.tick().await;
        assert_eq!(one.tick().await, other.tick().await);
        assert_eq!(one.tick().await, other.tick().await);

        let _simulated = work::in_place();
        let begun = Instant::now();
        advance(Duration::from_millis(300)).await;
        assert_eq!(looks().tick().await, begun + Duration::from_millis(300));
    }

    /// Red when a thing nobody waits for can stand, and when a move does not begin it anew.
    #[tokio::test(start_paused = true)]
    async fn stands_only_while_something_waits_and_nothing_moves() {
        let mut progress = Progress::new(LIMIT);
        assert_eq!(progress.look(1, true), None);
        for second in 1..=5 {
            advance(LOOK_EVERY).await;
            let stood = Duration::from_secs(second);
            assert_eq!(progress.look(1, true), (stood > LIMIT).then_some(stood));
        }
        assert_eq!(progress.look(2, true), None);
        for _ in 0..5 {
            advance(LOOK_EVERY).await;
            assert_eq!(progress.look(2, false), None);
        }
    }

    /// Red when a step counts whole, and when a pause counts.
    #[tokio::test(start_paused = true)]
    async fn time_without_looks_and_time_that_does_not_count_are_no_stall() {
        let mut progress = Progress::new(LIMIT);
        progress.look(1, true);
        advance(Duration::from_secs(3600)).await;
        assert_eq!(progress.look(1, true), None);
        for _ in 0..10 {
            advance(LOOK_EVERY).await;
            assert_eq!(progress.pause(1, true), None);
        }
        for _ in 0..2 {
            advance(LOOK_EVERY).await;
            progress.look(1, true);
        }
        let stood = progress.pause(1, true);
        assert_eq!(stood, Some(Duration::from_secs(4)));
    }
}
