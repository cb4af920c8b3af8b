//! Whose turn it is: the request rate, and how the newest stream and the backlog share it.
//!
//! In: what each of the two has to send. Out: "go", the moment to ask again, or "the other first".
//! Promises: one request rate over both together; while both have something to send, the backlog gets
//! its share of the requests (of the bytes, where no rate is set) and the newest stream the rest; one
//! that has nothing to send leaves all of it to the other. Never sleeps itself.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use weir_journal::watch;

use super::rate::Rate;

#[cfg(test)]
mod tests;

/// Which streams a lane delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// All of them, oldest first.
    All,
    /// The one being written.
    Newest,
    /// The others, oldest first, beside the newest.
    Backlog,
}

/// See the module.
pub(crate) struct Pace {
    rate: Rate,
    /// Bytes of a full request; 0 where requests are counted, because their rate is limited.
    request_bytes: f64,
    /// Requests of the backlog for each one of the newest stream, while both have some.
    ratio: f64,
    turns: Mutex<Turns>,
    news: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Turns {
    newest_waits: bool,
    backlog_waits: bool,
    /// The backlog has something, though it may wait for the sink.
    backlog_has: bool,
    /// Full requests the backlog may send before the newest stream goes on.
    credit: f64,
}

/// The answer to one that has something to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Turn {
    /// Send one request.
    Go,
    /// The rate allows one at this moment: ask again.
    At(Instant),
    /// The other one first: ask again when [`Pace::news`] says so.
    Other,
}

impl Pace {
    /// `share`: of the backlog, between 0 and 1. `request_bytes`: of a full request.
    pub(crate) fn new(rate: Rate, share: f64, request_bytes: usize) -> Pace {
        let share = share.clamp(0.001, 0.999);
        Pace {
            request_bytes: if rate.is_limited() {
                0.0
            } else {
                request_bytes.max(1) as f64
            },
            rate,
            ratio: share / (1.0 - share),
            turns: Mutex::default(),
            news: watch::Sender::new(0),
        }
    }

    /// `role` has a request to send.
    pub(crate) fn ask(&self, role: Role) -> Turn {
        let mut turns = self.lock();
        turns.set(role, true);
        turns.backlog_has |= role == Role::Backlog;
        let first = match role {
            Role::All => true,
            Role::Newest => !turns.backlog_waits || turns.credit < 1.0,
            Role::Backlog => !turns.newest_waits || turns.credit >= 1.0,
        };
        if !first {
            return Turn::Other;
        }
        match self.rate.take() {
            Ok(()) => Turn::Go,
            Err(wait) => Turn::At(Instant::now() + wait),
        }
    }

    /// `role` has something to send that must wait for the sink.
    pub(crate) fn wants(&self, role: Role) {
        // A backlog that could not use its turn must not hold the other up.
        let waits = role == Role::Newest;
        self.change(role, waits);
    }

    /// `role` has nothing to send.
    pub(crate) fn rests(&self, role: Role) {
        if role == Role::Backlog {
            self.lock().backlog_has = false;
        }
        self.change(role, false);
    }

    /// `role` has sent a request of so many bytes.
    pub(crate) fn sent(&self, role: Role, bytes: usize) {
        let mut turns = self.lock();
        let requests = if self.request_bytes > 0.0 {
            (bytes as f64 / self.request_bytes).min(1.0)
        } else {
            1.0
        };
        match role {
            Role::Newest if turns.backlog_has => {
                let credit = turns.credit + requests * self.ratio;
                // Not saved up: a share is of what is sent now.
                turns.credit = credit.min(1.0 + self.ratio);
            }
            Role::Backlog if turns.newest_waits => turns.credit -= requests,
            _ => {}
        }
        // The newest stream has more until it says that it rests. Nobody waits for a backlog that may
        // be held up by its own call.
        if role == Role::Backlog {
            turns.backlog_waits = false;
        }
        drop(turns);
        self.news.send_modify(|n| *n += 1);
    }

    /// Rises when an answer of [`Turn::Other`] may have changed.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Whether the request rate is limited.
    pub(crate) fn is_limited(&self) -> bool {
        self.rate.is_limited()
    }

    fn change(&self, role: Role, waits: bool) {
        if self.lock().set(role, waits) {
            self.news.send_modify(|n| *n += 1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turns {
    /// Says whether it changed.
    fn set(&mut self, role: Role, waits: bool) -> bool {
        let flag = match role {
            Role::All => return false,
            Role::Newest => &mut self.newest_waits,
            Role::Backlog => &mut self.backlog_waits,
        };
        std::mem::replace(flag, waits) != waits
    }
}
