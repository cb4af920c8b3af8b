//! Whether every stage moves: looked at once a second, said to the program's health.
//!
//! In: how far journal, fold and store have come, and whether anything waits for them. Out: a stage that
//! stands is not ready, and says so with the moment it stopped.
//!
//! | stage | stands when | for longer than |
//! |---|---|---|
//! | `commit` | records wait for the journal's disk and none becomes durable | 10 s |
//! | `folding` | durable records wait for the fold and it does not come forward | 30 s |
//! | `storing` | folded rows wait for a file and no flush is committed | `store.flush_interval` and a minute |
//!
//! What failed, and not merely stands, the stages `journal` and `fold` say themselves, at once.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use weir_journal::Journal;
use weir_process::health::{Health, Stage};
use weir_process::progress::{LOOK_EVERY, Progress};

use crate::fold::FoldHandle;

/// For a sync of the journal.
const COMMIT: Duration = Duration::from_secs(10);
/// For the next helping of records, while a full buffer may wait for the store.
const FOLD: Duration = Duration::from_secs(30);
/// For a flush that was due.
const FLUSH: Duration = Duration::from_secs(60);

/// How far everything has come, and how much waits behind it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// The last durable record, and records behind it.
    pub(crate) commit: (u64, u64),
    /// The last folded record, and durable ones behind it.
    pub(crate) folding: (u64, u64),
    /// Flushes, and rows that are in no file.
    pub(crate) storing: (u64, u64),
}

/// The stages, and what was seen of them before.
pub(crate) struct Pulse {
    commit: (Stage, Progress),
    folding: (Stage, Progress),
    storing: (Stage, Progress),
}

impl Pulse {
    /// Adds the stages. A flush is due after `flush_interval`.
    pub(crate) fn new(health: &Health, flush_interval: Duration) -> Pulse {
        let stage = |name, limit| (health.stage(name, None), Progress::new(limit));
        Pulse {
            commit: stage("commit", COMMIT),
            folding: stage("folding", FOLD),
            storing: stage("storing", flush_interval + FLUSH),
        }
    }

    /// Looks every second, until the token.
    pub(crate) async fn watch(
        mut self,
        journal: Journal,
        fold: FoldHandle,
        token: CancellationToken,
    ) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                () = token.cancelled() => return,
                _ = ticks.tick() => self.look(&Seen::of(&journal, &fold)),
            }
        }
    }

    /// Takes in what was seen now.
    pub(crate) fn look(&mut self, seen: &Seen) {
        let (durable, waiting) = seen.commit;
        say(&mut self.commit, durable, waiting, || {
            format!("{waiting} records wait for the disk and none is committed")
        });
        let (folded, behind) = seen.folding;
        say(&mut self.folding, folded, behind, || {
            format!("the fold is {behind} records behind and does not move")
        });
        let (flushes, rows) = seen.storing;
        say(&mut self.storing, flushes, rows, || {
            format!("{rows} rows wait and no file is committed")
        });
    }
}

impl Seen {
    fn of(journal: &Journal, fold: &FoldHandle) -> Seen {
        // The number that comes next is read last: it may only be further than what is durable.
        let (folded, flushes) = (fold.position(), fold.flushes().flushes);
        let durable = journal.progress().borrow().durable_through;
        let last = journal.next().saturating_sub(1);
        Seen {
            commit: (durable, last.saturating_sub(durable)),
            folding: (folded, durable.saturating_sub(folded)),
            storing: (flushes, fold.buffered().0 as u64),
        }
    }
}

fn say(
    (stage, progress): &mut (Stage, Progress),
    at: u64,
    waits: u64,
    reason: impl Fn() -> String,
) {
    match progress.look(at, waits > 0) {
        Some(stood) => stage.stalled(reason(), stood),
        None => stage.ok(),
    }
}

#[cfg(test)]
mod tests;
