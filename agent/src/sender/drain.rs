//! How the backlog drains: how much there is, how fast it falls, when it will be gone.
//!
//! In: the books, looked at every second. Out: a [`Drain`] for the status page and the metrics.
//!
//! | figure | is |
//! |---|---|
//! | readings | committed to the spool and not acknowledged, over all streams |
//! | bytes | what they take on disk: each stream's bytes times the part of its records that waits |
//! | rate | readings by which that fell in the last 30 s, per second; negative while it grows |
//! | seconds | readings / rate; unknown unless it falls, 0 where no more waits than 10 s of production |

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

#[cfg(test)]
mod tests;

/// How far back the rate looks.
const SPAN: Duration = Duration::from_secs(30);
/// What waits no longer than this is on its way, not a backlog.
const ON_ITS_WAY: Duration = Duration::from_secs(10);

/// What waits, and until when.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Drain {
    /// Readings committed and not acknowledged.
    pub readings: u64,
    /// Bytes they take on disk, nearly.
    pub bytes: u64,
    /// Readings per second by which they become fewer.
    pub readings_per_second: f64,
    /// Seconds until none is left; none where they do not become fewer.
    pub seconds: Option<f64>,
}

/// Looks at the books from time to time.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// When, readings produced, readings that waited.
    seen: VecDeque<(Instant, u64, u64)>,
}

impl Watch {
    /// Takes a look in: readings produced so far, readings that wait, and their bytes.
    pub(crate) fn look(
        &mut self,
        now: Instant,
        produced: u64,
        (readings, bytes): (u64, u64),
    ) -> Drain {
        while self.seen.len() > 1 && self.seen[1].0 + SPAN <= now {
            self.seen.pop_front();
        }
        let (then, produced_then, waited) =
            *self.seen.front().unwrap_or(&(now, produced, readings));
        self.seen.push_back((now, produced, readings));
        let elapsed = now.duration_since(then).as_secs_f64();
        if elapsed <= 0.0 {
            return Drain {
                readings,
                bytes,
                ..Drain::default()
            };
        }
        let fell = (waited as f64 - readings as f64) / elapsed;
        let made = produced.saturating_sub(produced_then) as f64 / elapsed;
        let seconds = if readings as f64 <= made * ON_ITS_WAY.as_secs_f64() {
            Some(0.0)
        } else {
            (fell > 0.0).then(|| readings as f64 / fell)
        };
        Drain {
            readings,
            bytes,
            readings_per_second: fell,
            seconds,
        }
    }
}

/// How many bytes per second are acknowledged, of late.
#[derive(Debug)]
pub(crate) struct Meter {
    since: Instant,
    bytes: u64,
    per_second: Option<f64>,
}

impl Meter {
    /// Nothing yet.
    pub(crate) fn new(now: Instant) -> Meter {
        Meter {
            since: now,
            bytes: 0,
            per_second: None,
        }
    }

    /// So many more are acknowledged.
    pub(crate) fn add(&mut self, now: Instant, bytes: u64) {
        const GRAIN: Duration = Duration::from_millis(250);
        self.bytes += bytes;
        let elapsed = now.duration_since(self.since);
        if elapsed < GRAIN {
            return;
        }
        let latest = self.bytes as f64 / elapsed.as_secs_f64();
        let before = self.per_second.unwrap_or(latest);
        self.per_second = Some((before + latest) / 2.0);
        (self.since, self.bytes) = (now, 0);
    }

    /// Bytes acknowledged in a second; 0 as long as nobody knows.
    pub(crate) fn second_of_bytes(&self) -> u64 {
        self.per_second.unwrap_or_default() as u64
    }
}
