//! The hand-over between those who append and the one writer: a queue in bytes, under one lock and one condition.
//!
//! In go frames with room for their header; out come all that wait, in the order of their numbers. Numbers are given under
//! the lock, so the order of numbers is the order of the queue. The same lock keeps the account of bytes on disk and
//! waiting, so that the limit cannot be overrun by two appenders at once. No wake-up is lost: a reason to look sets
//! `signal`, which stays until the writer has taken it. Only std-like primitives from `super::sync` are used, so that
//! the loom models run this very file.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use super::sync::{Condvar, Mutex, MutexGuard};

/// Bounds of the queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Most bytes handed over and not yet settled. One frame may always wait.
    pub(crate) queue_bytes: usize,
    /// Most bytes on disk and waiting; 0 is no limit.
    pub(crate) max_bytes: u64,
}

/// One frame on its way to the disk.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) number: u64,
    pub(crate) kind: u8,
    /// Room for the header, then the body.
    pub(crate) frame: Bytes,
}

/// Why a frame was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Busy,
    DiskFull,
    Poisoned(Arc<str>),
    Closed,
}

/// What the writer is asked to do beside writing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    /// Something waits.
    pub(crate) waiting: bool,
    /// Commit what waits without delay.
    pub(crate) flush: bool,
    /// Commit what waits, then end.
    pub(crate) closed: bool,
    /// An append was refused for the limit, and nothing was given back for it since.
    pub(crate) starved: bool,
    /// Space was given back: a full disk is worth another try.
    pub(crate) retry: bool,
}

struct State {
    queue: VecDeque<Waiting>,
    unsettled: usize,
    next: u64,
    used: u64,
    disk_full: bool,
    poisoned: Option<Arc<str>>,
    orders: Orders,
    signal: bool,
    /// The writer's, where a task drives it.
    waker: Option<Waker>,
}

/// See the module.
pub(crate) struct Handover {
    limits: Limits,
    state: Mutex<State>,
    work: Condvar,
}

impl Handover {
    /// An empty queue whose first frame will be `next`, beside `used` bytes that are on disk already.
    pub(crate) fn new(limits: Limits, next: u64, used: u64) -> Handover {
        Handover {
            limits,
            state: Mutex::new(State {
                queue: VecDeque::new(),
                unsettled: 0,
                next,
                used,
                disk_full: false,
                poisoned: None,
                orders: Orders::default(),
                signal: false,
                waker: None,
            }),
            work: Condvar::new(),
        }
    }

    /// Queues a frame and gives it its number. It may go `beyond` the limit of bytes on disk by that much.
    pub(crate) fn push(
        &self,
        kind: u8,
        frame: impl Into<Bytes>,
        beyond: u64,
    ) -> Result<u64, Refused> {
        let frame = frame.into();
        self.push_all(kind, frame.len(), [frame], beyond)
    }

    /// Queues frames of so many `bytes` together, all or none, and gives them numbers in a row; answers the first.
    pub(crate) fn push_all(
        &self,
        kind: u8,
        bytes: usize,
        frames: impl IntoIterator<Item = Bytes>,
        beyond: u64,
    ) -> Result<u64, Refused> {
        let mut state = self.lock();
        if let Some(reason) = &state.poisoned {
            return Err(Refused::Poisoned(Arc::clone(reason)));
        }
        if state.orders.closed {
            return Err(Refused::Closed);
        }
        let max_bytes = self.limits.max_bytes;
        if max_bytes > 0 && state.used + bytes as u64 > max_bytes.saturating_add(beyond) {
            state.orders.starved = true;
            self.signal(&mut state);
            return Err(Refused::Full);
        }
        if state.unsettled > 0 && state.unsettled + bytes > self.limits.queue_bytes {
            if state.orders.waiting {
                state.orders.flush = true;
                self.signal(&mut state);
            }
            return Err(if state.disk_full {
                Refused::DiskFull
            } else {
                Refused::Busy
            });
        }
        let number = state.next;
        state.used += bytes as u64;
        state.unsettled += bytes;
        let first = state.queue.is_empty();
        for frame in frames {
            let number = state.next;
            state.next += 1;
            state.queue.push_back(Waiting {
                number,
                kind,
                frame,
            });
        }
        state.orders.waiting = true;
        let pressing = !state.orders.flush && state.unsettled >= self.limits.queue_bytes / 2;
        state.orders.flush |= pressing;
        if first || pressing {
            self.signal(&mut state);
        }
        Ok(number)
    }

    /// What there is to do. A retry is asked for once.
    pub(crate) fn orders(&self) -> Orders {
        let mut state = self.lock();
        let orders = state.orders;
        state.orders.retry = false;
        orders
    }

    /// Space was made for those who were refused.
    pub(crate) fn fed(&self) {
        self.lock().orders.starved = false;
    }

    /// Moves all that wait behind what `into` has. They count as unsettled until [`Handover::settle`].
    pub(crate) fn take(&self, into: &mut VecDeque<Waiting>) {
        let mut state = self.lock();
        into.append(&mut state.queue);
        state.orders.waiting = false;
        state.orders.flush = false;
    }

    /// So many bytes that were taken are on disk now.
    pub(crate) fn settle(&self, bytes: usize) {
        let mut state = self.lock();
        state.unsettled -= bytes;
        state.disk_full = false;
    }

    /// Adds bytes on disk that no frame of the queue accounts for.
    pub(crate) fn charge(&self, bytes: u64) {
        self.lock().used += bytes;
    }

    /// Bytes on disk were given back.
    pub(crate) fn credit(&self, bytes: u64) {
        let mut state = self.lock();
        state.used = state.used.saturating_sub(bytes);
        state.orders.retry = true;
        if state.disk_full {
            self.signal(&mut state);
        }
    }

    /// The disk has no room; cleared by [`Handover::settle`].
    pub(crate) fn disk_full(&self) {
        self.lock().disk_full = true;
    }

    /// Commit without waiting for the interval.
    pub(crate) fn flush(&self) {
        let mut state = self.lock();
        if state.orders.waiting {
            state.orders.flush = true;
            self.signal(&mut state);
        }
    }

    /// Lets the writer look again.
    pub(crate) fn wake(&self) {
        let mut state = self.lock();
        self.signal(&mut state);
    }

    /// Takes nothing more; what waits is still written.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.orders.closed = true;
        self.signal(&mut state);
    }

    /// Takes nothing more and forgets what waits.
    pub(crate) fn poison(&self, reason: Arc<str>) {
        let mut state = self.lock();
        state.poisoned.get_or_insert(reason);
        state.queue.clear();
        state.orders.waiting = false;
        self.signal(&mut state);
    }

    /// Number of the next frame.
    pub(crate) fn next(&self) -> u64 {
        self.lock().next
    }

    /// Bytes on disk and waiting.
    pub(crate) fn used(&self) -> u64 {
        self.lock().used
    }

    /// Waits until there is a reason to look, or for `timeout`. A reason that came before the call counts.
    pub(crate) fn park(&self, timeout: Option<Duration>) {
        let mut state = self.lock();
        while !state.signal {
            state = match timeout {
                None => self
                    .work
                    .wait(state)
                    .unwrap_or_else(|held| held.into_inner()),
                Some(timeout) => {
                    let (state, waited) = self
                        .work
                        .wait_timeout(state, timeout)
                        .unwrap_or_else(|held| held.into_inner());
                    if waited.timed_out() {
                        return;
                    }
                    state
                }
            };
        }
        state.signal = false;
    }

    /// What [`Handover::park`] is to a thread: ready when there is a reason to look, which it takes.
    pub(crate) fn poll_signal(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if std::mem::take(&mut state.signal) {
            return Poll::Ready(());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn signal(&self, state: &mut State) {
        state.signal = true;
        self.work.notify_one();
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(|held| held.into_inner())
    }
}
