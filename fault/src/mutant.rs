//! Ways in which a test breaks the code to see that its checks catch it.

use crate::named;

named! {
    /// A mutation. Each is one `if mutant(..)` in the code it breaks, and one line in
    /// `docs/reliability.md`.
    Mutant {
        /// The journal reports a group durable without syncing it.
        NoSync = "no_sync",
        /// The sink acknowledges what it has appended and not synced.
        AckBeforeSync = "ack_before_sync",
        /// The agent releases what it has sent and the sink has not acknowledged.
        ReleaseBeforeAck = "release_before_ack",
        /// The sink stores again what it has stored.
        NoDedupe = "no_dedupe",
        /// A skip closes its sequences and says that they held nothing.
        SkipWithoutCount = "skip_without_count",
        /// The fold takes its watermark for one less than it is.
        WatermarkOffByOne = "watermark_off_by_one",
        /// No definitions follow a skip.
        DefinitionsLost = "definitions_lost",
        /// The fold begins one record too late after a restart.
        ReplayFromWrongPosition = "replay_from_wrong_position",
        /// A file of a flush is not synced before the catalog names it.
        NoStoreSync = "no_store_sync",
        /// The position moves although a file of the flush could not be written.
        CommitWithoutFile = "commit_without_file",
        /// A torn tail is taken for whole: its records are read without their checksum.
        NoChecksum = "no_checksum",
        /// A sender that lost its connection goes on behind what was in flight.
        ResumeBehindFlight = "resume_behind_flight",
    }
}

/// Whether a mutation is active.
#[cfg(debug_assertions)]
#[inline]
pub fn mutant(mutant: Mutant) -> bool {
    use std::sync::LazyLock;

    static ACTIVE: LazyLock<Option<Mutant>> = LazyLock::new(active);
    *ACTIVE == Some(mutant)
}

/// Whether a mutation is active: never in an optimised build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn mutant(_mutant: Mutant) -> bool {
    false
}

#[cfg(debug_assertions)]
fn active() -> Option<Mutant> {
    let name = std::env::var("WEIR_FAULT_MUTANT").ok()?;
    let Some(mutant) = Mutant::named(&name) else {
        panic!("WEIR_FAULT_MUTANT={name}: no such mutant");
    };
    Some(mutant)
}

#[cfg(test)]
mod tests {
    use super::Mutant;

    #[test]
    fn names_are_distinct_and_found() {
        for mutant in Mutant::ALL {
            assert_eq!(Mutant::named(mutant.name()), Some(*mutant));
        }
    }
}
