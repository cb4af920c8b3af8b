//! A stop that leaves time to drain: the token asks for it, the time after it ends it.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// See the module.
#[derive(Clone)]
pub(crate) struct Stop {
    token: CancellationToken,
    drain: Duration,
    over_at: Option<Instant>,
}

impl Stop {
    pub(crate) fn new(token: CancellationToken, drain: Duration) -> Stop {
        Stop {
            token,
            drain,
            over_at: None,
        }
    }

    /// Returns when the stop was asked for.
    pub(crate) async fn asked(&mut self) {
        self.token.cancelled().await;
        self.begin();
    }

    /// Returns when the time to drain is over too.
    pub(crate) async fn over(&mut self) {
        self.asked().await;
        let over_at = self.begin();
        sleep_until(over_at).await;
    }

    fn begin(&mut self) -> Instant {
        *self
            .over_at
            .get_or_insert_with(|| Instant::now() + self.drain)
    }

    /// Whether it was asked for.
    pub(crate) fn is_draining(&self) -> bool {
        self.over_at.is_some()
    }

    /// Whether the time to drain is over.
    pub(crate) fn is_over(&self) -> bool {
        self.over_at
            .is_some_and(|over_at| Instant::now() >= over_at)
    }
}
