//! The agent's queue between samplers and batcher: nobody waits for ever, and every reading pushed is taken, held or
//! counted as dropped, however samplers, the batcher and a close interleave.
//!
//! A lost wake-up shows as a deadlock, which loom reports. The control is a taker that looks, and only then leaves word.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use crate::control;
use crate::model::explore;
use crate::queue::{Closed, Overflow, Queue, Weight};

const ONE: Weight = Weight {
    bytes: 1,
    readings: 1,
};

/// Wakes the thread that polls.
struct Signal {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Signal {
    fn wake(self: std::sync::Arc<Self>) {
        *self.woken.lock().expect("no model panics here") = true;
        self.changed.notify_one();
    }
}

/// Polls until it is ready, asleep in between.
fn block_on<F: Future>(future: F) -> F::Output {
    let signal = std::sync::Arc::new(Signal {
        woken: Mutex::new(false),
        changed: Condvar::new(),
    });
    let waker = Waker::from(std::sync::Arc::clone(&signal));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        let mut woken = signal.woken.lock().expect("no model panics here");
        while !*woken {
            woken = signal.changed.wait(woken).expect("no model panics here");
        }
        *woken = false;
    }
}

fn push(queue: &Queue<u64>, item: u64) -> thread::JoinHandle<Result<(), Closed>> {
    let queue = queue.clone();
    thread::spawn(move || block_on(queue.push(item, ONE)))
}

#[test]
fn a_waiting_taker_hears_of_a_push() {
    explore(|| {
        let queue = Queue::new(ONE, Overflow::Block);
        let sampler = push(&queue, 7);
        assert_eq!(block_on(queue.pop()), Some(7));
        assert_eq!(sampler.join().expect("the sampler ends"), Ok(()));
    });
}

#[test]
fn samplers_that_wait_for_room_hear_of_it() {
    explore(|| {
        let queue = Queue::new(ONE, Overflow::Block);
        let samplers = [push(&queue, 1), push(&queue, 2)];
        let taken = [block_on(queue.pop()), block_on(queue.pop())];
        assert!(
            taken.contains(&Some(1)) && taken.contains(&Some(2)),
            "{taken:?}"
        );
        for sampler in samplers {
            assert_eq!(sampler.join().expect("the sampler ends"), Ok(()));
        }
    });
}

#[test]
fn a_close_ends_every_wait_and_loses_nothing_that_was_let_in() {
    explore(|| {
        let queue = Queue::new(ONE, Overflow::Block);
        let samplers = [push(&queue, 1), push(&queue, 2)];
        queue.close();
        let mut taken = Vec::new();
        while let Some(item) = block_on(queue.pop()) {
            taken.push(item);
        }
        let outcomes = samplers.map(|sampler| sampler.join().expect("the sampler ends"));
        let let_in = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(taken.len(), let_in, "{taken:?} of {outcomes:?}");
    });
}

#[test]
fn a_close_ends_the_takers_wait() {
    explore(|| {
        let queue: Queue<u64> = Queue::new(ONE, Overflow::Block);
        let taker = {
            let queue = queue.clone();
            thread::spawn(move || block_on(queue.pop()))
        };
        queue.close();
        assert_eq!(taker.join().expect("the taker ends"), None);
    });
}

#[test]
fn what_is_given_up_is_counted_once() {
    for overflow in [Overflow::DropOldest, Overflow::DropNewest] {
        explore(move || {
            let queue = Queue::new(ONE, overflow);
            let samplers = [push(&queue, 1), push(&queue, 2)];
            let mut taken = u64::from(queue.try_pop().is_some());
            let mut drops = queue.take_drops();
            for sampler in samplers {
                assert_eq!(sampler.join().expect("the sampler ends"), Ok(()));
            }
            queue.close();
            while block_on(queue.pop()).is_some() {
                taken += 1;
            }
            let rest = queue.take_drops();
            drops.oldest += rest.oldest;
            drops.newest += rest.newest;
            assert_eq!(
                taken + drops.oldest + drops.newest,
                2,
                "{overflow:?} {drops:?}"
            );
            let totals = queue.totals();
            assert_eq!((totals.pushed, totals.taken), (2, taken));
        });
    }
}

#[test]
fn a_taker_that_looks_before_it_leaves_word_is_found_out() {
    control::must_fail("overflow_queue::take_hastily", "deadlock");
}

#[test]
#[ignore = "must fail: started by a_taker_that_looks_before_it_leaves_word_is_found_out"]
fn take_hastily() {
    explore(|| {
        let queue = Queue::new(ONE, Overflow::Block);
        let word: Arc<Mutex<Option<Waker>>> = Arc::new(Mutex::new(None));
        let sampler = {
            let (queue, word) = (queue.clone(), Arc::clone(&word));
            thread::spawn(move || {
                block_on(queue.push(7, ONE)).expect("nobody closes it");
                if let Some(waker) = word.lock().expect("no model panics here").take() {
                    waker.wake();
                }
            })
        };
        let taken = block_on(poll_fn(|context| match queue.try_pop() {
            Some(item) => Poll::Ready(item),
            None => {
                *word.lock().expect("no model panics here") = Some(context.waker().clone());
                Poll::Pending
            }
        }));
        assert_eq!(taken, 7);
        sampler.join().expect("the sampler ends");
    });
}
