//! What is wrong right now: every part of a program is a named stage that says how it fares.
//!
//! A stage starts out as "starting" and is not ready until it says [`Stage::ok`]. A stage that was given a limit must
//! also keep saying so: when it has been silent for longer, it is reported as stalled even though nothing failed.
//! Ready means that every stage is fine; alive means that no stage is beyond recovery ([`Stage::dead`]), so that a
//! restart is asked for only where a restart helps.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Clock;

/// One stage that is not fine, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// Which stage.
    pub stage: &'static str,
    /// What is wrong with it, in words for the operator.
    pub reason: String,
}

/// All stages of one program. Cloning gives another handle to the same.
#[derive(Clone)]
pub struct Health {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    stages: Mutex<BTreeMap<&'static str, Entry>>,
}

struct Entry {
    state: State,
    /// Monotonic time of the last sign of life.
    progress_ns: u64,
    within: Option<Duration>,
}

enum State {
    Starting,
    Ok,
    Failing(String),
    Dead(String),
}

/// A part's own handle, by which it says how it fares. Cheap to clone and to call.
#[derive(Clone)]
pub struct Stage {
    name: &'static str,
    inner: Arc<Inner>,
}

impl Health {
    /// No stages yet. `clock` measures how long a stage has been silent.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let stages = Mutex::new(BTreeMap::new());
        Self {
            inner: Arc::new(Inner { clock, stages }),
        }
    }

    /// Adds a stage. With `within`, it counts as stalled when it says nothing for longer than that.
    pub fn stage(&self, name: &'static str, within: Option<Duration>) -> Stage {
        let entry = Entry {
            state: State::Starting,
            progress_ns: self.inner.clock.monotonic_ns(),
            within,
        };
        self.inner.lock().insert(name, entry);
        Stage {
            name,
            inner: Arc::clone(&self.inner),
        }
    }

    /// Whether every stage is fine.
    ///
    /// # Errors
    /// The stages that are not, by name.
    pub fn ready(&self) -> Result<(), Vec<Failing>> {
        let now = self.inner.clock.monotonic_ns();
        self.faults(|entry| entry.not_ready(now))
    }

    /// Whether the program can still recover by itself.
    ///
    /// # Errors
    /// The stages that only a restart can bring back.
    pub fn live(&self) -> Result<(), Vec<Failing>> {
        self.faults(|entry| match &entry.state {
            State::Dead(reason) => Some(reason.clone()),
            _ => None,
        })
    }

    /// The names of all stages, in order.
    pub fn names(&self) -> Vec<&'static str> {
        self.inner.lock().keys().copied().collect()
    }

    fn faults(&self, fault: impl Fn(&Entry) -> Option<String>) -> Result<(), Vec<Failing>> {
        let failing: Vec<Failing> = self
            .inner
            .lock()
            .iter()
            .filter_map(|(&stage, entry)| fault(entry).map(|reason| Failing { stage, reason }))
            .collect();
        if failing.is_empty() {
            Ok(())
        } else {
            Err(failing)
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Entry>> {
        // Every change is one assignment: a panic elsewhere leaves nothing half done.
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn not_ready(&self, now_ns: u64) -> Option<String> {
        match &self.state {
            State::Starting => Some("starting".to_owned()),
            State::Failing(reason) | State::Dead(reason) => Some(reason.clone()),
            State::Ok => {
                let within = self.within?;
                let silent = Duration::from_nanos(now_ns.saturating_sub(self.progress_ns));
                let whole = silent.as_secs();
                (silent > within).then(|| format!("no progress for {whole} s"))
            }
        }
    }
}

impl Stage {
    /// Says that all is well, and that something moved.
    pub fn ok(&self) {
        self.set(State::Ok);
    }

    /// Says what is wrong; [`Stage::ok`] takes it back.
    pub fn failing(&self, reason: impl Into<String>) {
        self.set(State::Failing(reason.into()));
    }

    /// Says that this cannot get well again without a restart. Nothing takes it back.
    pub fn dead(&self, reason: impl Into<String>) {
        self.set(State::Dead(reason.into()));
    }

    fn set(&self, state: State) {
        let now = self.inner.clock.monotonic_ns();
        if let Some(entry) = self.inner.lock().get_mut(self.name)
            && !matches!(entry.state, State::Dead(_))
        {
            entry.state = state;
            entry.progress_ns = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn health() -> (Arc<ManualClock>, Health) {
        let clock = Arc::new(ManualClock::new(0));
        let health = Health::new(Arc::<ManualClock>::clone(&clock));
        (clock, health)
    }

    fn reasons(health: &Health) -> Vec<(&'static str, String)> {
        let failing = health.ready().err().unwrap_or_default();
        failing.into_iter().map(|f| (f.stage, f.reason)).collect()
    }

    #[test]
    fn is_not_ready_until_every_stage_has_spoken() {
        let (_, health) = health();
        let journal = health.stage("journal", None);
        let fold = health.stage("fold", None);
        journal.ok();
        assert_eq!(reasons(&health), [("fold", "starting".to_owned())]);
        fold.ok();
        assert_eq!(health.ready(), Ok(()));
    }

    #[test]
    fn a_failing_stage_gives_its_reason_and_recovers() {
        let (_, health) = health();
        let journal = health.stage("journal", None);
        journal.failing("disk full");
        assert_eq!(reasons(&health), [("journal", "disk full".to_owned())]);
        assert_eq!(health.live(), Ok(()));
        journal.ok();
        assert_eq!(health.ready(), Ok(()));
    }

    #[test]
    fn a_silent_stage_is_stalled_only_where_a_limit_was_set() {
        let (clock, health) = health();
        let fold = health.stage("fold", Some(Duration::from_secs(30)));
        let idle = health.stage("idle", None);
        fold.ok();
        idle.ok();
        clock.advance(Duration::from_secs(30));
        assert_eq!(health.ready(), Ok(()));
        clock.advance(Duration::from_secs(1));
        assert_eq!(
            reasons(&health),
            [("fold", "no progress for 31 s".to_owned())]
        );
        fold.ok();
        assert_eq!(health.ready(), Ok(()));
    }

    #[test]
    fn a_jump_of_the_wall_clock_stalls_nothing() {
        let (clock, health) = health();
        health.stage("fold", Some(Duration::from_secs(1))).ok();
        clock.set_wall(i64::MAX);
        assert_eq!(health.ready(), Ok(()));
    }

    #[test]
    fn a_dead_stage_stays_dead_and_ends_liveness() {
        let (_, health) = health();
        let journal = health.stage("journal", None);
        journal.dead("fsync failed");
        journal.ok();
        let failing = health.live().unwrap_err();
        assert_eq!(failing[0].reason, "fsync failed");
        assert!(health.ready().is_err());
    }
}
