//! New series beyond a limit: found where a record defines them, told to agent and operator.

use std::sync::Arc;

use weir_proto::v1;

use super::cardinality::Beyond;
use super::check::definitions;
use super::stream::Effect;
use super::{Ingest, Slot};
use crate::metrics::IngestMetrics;

/// Longest part of a name that is told.
const TOLD_CHARS: usize = 80;

/// A series that is not stored, and why.
pub(super) struct Refused {
    r#ref: u32,
    name: String,
    beyond: Beyond,
}

/// Those of one call.
#[derive(Debug, Default)]
pub(super) struct Unwanted {
    count: u64,
    /// For the next acknowledgement.
    pub(super) notice: Option<String>,
}

impl Ingest {
    /// Looks at what a record newly defines, and marks in `effect` what is beyond a limit.
    pub(super) fn judge(
        &self,
        (tenant, agent): (&str, &str),
        record: &v1::record::Record,
        effect: &mut Effect,
    ) -> Vec<Refused> {
        let mut refused = Vec::new();
        // What is new stands in the order of the record.
        let mut new = effect.defines.iter_mut().peekable();
        for defined in definitions(record) {
            let Some((r#ref, definition)) = new.next_if(|(next, _)| *next == defined.r#ref) else {
                continue;
            };
            let admitted = self.inner.cardinality.admit(tenant, agent, defined);
            if let Err(beyond) = admitted {
                definition.unwanted = true;
                refused.push(Refused {
                    r#ref: *r#ref,
                    name: format!(
                        "{:.TOLD_CHARS$} of {:.TOLD_CHARS$}",
                        defined.metric, defined.device
                    ),
                    beyond,
                });
            }
        }
        refused
    }
}

impl Unwanted {
    /// Books what was refused; answers the refs. Told at the first, and whenever their number has doubled.
    pub(super) fn take(
        &mut self,
        refused: Vec<Refused>,
        slot: &Arc<Slot>,
        metrics: &IngestMetrics,
    ) -> Vec<u32> {
        let Some(first) = refused.first() else {
            return Vec::new();
        };
        let before = self.count;
        self.count += refused.len() as u64;
        metrics.series_refused.inc_by(refused.len() as u64);
        if before == 0 || self.count.ilog2() > before.ilog2() {
            let text = format!(
                "{}: {} more of this call are not stored, among them {}; their readings are dropped, series_limit",
                first.beyond, self.count, first.name
            );
            tracing::warn!(stream = %slot.key, reason = text, "too many series");
            self.notice = Some(text);
        }
        refused.into_iter().map(|one| one.r#ref).collect()
    }
}
