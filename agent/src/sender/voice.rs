//! What the log says of a link that fails: loud where an operator must act, quiet where time heals,
//! and never a flood. A sink that restarts is away for a moment, which is no warning; one that stays
//! away is.

use std::time::Duration;

use weir_process::logging::Throttle;

use super::failure::{Failure, Kind};
use crate::dead_letter::KeepError;

/// A line about a link that stays down, at most this often.
const REPEAT_EVERY: Duration = Duration::from_secs(60);

/// A link that has been down for longer deserves a warning.
const QUIET: Duration = Duration::from_secs(15);

/// See the module.
pub(crate) struct Voice {
    throttle: Throttle,
    last: &'static str,
    /// The first failure since the last Welcome, on the monotonic clock.
    since_ns: Option<u64>,
    warned: bool,
}

impl Voice {
    pub(crate) fn new() -> Voice {
        Voice {
            throttle: Throttle::new(REPEAT_EVERY),
            last: "",
            since_ns: None,
            warned: false,
        }
    }

    /// The next failure is news again.
    pub(crate) fn welcomed(&mut self) {
        self.last = "";
        self.since_ns = None;
        self.warned = false;
    }

    /// Says what failed, unless it was just said.
    pub(crate) fn tell(&mut self, sink: &str, failure: &Failure, monotonic_ns: u64) {
        let since_ns = *self.since_ns.get_or_insert(monotonic_ns);
        let down = Duration::from_nanos(monotonic_ns.saturating_sub(since_ns));
        let fresh = self.last != failure.label() || (down >= QUIET && !self.warned);
        self.last = failure.label();
        let permit = self.throttle.permit(monotonic_ns);
        if !fresh && permit.is_none() {
            tracing::debug!(error = %failure, "delivery failed, trying again");
            return;
        }
        match failure {
            // Said once, where it is found out: see `dead_letter/room.rs`.
            Failure::DeadLetter(KeepError::Full(_)) => {
                tracing::debug!(error = %failure, "delivery failed, trying again slowly");
            }
            Failure::NotASink(_) => tracing::error!(
                error = %failure,
                "{sink} does not answer as this agent's weir sink: check WEIR_AGENT_SINK_URL (still trying, readings wait in the spool)"
            ),
            Failure::Forked(_) => {
                tracing::error!(error = %failure, "was the disk restored, or the machine cloned?");
            }
            _ if failure.kind() == Kind::Displaced => tracing::error!(
                sink,
                error = %failure,
                "another agent delivers this stream: is a copy of this machine running? waiting, and keeping what is read"
            ),
            Failure::Foreign(_) => tracing::error!(
                sink,
                error = %failure,
                "the sink does not let this agent deliver this stream: it waits in the spool while others go on, and is asked again \
                 later, at once when the file of the token changes"
            ),
            _ if failure.kind() == Kind::Denied => tracing::error!(
                sink,
                error = %failure,
                "the sink does not let this agent in: trying again slowly, and at once when the file of its \
                 token changes; readings wait in the spool"
            ),
            _ if failure.kind() == Kind::Operator => {
                tracing::error!(sink, error = %failure, "delivery failed, trying again slowly");
            }
            _ if down < QUIET => {
                tracing::info!(sink, error = %failure, "delivery failed, trying again");
            }
            _ => {
                self.warned = true;
                tracing::warn!(
                    sink, error = %failure, seconds = down.as_secs(),
                    "no delivery, still trying: readings wait in the spool"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Red when a sink that restarts is a warning, or when one that stays away is none.
    #[test]
    fn sink_that_stays_away_is_a_warning_and_one_that_restarts_is_none() {
        let mut voice = Voice::new();
        let away = Failure::Unreachable("connection refused".to_owned());
        for second in [1, 5, 14] {
            voice.tell("sink", &away, second * SECOND);
            assert!(!voice.warned, "after {second} s");
        }
        voice.tell("sink", &away, 16 * SECOND);
        assert!(voice.warned);
        voice.welcomed();
        voice.tell("sink", &away, 20 * SECOND);
        assert!(!voice.warned, "another outage has just begun");
    }
}
