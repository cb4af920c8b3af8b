//! What the log says of a link that fails: loud where an operator must act, quiet where time heals,
//! and never a flood.

use std::time::Duration;

use weir_process::logging::Throttle;

use super::failure::{Failure, Kind};

/// A line about a link that stays down, at most this often.
const REPEAT_EVERY: Duration = Duration::from_secs(60);

/// See the module.
pub(crate) struct Voice {
    throttle: Throttle,
    last: &'static str,
}

impl Voice {
    pub(crate) fn new() -> Voice {
        Voice {
            throttle: Throttle::new(REPEAT_EVERY),
            last: "",
        }
    }

    /// The next failure is news again.
    pub(crate) fn welcomed(&mut self) {
        self.last = "";
    }

    /// Says what failed, unless it was just said.
    pub(crate) fn tell(&mut self, sink: &str, failure: &Failure, monotonic_ns: u64) {
        let fresh = self.last != failure.label();
        self.last = failure.label();
        let permit = self.throttle.permit(monotonic_ns);
        if !fresh && permit.is_none() {
            tracing::debug!(error = %failure, "delivery failed, trying again");
            return;
        }
        match failure {
            Failure::NotASink(_) => tracing::error!(
                error = %failure,
                "{sink} does not answer as a weir sink: check WEIR_AGENT_SINK_URL (nothing is lost, the agent keeps trying)"
            ),
            Failure::Forked(_) => {
                tracing::error!(error = %failure, "was the disk restored, or the machine cloned?");
            }
            _ if failure.kind() == Kind::Operator => {
                tracing::error!(sink, error = %failure, "delivery failed, trying again slowly");
            }
            _ => tracing::warn!(sink, error = %failure, "delivery failed, trying again"),
        }
    }
}
