//! When what waits is called a backlog: the stream being written ends, and what comes from now on goes first, in a new one.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::failure::Failure;
use super::lane::Common;
use crate::spool::{Stream, hex};

/// More streams than this in the spool, and no more are begun.
const MAX_STREAMS: usize = 16;
/// A new stream at most once in so many times the age that asks for one.
const RENEWAL_PAUSE: u32 = 10;

/// When a new stream was last begun. Links that come and go must not make hundreds of them: each is a
/// directory, a writer and a line of the ledger.
#[derive(Debug, Default)]
pub(super) struct Renewals {
    last: Option<Instant>,
}

impl Renewals {
    fn are_due(&self, age: Duration, streams: usize) -> bool {
        let pause = age * RENEWAL_PAUSE;
        streams < MAX_STREAMS && self.last.is_none_or(|last| last.elapsed() >= pause)
    }

    /// Begins a new stream where the sink is back and so much waits, for so long, that what comes now
    /// should not wait behind it.
    pub(super) fn renew(&mut self, common: &Common, stream: &Arc<Stream>) -> Result<bool, Failure> {
        let config = &common.config;
        if !stream.is_live() {
            return Ok(false);
        }
        let held = common.spool.held_streams().len();
        if !self.are_due(config.backlog_age, held) {
            return Ok(false);
        }
        // What fits one request is soon gone.
        let waits = common
            .spool
            .waits(stream, config.request_max_bytes as u64)?;
        let Some(waits) = waits.filter(|waits| *waits >= config.backlog_age) else {
            return Ok(false);
        };
        self.last = Some(Instant::now());
        match common.spool.renew(stream) {
            Ok(renewed) => {
                if renewed {
                    common.metrics.renewals.inc();
                    tracing::info!(
                        stream = %hex(&stream.id),
                        waits_seconds = waits.as_secs(),
                        "the sink is back: the newest readings go first, in a new stream, beside the backlog"
                    );
                }
                Ok(renewed)
            }
            Err(error) => {
                tracing::warn!(%error, "cannot begin a new stream: the backlog goes first");
                Ok(false)
            }
        }
    }
}
