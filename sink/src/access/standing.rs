//! How long what was shown stands: a call that lasts months ends seconds after its token was revoked.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use weir_process::clock::Clock;

use super::denied::Denied;
use super::known::{By, Known};

/// No sleep is longer: the wall clock may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Of one credential.
#[derive(Clone)]
pub(super) struct Standing {
    pub(super) by: By,
    pub(super) known: watch::Receiver<Arc<Known>>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Standing {
    /// Waits for its end, and says why.
    pub(super) async fn ended(mut self) -> Denied {
        loop {
            let known = Arc::clone(&self.known.borrow_and_update());
            let now_ns = self.clock.wall_ns();
            let expires = match known.stands(&self.by, now_ns) {
                Ok(expires) => expires,
                Err(denied) => return denied,
            };
            drop(known);
            let left = u64::try_from(expires.saturating_sub(now_ns)).unwrap_or(0);
            let left = Duration::from_nanos(left).min(LONGEST_SLEEP);
            tokio::select! {
                changed = self.known.changed() => if changed.is_err() {
                    // The sink is going, and says so elsewhere.
                    return std::future::pending().await;
                },
                () = tokio::time::sleep(left) => {}
            }
        }
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Standing({:?})", self.by)
    }
}
