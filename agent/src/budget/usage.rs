//! How fast things are used up: counts looked at from time to time, and their rates. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How far back a rate per day looks.
const SPAN: Duration = Duration::from_secs(600);
/// How far back the growth of what waits looks.
const GROWTH_SPAN: Duration = Duration::from_secs(60);
/// Nothing is said of a shorter time.
const SHORTEST: Duration = Duration::from_secs(10);
const SECONDS_PER_DAY: f64 = 86_400.0;

/// Counts at one moment, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Written to the disk since the start.
    pub(crate) flash: u64,
    /// Over the wire since the start.
    pub(crate) wire: u64,
    /// On disk and not acknowledged now.
    pub(crate) waiting: u64,
}

/// What the counts make of late.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Rates {
    /// Bytes to the disk in a day; None while nobody knows.
    pub(crate) flash: Option<f64>,
    /// Bytes over the wire in a day; None while nobody knows.
    pub(crate) wire: Option<f64>,
    /// Bytes per second by which what waits grows; 0 while nobody knows, negative where it falls.
    pub(crate) growth: f64,
}

/// Remembers what it saw.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    seen: VecDeque<(Instant, Usage)>,
    /// What was used before is of another time: see [`Watch::restart`].
    since: Option<Instant>,
}

impl Watch {
    /// Takes a look in.
    pub(crate) fn look(&mut self, now: Instant, usage: Usage) -> Rates {
        while self.seen.len() > 1 && self.seen[1].0 + SPAN <= now {
            self.seen.pop_front();
        }
        self.seen.push_back((now, usage));
        let per_day = self.first_since(self.since).and_then(|(then, before)| {
            let seconds = spanned(then, now)?;
            let daily =
                |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds * SECONDS_PER_DAY;
            Some((
                daily(usage.flash, before.flash),
                daily(usage.wire, before.wire),
            ))
        });
        let growth = self
            .first_since(now.checked_sub(GROWTH_SPAN))
            .and_then(|(then, before)| {
                let seconds = spanned(then, now)?;
                Some((usage.waiting as f64 - before.waiting as f64) / seconds)
            });
        Rates {
            flash: per_day.map(|(flash, _)| flash),
            wire: per_day.map(|(_, wire)| wire),
            growth: growth.unwrap_or_default(),
        }
    }

    /// The rates per day look back no further than this moment: from now on things are done otherwise.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// The first look at or after a moment.
    fn first_since(&self, since: Option<Instant>) -> Option<(Instant, Usage)> {
        let mut looks = self.seen.iter();
        looks
            .find(|(then, _)| since.is_none_or(|since| *then >= since))
            .copied()
    }
}

/// The seconds in between, unless they are too few.
fn spanned(then: Instant, now: Instant) -> Option<f64> {
    let between = now.duration_since(then);
    (between >= SHORTEST).then_some(between.as_secs_f64())
}
