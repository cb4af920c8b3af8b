//! What is wrong right now: every part of a program is a named stage that says how it fares.
//!
//! A stage starts out as "starting" and is not ready until it says [`Stage::ok`]. A stage that was given a limit must
//! also keep saying so: when it has been silent for longer, it is reported as stalled even though nothing failed.
//! Whatever is wrong says since when.
//! Ready means that every stage is fine; alive means that no stage is beyond recovery ([`Stage::dead`]), so that a
//! restart is asked for only where a restart helps.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use crate::clock::Clock;

/// One stage that is not fine, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// Which stage.
    pub stage: &'static str,
    /// What is wrong with it, in words for the operator.
    pub reason: String,
    /// Since when, in Unix nanoseconds.
    pub since_ns: i64,
    /// For how long, by the monotonic clock.
    pub lasts: Duration,
}

impl fmt::Display for Failing {
    /// The reason, and since when.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.reason)?;
        if let Ok(ns) = u64::try_from(self.since_ns) {
            let since = UNIX_EPOCH + Duration::from_nanos(ns);
            let since = humantime::format_rfc3339_seconds(since);
            write!(formatter, ", since {since}")?;
        }
        write!(formatter, " ({} s)", self.lasts.as_secs())
    }
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
    /// When the state began; of a stage that is fine, its last sign of life.
    since: Since,
    within: Option<Duration>,
}

/// One moment on both clocks.
#[derive(Clone, Copy)]
struct Since {
    wall_ns: i64,
    monotonic_ns: u64,
}

enum State {
    Starting,
    Ok,
    Noted(String),
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
            since: self.inner.since(Duration::ZERO),
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

    /// What somebody should see to although every stage works.
    pub fn notes(&self) -> Vec<Failing> {
        let notes = self.faults(|entry| match &entry.state {
            State::Noted(reason) => Some(reason.clone()),
            _ => None,
        });
        notes.err().unwrap_or_default()
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
        let now_ns = self.inner.clock.monotonic_ns();
        let stages = self.inner.lock();
        let failing = stages.iter().filter_map(|(&stage, entry)| {
            Some(Failing {
                stage,
                reason: fault(entry)?,
                since_ns: entry.since.wall_ns,
                lasts: Duration::from_nanos(now_ns.saturating_sub(entry.since.monotonic_ns)),
            })
        });
        let failing: Vec<Failing> = failing.collect();
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

    /// The moment so long ago.
    fn since(&self, ago: Duration) -> Since {
        let ns = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
        let wall_ns = self.clock.wall_ns();
        Since {
            wall_ns: wall_ns.saturating_sub_unsigned(ns),
            monotonic_ns: self.clock.monotonic_ns().saturating_sub(ns),
        }
    }
}

impl Entry {
    fn not_ready(&self, now_ns: u64) -> Option<String> {
        match &self.state {
            State::Starting => Some("starting".to_owned()),
            State::Failing(reason) | State::Dead(reason) => Some(reason.clone()),
            State::Ok | State::Noted(_) => {
                let within = self.within?;
                let silent = Duration::from_nanos(now_ns.saturating_sub(self.since.monotonic_ns));
                (silent > within).then(|| "no progress".to_owned())
            }
        }
    }
}

impl Stage {
    /// Says that all is well, and that something moved.
    pub fn ok(&self) {
        self.set(State::Ok, Duration::ZERO);
    }

    /// Says that it works, and what somebody should see to; [`Stage::ok`] takes it back.
    pub fn note(&self, reason: impl Into<String>) {
        self.set(State::Noted(reason.into()), Duration::ZERO);
    }

    /// Says what is wrong; [`Stage::ok`] takes it back.
    pub fn failing(&self, reason: impl Into<String>) {
        self.set(State::Failing(reason.into()), Duration::ZERO);
    }

    /// [`Stage::failing`], of something that was noticed only so long after it began.
    pub fn stalled(&self, reason: impl Into<String>, since: Duration) {
        self.set(State::Failing(reason.into()), since);
    }

    /// Says that this cannot get well again without a restart. Nothing takes it back.
    pub fn dead(&self, reason: impl Into<String>) {
        self.set(State::Dead(reason.into()), Duration::ZERO);
    }

    fn set(&self, state: State, ago: Duration) {
        let since = self.inner.since(ago);
        if let Some(entry) = self.inner.lock().get_mut(self.name)
            && !matches!(entry.state, State::Dead(_))
        {
            // Another reason does not make it a new fault.
            if !matches!(
                (&entry.state, &state),
                (State::Failing(_), State::Failing(_)) | (State::Noted(_), State::Noted(_))
            ) {
                entry.since = since;
            }
            entry.state = state;
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
        assert_eq!(reasons(&health), [("fold", "no progress".to_owned())]);
        let failing = &health.ready().unwrap_err()[0];
        assert_eq!(
            failing.to_string(),
            "no progress, since 1970-01-01T00:00:00Z (31 s)"
        );
        fold.ok();
        assert_eq!(health.ready(), Ok(()));
    }

    /// Red when a second reason begins a new fault, or when what was noticed late counts from then.
    #[test]
    fn a_fault_says_since_when_whatever_its_reason_is_by_now() {
        let (clock, health) = health();
        let disk = health.stage("disk", None);
        disk.ok();
        clock.advance(Duration::from_secs(100));
        disk.stalled("nothing moves", Duration::from_secs(10));
        clock.advance(Duration::from_secs(5));
        disk.failing("disk full");
        let failing = &health.ready().unwrap_err()[0];
        assert_eq!(
            failing.to_string(),
            "disk full, since 1970-01-01T00:01:30Z (15 s)"
        );
        disk.ok();
        disk.failing("disk full");
        assert_eq!(health.ready().unwrap_err()[0].lasts, Duration::ZERO);
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
