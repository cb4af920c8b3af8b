//! Drops that are decided and not confirmed: the sink has not acknowledged the Skip that names them.
//!
//! They are part of what is spooled until then, and an operator wants to know at once. In: what was
//! appended as a Skip, what the survey of an earlier run's records found, and how far making room went.
//! Out: readings by reason. Refused batches are not here: their Skip follows the refusal at once.

use std::collections::BTreeMap;

use weir_proto::v1;

use super::state::State;
use crate::ledger::{reason_name, slot};

/// Readings by reason.
pub(crate) type Dropping = BTreeMap<String, u64>;

/// Readings that one Skip will name, or that are missing between two records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    /// The last sequence they stand for.
    pub(crate) through: u64,
    /// A [`v1::DropReason`].
    pub(crate) reason: i32,
    /// How many.
    pub(crate) readings: u64,
}

/// Forgets what was acknowledged and adds the rest up. `end` is the stream's readings so far.
pub(super) fn sum(pending: &mut Vec<Pending>, state: &State, given_up: bool, end: u64) -> Dropping {
    let mut dropping = Dropping::new();
    let account = &state.account;
    if given_up {
        let left = end.saturating_sub(account.readings_through);
        add(&mut dropping, v1::DropReason::SpoolOldest.into(), left);
        return dropping;
    }
    pending.retain(|one| one.through > account.acked_through);
    if state.dropped_through > account.acked_through {
        let made_room = state
            .dropped_readings
            .saturating_sub(account.readings_through);
        add(&mut dropping, v1::DropReason::SpoolOldest.into(), made_room);
    }
    for one in pending
        .iter()
        .filter(|one| one.through > state.dropped_through)
    {
        add(&mut dropping, one.reason, one.readings);
    }
    dropping
}

/// Adds to a reason; nothing where it is nothing.
pub(crate) fn add(dropping: &mut Dropping, reason: i32, readings: u64) {
    if readings > 0 {
        let reason = v1::DropReason::try_from(reason).unwrap_or_default();
        *dropping
            .entry(reason_name(slot(reason)).to_owned())
            .or_default() += readings;
    }
}
