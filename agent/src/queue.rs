//! The queue between the samplers and the batcher.
//!
//! In: parcels of readings from any number of samplers, each with its weight. Out: the same parcels in the order they
//! came, to one taker. Bounded in bytes and in readings; what happens when it is full is the operator's choice:
//!
//! | overflow      | a push that does not fit                                              |
//! |---------------|-----------------------------------------------------------------------|
//! | `Block`       | waits; the sampler misses ticks meanwhile and counts them             |
//! | `DropOldest`  | makes room by giving up parcels from the front, counted               |
//! | `DropNewest`  | is given up itself, counted                                           |
//!
//! Promises: at every moment, readings pushed = readings taken + readings held + readings dropped by reason. A parcel that is
//! heavier than the whole queue is let in when the queue is empty, so that it cannot wedge. A wake-up is never lost: every
//! change that a waiter waits for is made under the lock and wakes it after.
//!
//! Built from std alone (a mutex and wakers), because a channel of tokio can only refuse the newest, and because the race
//! tests run this file under a model checker.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use crate::sync::{Arc, Mutex, MutexGuard};

/// What happens to readings when the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// Whoever pushes waits for room.
    Block,
    /// The oldest readings are given up.
    DropOldest,
    /// The newest readings are given up.
    DropNewest,
}

/// What a parcel takes of the queue's bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    /// Bytes held in memory, about.
    pub(crate) bytes: usize,
    /// Readings, exactly.
    pub(crate) readings: u64,
}

/// Readings given up since somebody last asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Drops {
    /// From the front, to make room.
    pub(crate) oldest: u64,
    /// At the door.
    pub(crate) newest: u64,
}

/// Totals since the queue was made; `pushed == taken + dropped_oldest + dropped_newest + held.readings`, always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Readings of every push that ended well, dropped or not.
    pub(crate) pushed: u64,
    /// Readings handed to the taker.
    pub(crate) taken: u64,
    /// Readings given up from the front.
    pub(crate) dropped_oldest: u64,
    /// Readings given up at the door.
    pub(crate) dropped_newest: u64,
    /// What the queue holds now.
    pub(crate) held: Weight,
}

/// The queue was closed: nothing is accepted any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

/// A handle; clones share one queue.
pub(crate) struct Queue<T> {
    shared: Arc<Mutex<State<T>>>,
}

struct State<T> {
    items: VecDeque<(T, Weight)>,
    totals: Totals,
    reported: Drops,
    limit: Weight,
    overflow: Overflow,
    closed: bool,
    taker: Option<Waker>,
    givers: Vec<Waker>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T> Queue<T> {
    /// An empty queue that holds at most `limit`.
    pub(crate) fn new(limit: Weight, overflow: Overflow) -> Self {
        let state = State {
            items: VecDeque::new(),
            totals: Totals::default(),
            reported: Drops::default(),
            limit,
            overflow,
            closed: false,
            taker: None,
            givers: Vec::new(),
        };
        Self {
            shared: Arc::new(Mutex::new(state)),
        }
    }

    /// Puts `item` in, or does with it what the overflow policy says. Waits only under `Block`, and may be dropped while it waits.
    pub(crate) async fn push(&self, item: T, weight: Weight) -> Result<(), Closed> {
        let mut item = Some(item);
        poll_fn(|context| self.poll_push(context, &mut item, weight)).await
    }

    /// The oldest item; waits for one. None once the queue is closed and empty.
    pub(crate) async fn pop(&self) -> Option<T> {
        poll_fn(|context| self.poll_pop(context)).await
    }

    /// The oldest item, if there is one now.
    pub(crate) fn try_pop(&self) -> Option<T> {
        let mut state = self.lock();
        let item = state.take_front();
        let givers = std::mem::take(&mut state.givers);
        drop(state);
        wake_all(givers);
        item
    }

    /// Readings given up since the last call, for the ledger.
    pub(crate) fn take_drops(&self) -> Drops {
        let mut state = self.lock();
        let totals = state.totals;
        let drops = Drops {
            oldest: totals.dropped_oldest - state.reported.oldest,
            newest: totals.dropped_newest - state.reported.newest,
        };
        state.reported = Drops {
            oldest: totals.dropped_oldest,
            newest: totals.dropped_newest,
        };
        drops
    }

    /// What went through so far.
    pub(crate) fn totals(&self) -> Totals {
        self.lock().totals
    }

    /// Refuses every later push, waiting ones included; what is held can still be taken.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let taker = state.taker.take();
        let givers = std::mem::take(&mut state.givers);
        drop(state);
        wake_all(givers);
        wake_all(taker);
    }

    fn poll_push(
        &self,
        context: &mut Context<'_>,
        item: &mut Option<T>,
        weight: Weight,
    ) -> Poll<Result<(), Closed>> {
        let mut state = self.lock();
        if state.closed {
            return Poll::Ready(Err(Closed));
        }
        if !state.fits(weight) {
            match state.overflow {
                Overflow::Block => {
                    register(&mut state.givers, context.waker());
                    return Poll::Pending;
                }
                Overflow::DropOldest => state.make_room(weight),
                Overflow::DropNewest => {
                    state.totals.pushed += weight.readings;
                    state.totals.dropped_newest += weight.readings;
                    return Poll::Ready(Ok(()));
                }
            }
        }
        let item = item
            .take()
            .expect("a push that is ready is not polled again");
        state.put_back(item, weight);
        let taker = state.taker.take();
        drop(state);
        wake_all(taker);
        Poll::Ready(Ok(()))
    }

    fn poll_pop(&self, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = self.lock();
        if let Some(item) = state.take_front() {
            let givers = std::mem::take(&mut state.givers);
            drop(state);
            wake_all(givers);
            return Poll::Ready(Some(item));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.taker = Some(context.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.shared
            .lock()
            .expect("nothing panics while it holds the queue")
    }
}

impl<T> State<T> {
    fn fits(&self, weight: Weight) -> bool {
        let held = self.totals.held;
        self.items.is_empty()
            || (held.bytes.saturating_add(weight.bytes) <= self.limit.bytes
                && held.readings.saturating_add(weight.readings) <= self.limit.readings)
    }

    fn make_room(&mut self, weight: Weight) {
        while !self.fits(weight) {
            let (_, given_up) = self
                .items
                .pop_front()
                .expect("an empty queue fits anything");
            self.release(given_up);
            self.totals.dropped_oldest += given_up.readings;
        }
    }

    fn put_back(&mut self, item: T, weight: Weight) {
        self.totals.pushed += weight.readings;
        self.totals.held.bytes += weight.bytes;
        self.totals.held.readings += weight.readings;
        self.items.push_back((item, weight));
    }

    fn take_front(&mut self) -> Option<T> {
        let (item, weight) = self.items.pop_front()?;
        self.release(weight);
        self.totals.taken += weight.readings;
        Some(item)
    }

    fn release(&mut self, weight: Weight) {
        self.totals.held.bytes -= weight.bytes;
        self.totals.held.readings -= weight.readings;
    }
}

fn register(wakers: &mut Vec<Waker>, waker: &Waker) {
    if !wakers.iter().any(|known| known.will_wake(waker)) {
        wakers.push(waker.clone());
    }
}

fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        waker.wake();
    }
}
