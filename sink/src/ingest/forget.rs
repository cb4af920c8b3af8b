//! What ingest lets go of, so that its memory follows the streams that are in use and not all there ever were.
//!
//! | stream | what stays |
//! |---|---|
//! | connected, or was within [`KEPT`] | everything |
//! | silent for longer, or lost | its counts; what it has defined is in the catalog, and is read back with its Hello |
//! | closed | its counts; the list of its Hello while that one is the agent's last |

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::check::table_of;
use super::dictionary::Dictionary;
use super::lost::Lists;
use super::{Fault, Ingest, Slot, hold};
use crate::catalog::CatalogError;
use crate::refs::KEPT;

impl Ingest {
    /// Forgets what streams that are not in use have defined, as far as the catalog has it. Answers of how many.
    pub(super) async fn forget_unused(&self) -> Result<usize, CatalogError> {
        let Some(catalog) = self.inner.catalog.get() else {
            return Ok(0);
        };
        let now_ns = self.inner.clock.monotonic_ns();
        let unused: Vec<Arc<Slot>> = {
            let streams = hold(&self.inner.streams);
            let unused = streams.values().filter(|slot| slot.is_unused(now_ns));
            unused.cloned().collect()
        };
        if unused.is_empty() {
            return Ok(0);
        }
        let position = catalog.position().await?;
        let position = position.filter(|found| found.journal_id == self.inner.journal.id());
        let position = position.map_or(0, |found| found.number);
        let durable_through = self.inner.journal.progress().borrow().durable_through;
        let mut forgotten = 0;
        for slot in unused {
            // Whoever holds the lane is connected.
            let Ok(_lane) = slot.lane.try_lock() else {
                continue;
            };
            let mut stream = slot.stream();
            stream.settle(durable_through);
            if stream.is_defined_by(position) {
                *stream.dictionary() = Dictionary::forgotten();
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }

    /// Reads back what a stream that was forgotten has defined. For whoever holds its lane.
    pub(super) async fn remember(&self, slot: &Slot) -> Result<(), Fault> {
        let is_forgotten = slot.stream().dictionary().is_forgotten();
        let Some(catalog) = self.inner.catalog.get().filter(|_| is_forgotten) else {
            return Ok(());
        };
        let defined = catalog.series_of(&slot.key).await;
        let defined = defined.map_err(|error| {
            Fault::Overloaded(format!(
                "what this stream has defined cannot be read: {error}"
            ))
        })?;
        slot.stream().dictionary().load(table_of(&defined));
        Ok(())
    }
}

impl Slot {
    /// Has definitions and is not likely to need them soon.
    fn is_unused(&self, now_ns: u64) -> bool {
        let is_silent = {
            let seen = hold(&self.seen);
            let silent_ns = now_ns.saturating_sub(seen.connected_at);
            seen.lost.is_some() || Duration::from_nanos(silent_ns) > KEPT
        };
        is_silent && self.stream().dictionary().len() > 0
    }
}

/// A closed stream needs the list of its Hello only where it is the last one of an agent that has open streams.
pub(super) fn forget_lists(slots: &[Arc<Slot>], lists: &Lists) {
    let whose = |slot: &Slot| {
        let agent = hold(&slot.seen).agent.clone();
        (Arc::clone(&slot.key.tenant), agent)
    };
    let (closed, open): (Vec<&Arc<Slot>>, Vec<_>) =
        slots.iter().partition(|slot| slot.stream().is_closed());
    let in_use: HashSet<_> = open.into_iter().map(|slot| whose(slot)).collect();
    for slot in closed {
        let whose = whose(slot);
        let last = lists.get(&whose).filter(|_| in_use.contains(&whose));
        let mut seen = hold(&slot.seen);
        if seen.held.is_some() && last.is_none_or(|last| !last.ends_with(&seen)) {
            seen.held = None;
        }
    }
}

#[cfg(test)]
mod tests;
