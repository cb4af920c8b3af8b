//! The sending half of a call: the next request, and what it waits for.
//!
//! In: composed requests. Out: each handed over once, in order; the Close last, which half-closes the
//! call.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use weir_fault::{Point, point};
use weir_proto::v1;

/// Between two notices.
const NOTICE_PAUSE: Duration = Duration::from_secs(10);
const MAX_NOTICE_CHARS: usize = 400;

/// The sending half of the call.
pub(crate) struct Wire {
    /// None once the Close is out: dropping it half-closes the call.
    pub(crate) requests: Option<mpsc::Sender<v1::DeliverRequest>>,
    /// The next request, composed and not handed over.
    pub(crate) ready: Option<v1::DeliverRequest>,
    /// Since when the rate holds the next request back.
    pub(crate) throttled: Option<Instant>,
    /// The other lane goes first.
    pub(crate) yields: bool,
    /// A token that was taken and not spent.
    pub(crate) token: bool,
    /// When the sink last moved, or began to owe an answer.
    pub(crate) heard: Instant,
    /// When it last had something to say to people.
    noticed: Option<Instant>,
}

impl Wire {
    /// Of a call that has just been welcomed.
    pub(crate) fn new(requests: mpsc::Sender<v1::DeliverRequest>) -> Wire {
        Wire {
            requests: Some(requests),
            ready: None,
            throttled: None,
            yields: false,
            token: false,
            heard: Instant::now(),
            noticed: None,
        }
    }

    /// What the sink has to say to people, as often and as long as a log bears it.
    pub(crate) fn notice(&mut self, text: &str) {
        let again = self.noticed.is_some_and(|at| at.elapsed() < NOTICE_PAUSE);
        if !text.is_empty() && !again {
            self.noticed = Some(Instant::now());
            let text: String = text.chars().take(MAX_NOTICE_CHARS).collect();
            tracing::warn!(text, "the sink has something to say");
        }
    }

    /// Hands the request over as soon as there is room. Dropping the future before that leaves the
    /// request where it is.
    pub(crate) async fn send(&mut self) {
        let closing = self.is_closing();
        let Some(requests) = &self.requests else {
            return std::future::pending().await;
        };
        let Ok(permit) = requests.reserve().await else {
            // The call has ended: its status, which is on its way, says why.
            return std::future::pending().await;
        };
        match self.ready.take() {
            Some(request) => {
                point(Point::AgentSend);
                permit.send(request);
                point(Point::AgentSent);
            }
            None => drop(permit),
        }
        if closing {
            self.requests = None;
        }
    }

    /// Whether the Close is out, or about to be.
    pub(crate) fn is_closing(&self) -> bool {
        self.requests.is_none() || self.ready.as_ref().is_some_and(is_close)
    }
}

pub(crate) fn close(last_sequence: u64) -> v1::Record {
    v1::Record {
        record: Some(v1::record::Record::Close(v1::Close { last_sequence })),
    }
}

fn is_close(request: &v1::DeliverRequest) -> bool {
    matches!(
        request.records.first(),
        Some(v1::Record {
            record: Some(v1::record::Record::Close(_))
        })
    )
}
