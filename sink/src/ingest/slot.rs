//! One stream with who owns it, and what was last heard of it.

use std::sync::{Arc, Mutex, MutexGuard};

use weir_proto::v1;

use super::hold;
use super::lost::Held;
use super::mark::Mark;
use super::owner::Claim;
use super::stream::Stream;
use crate::envelope::{self, ClockSample};
use crate::model::StreamKey;

/// One stream, who began it and who delivers it.
pub(super) struct Slot {
    pub(super) key: StreamKey,
    /// Held by the owner for as long as it may append.
    pub(super) lane: Arc<tokio::sync::Mutex<()>>,
    /// Whose it is, and who wants the lane.
    pub(super) claim: Mutex<Claim>,
    pub(super) stream: Mutex<Stream>,
    pub(super) seen: Mutex<Seen>,
}

/// What was last heard of a stream.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// The agent's name.
    pub agent: String,
    /// The agent's last report, with the most it ever said it produced, and the sink's wall clock when it
    /// came.
    pub report: Option<(v1::Report, i64)>,
    /// The sink's wall clock less the agent's, ns.
    pub clock_offset_ns: i64,
    /// What the next record takes along into the journal.
    pub(crate) sample: Option<ClockSample>,
    /// Since when the sink counts what the agent held of this stream as lost, by the monotonic clock; 0
    /// from before the start.
    pub(crate) lost: Option<u64>,
    /// What the agent's last Hello of this stream said it holds.
    pub(crate) held: Option<Held>,
    /// Since when its agent leaves this stream out, by the monotonic clock.
    pub(crate) unlisted_since: Option<u64>,
    /// When it was connected for the last time, by the monotonic clock.
    pub(crate) connected_at: u64,
}

/// One stream, for the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamView {
    /// Which.
    pub key: StreamKey,
    /// Where it stands, durably.
    pub durable: Mark,
    /// Nothing follows, durably.
    pub closed: bool,
    /// What was last heard of it.
    pub seen: Seen,
}

impl Seen {
    /// The agent reports, at `at_ns` of the sink's wall clock.
    pub(super) fn note(&mut self, report: v1::Report, at_ns: i64) {
        let earlier = self.report.as_ref().map(|(report, _)| report);
        self.report = Some((envelope::following(earlier, report), at_ns));
    }
}

impl Slot {
    pub(super) fn new(key: StreamKey) -> Self {
        Self {
            key,
            lane: Arc::default(),
            claim: Mutex::default(),
            stream: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    pub(super) fn stream(&self) -> MutexGuard<'_, Stream> {
        hold(&self.stream)
    }
}
