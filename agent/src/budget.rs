//! What the agent uses up: room of its spool, life of its flash memory, bytes of its link; and what it does about it.
//!
//! In: three counts (bytes written to the disk, bytes on the wire, bytes that wait for the sink), looked at every five
//! seconds, and the operator's limits per day. Out: a [`Seen`] for the status page and the metrics; and where a limit would
//! be exceeded, a longer wait of batches and commits.
//!
//! | figure | is |
//! |---|---|
//! | flash | blocks of 4096 bytes written and one per sync: see [`weir_journal::Metered`] |
//! | wire | bytes both ways, without TCP and IP: see `sender/traffic.rs` |
//! | per day | what the last ten minutes at most would make in a day; unknown in the first ten seconds |
//! | spool full | the room left / the growth of what waits in the last minute; 0 when it is full, unknown unless it grows |
//!
//! Promises: nothing is dropped for a budget; no wait becomes longer than `budget.max_interval` for one, nor shorter than
//! configured; every change is one line of the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_process::metrics::Registry;

use crate::buffer::Age;
use crate::sender::Drain;
use crate::sender::traffic::Traffic;
use crate::spool::Spool;

mod metrics;
mod usage;
mod waits;

#[cfg(test)]
mod tests;

use usage::{Rates, Usage, Watch};
pub(crate) use waits::Waits;
use waits::{Governor, Verdict};

/// How often the counts are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What may be used up in a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes written to the disk; 0 for no limit.
    pub(crate) flash: u64,
    /// Bytes on the wire; 0 for no limit.
    pub(crate) wire: u64,
    /// The longest wait of a batch, or of a commit, that a limit may lead to.
    pub(crate) max_interval: Duration,
}

impl Limits {
    /// What the two waits may become.
    pub(crate) fn longest(&self, configured: Waits) -> Waits {
        let age_may_change = self.flash > 0 || self.wire > 0;
        let longest = |wait: Duration, may_change: bool| {
            if may_change {
                wait.max(self.max_interval)
            } else {
                wait
            }
        };
        Waits {
            age: longest(configured.age, age_may_change),
            commit: longest(configured.commit, self.flash > 0),
        }
    }
}

/// One thing that is used up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Use {
    /// Bytes since the start.
    pub(crate) bytes: u64,
    /// Bytes in a day, at the rate of late; None while nobody knows.
    pub(crate) per_day: Option<f64>,
    /// Most bytes in a day; 0 for no limit.
    pub(crate) limit: u64,
    /// Even the longest waits do not keep it within its limit.
    pub(crate) exceeded: bool,
}

/// How things stand.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Seen {
    /// Seconds until the spool is full; None while what waits does not grow.
    pub(crate) spool_full_seconds: Option<f64>,
    /// What goes to the disk.
    pub(crate) flash: Use,
    /// What goes over the wire.
    pub(crate) wire: Use,
    /// How often a wait was changed.
    pub(crate) changes: u64,
}

/// Where the counts come from, and what is adapted.
pub(crate) struct Sources {
    /// Bytes written to the disk.
    pub(crate) written: Arc<AtomicU64>,
    /// Bytes on the wire.
    pub(crate) traffic: Arc<Traffic>,
    /// What waits for the sink.
    pub(crate) drain: watch::Receiver<Drain>,
    /// How full it is, and how long its commits wait.
    pub(crate) spool: Spool,
    /// How long batches wait.
    pub(crate) age: Age,
}

/// Watches over the budgets.
pub(crate) struct Keeper {
    sources: Sources,
    limits: Limits,
    watch: Watch,
    governor: Governor,
    seen: watch::Sender<Seen>,
}

impl Keeper {
    /// The waits as they are now are those configured.
    pub(crate) fn new(sources: Sources, limits: Limits, registry: &Registry) -> Self {
        let now = Instant::now();
        let configured = Waits {
            age: sources.age.get(),
            commit: sources.spool.commit_interval(),
        };
        let mut keeper = Self {
            governor: Governor::new(limits, configured, now),
            watch: Watch::default(),
            seen: watch::Sender::default(),
            sources,
            limits,
        };
        // The files that a start writes are no rate to go by.
        keeper.look(now);
        keeper.register(registry);
        keeper
    }

    /// How things stand, now and on every change.
    pub(crate) fn seen(&self) -> watch::Receiver<Seen> {
        self.seen.subscribe()
    }

    /// Looks until the token is cancelled.
    pub(crate) async fn run(mut self, token: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                () = token.cancelled() => return,
                _ = ticks.tick() => self.look(Instant::now()),
            }
        }
    }

    fn look(&mut self, now: Instant) {
        let drain = *self.sources.drain.borrow();
        let usage = Usage {
            flash: self.sources.written.load(Ordering::Relaxed),
            wire: self.sources.traffic.sent() + self.sources.traffic.received(),
            waiting: drain.bytes,
        };
        let rates = self.watch.look(now, usage);
        let verdict = self.governor.judge(now, rates);
        self.follow(&verdict, rates);
        if verdict.changed.is_some() {
            self.watch.restart(now);
        }
        let room = self.sources.spool.room();
        let before = *self.seen.borrow();
        self.seen.send_replace(Seen {
            spool_full_seconds: until_full(room, rates.growth, &drain),
            flash: Use {
                bytes: usage.flash,
                per_day: rates.flash.or(before.flash.per_day),
                limit: self.limits.flash,
                exceeded: verdict.flash_exceeded,
            },
            wire: Use {
                bytes: usage.wire,
                per_day: rates.wire.or(before.wire.per_day),
                limit: self.limits.wire,
                exceeded: verdict.wire_exceeded,
            },
            changes: before.changes + u64::from(verdict.changed.is_some()),
        });
    }

    /// Puts a verdict into effect, and says so.
    fn follow(&self, verdict: &Verdict, rates: Rates) {
        let (flash, wire) = (whole(rates.flash), whole(rates.wire));
        if let Some((from, to)) = verdict.changed {
            self.sources.age.set(to.age);
            self.sources.spool.set_commit_interval(to.commit);
            let lengthened = to.loss_bound() > from.loss_bound();
            tracing::info!(
                batch_age = ?to.age, batch_age_before = ?from.age,
                commit_interval = ?to.commit, commit_interval_before = ?from.commit,
                flash_bytes_per_day = flash, flash_limit = self.limits.flash,
                wire_bytes_per_day = wire, wire_limit = self.limits.wire,
                "{}",
                if lengthened { "batches and commits wait longer, to keep within a budget" } else { "batches and commits wait less: the budget allows it" }
            );
        }
        let before = *self.seen.borrow();
        let budgets = [
            (
                "flash",
                verdict.flash_exceeded,
                before.flash.exceeded,
                flash,
                self.limits.flash,
            ),
            (
                "wire",
                verdict.wire_exceeded,
                before.wire.exceeded,
                wire,
                self.limits.wire,
            ),
        ];
        for (budget, exceeded, was, bytes_per_day, limit) in budgets {
            if exceeded && !was {
                tracing::warn!(
                    budget,
                    bytes_per_day,
                    limit,
                    "budget is exceeded and no longer wait helps: raise budget.max_interval or the limit, or read less"
                );
            } else if was && !exceeded {
                tracing::info!(budget, bytes_per_day, limit, "within the budget again");
            }
        }
    }
}

/// Seconds until nothing more fits, unless what waits is on its way or becomes less.
fn until_full(room: u64, growth: f64, drain: &Drain) -> Option<f64> {
    if drain.readings == 0 || drain.seconds.is_some() {
        return None;
    }
    match room {
        0 => Some(0.0),
        room => (growth > 0.0).then(|| room as f64 / growth),
    }
}

fn whole(bytes: Option<f64>) -> u64 {
    bytes.unwrap_or_default() as u64
}
