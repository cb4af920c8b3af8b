//! What the log says while there is no room: once when that begins, now and then while it lasts, once when it is over.
//!
//! In: every batch that found no room, every segment given up, and a look now and then. Out: lines for an operator, and
//! what `status` says. A spool that drops its oldest is full again and again for moments: that is one event.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Overflow, Spool};

/// Room that lasts so long is room.
const OVER_AFTER: Duration = Duration::from_secs(15);
/// A line while it lasts, this often.
const REMIND_EVERY: Duration = Duration::from_secs(600);

/// What there is no room on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The file system.
    Disk,
    /// `spool.max_bytes`.
    Limit,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pressure(Mutex<Option<Event>>);

#[derive(Clone, Debug)]
struct Event {
    cause: Cause,
    began: Instant,
    /// When a batch last found no room.
    last: Instant,
    said: Instant,
    /// Batches of whole segments given up since it began.
    dropped: u64,
}

/// What to say.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Begun(Cause),
    Lasts(Cause, Duration, u64),
    Over(Duration, u64),
}

impl Pressure {
    /// A batch found no room.
    fn no_room(&self, cause: Cause, now: Instant) -> Option<Line> {
        let mut event = self.event();
        if let Some(event) = &mut *event {
            event.last = now;
            if event.cause == cause {
                return None;
            }
        }
        let before = event.take();
        *event = Some(Event {
            cause,
            began: before.as_ref().map_or(now, |before| before.began),
            last: now,
            said: now,
            dropped: before.map_or(0, |before| before.dropped),
        });
        Some(Line::Begun(cause))
    }

    /// So many batches were given up.
    pub(super) fn dropped(&self, batches: u64) {
        if let Some(event) = &mut *self.event() {
            event.dropped += batches;
        }
    }

    fn look(&self, now: Instant) -> Option<Line> {
        let mut held = self.event();
        let event = held.as_mut()?;
        let lasted = now - event.began;
        if now - event.last >= OVER_AFTER {
            let line = Line::Over(event.last - event.began, event.dropped);
            *held = None;
            return Some(line);
        }
        if now - event.said < REMIND_EVERY {
            return None;
        }
        event.said = now;
        Some(Line::Lasts(event.cause, lasted, event.dropped))
    }

    fn event(&self) -> MutexGuard<'_, Option<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spool {
    /// What there is no room on now, or was a moment ago.
    pub(crate) fn pressure(&self) -> Option<Cause> {
        let event = self.shared.pressure.event();
        event.as_ref().map(|event| event.cause)
    }

    /// A batch found no room.
    pub(super) fn found_no_room(&self) {
        let on_disk = {
            let inner = self.lock();
            inner.live().is_none_or(|live| live.is_held_up())
        };
        let cause = if on_disk { Cause::Disk } else { Cause::Limit };
        let line = self.shared.pressure.no_room(cause, Instant::now());
        self.say(line);
    }

    /// Says that there is still none, or that there is room again.
    pub(super) fn look_at_pressure(&self) {
        let still = {
            let inner = self.lock();
            let live = inner.live();
            !inner.finished && live.is_none_or(|live| live.is_held_up())
        };
        if still {
            return self.found_no_room();
        }
        let line = self.shared.pressure.look(Instant::now());
        self.say(line);
    }

    fn say(&self, line: Option<Line>) {
        let what = |cause| match cause {
            Cause::Disk => "the disk is full",
            Cause::Limit => "the spool is full",
        };
        let policy = match self.shared.config.overflow {
            Overflow::Block => "no readings are taken until there is room",
            Overflow::DropOldest => {
                "its oldest batches are given up, and counted, until there is room"
            }
            Overflow::DropNewest => "new batches are given up, and counted, until there is room",
        };
        let (bytes, max_bytes) = self.size();
        match line {
            None => {}
            Some(Line::Begun(cause)) => {
                tracing::warn!(bytes, max_bytes, "{}: {policy}", what(cause));
            }
            Some(Line::Lasts(cause, lasted, dropped_batches)) => tracing::warn!(
                seconds = lasted.as_secs(),
                dropped_batches,
                bytes,
                max_bytes,
                "{} still: {policy}",
                what(cause)
            ),
            Some(Line::Over(lasted, dropped_batches)) => tracing::info!(
                seconds = lasted.as_secs(),
                dropped_batches,
                "the spool has room again"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mutations: a line for each batch; an end between two segments; no end.
    #[tokio::test(start_paused = true)]
    async fn one_line_begins_it_and_one_ends_it() {
        let pressure = Pressure::default();
        let second = |n| Duration::from_secs(n);
        let begun = Instant::now();
        assert_eq!(pressure.look(begun), None);
        assert_eq!(
            pressure.no_room(Cause::Limit, begun),
            Some(Line::Begun(Cause::Limit))
        );
        for n in 1..=100 {
            assert_eq!(pressure.no_room(Cause::Limit, begun + second(n)), None);
            pressure.dropped(3);
            assert_eq!(pressure.look(begun + second(n)), None);
        }
        assert_eq!(pressure.look(begun + second(110)), None);
        let over = Some(Line::Over(second(100), 300));
        assert_eq!(pressure.look(begun + second(115)), over);
        assert_eq!(pressure.look(begun + second(116)), None);
    }

    /// Mutation: a disk that fills up under a full spool is not said.
    #[tokio::test(start_paused = true)]
    async fn another_cause_is_said_and_a_long_one_again() {
        let pressure = Pressure::default();
        let begun = Instant::now();
        let _ = pressure.no_room(Cause::Limit, begun);
        pressure.dropped(2);
        assert_eq!(
            pressure.no_room(Cause::Disk, begun),
            Some(Line::Begun(Cause::Disk))
        );
        let later = begun + REMIND_EVERY;
        assert_eq!(pressure.no_room(Cause::Disk, later), None);
        let lasts = Line::Lasts(Cause::Disk, REMIND_EVERY, 2);
        assert_eq!(pressure.look(later), Some(lasts));
        assert_eq!(pressure.look(later), None);
    }
}
