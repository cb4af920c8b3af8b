//! The group commit's hand-over: every record reaches the writer once, in the order of its number, and whoever waits is
//! answered, however appenders, a flush, a close and the parked writer interleave.
//!
//! A lost wake-up shows as a deadlock, which loom reports.

use std::collections::VecDeque;

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use crate::handover::{Handover, Limits, Refused};
use crate::model::explore;

const FRAME: usize = 10;

/// The queue, and what the writer has made of it; stands for the journal's progress.
struct Desk {
    handover: Handover,
    written: Mutex<Vec<u64>>,
    changed: Condvar,
}

impl Desk {
    fn new(queue_bytes: usize) -> Arc<Desk> {
        let limits = Limits {
            queue_bytes,
            max_bytes: 0,
        };
        Arc::new(Desk {
            handover: Handover::new(limits, 1, 0),
            written: Mutex::new(Vec::new()),
            changed: Condvar::new(),
        })
    }

    fn write(desk: &Arc<Desk>) -> thread::JoinHandle<()> {
        let desk = Arc::clone(desk);
        thread::spawn(move || desk.run_writer())
    }

    /// The committer's loop without its disk.
    fn run_writer(&self) {
        loop {
            let orders = self.handover.orders();
            if orders.waiting {
                let mut taken = VecDeque::new();
                self.handover.take(&mut taken);
                let mut written = self.written.lock().expect("no model panics here");
                written.extend(taken.iter().map(|waiting| waiting.number));
                self.handover.settle(taken.len() * FRAME);
                self.changed.notify_all();
            } else if orders.closed {
                return;
            } else {
                self.handover.park(None);
            }
        }
    }

    /// Appends one record, waiting while the queue is busy, and waits until it is written.
    fn append_and_wait(&self) -> u64 {
        let mut written = self.written.lock().expect("no model panics here");
        let number = loop {
            match self.handover.push(1, vec![0; FRAME], 0) {
                Ok(number) => break number,
                Err(Refused::Busy) => {
                    written = self.changed.wait(written).expect("no model panics here");
                }
                Err(refused) => panic!("refused: {refused:?}"),
            }
        };
        while !written.contains(&number) {
            written = self.changed.wait(written).expect("no model panics here");
        }
        number
    }

    fn close_and_read(&self, writer: thread::JoinHandle<()>) -> Vec<u64> {
        self.handover.close();
        writer.join().expect("the writer ends");
        self.written.lock().expect("no model panics here").clone()
    }
}

#[test]
fn a_push_ends_the_park_whichever_comes_first() {
    explore(|| {
        let desk = Desk::new(100);
        let writer = {
            let desk = Arc::clone(&desk);
            thread::spawn(move || desk.handover.park(None))
        };
        let pushed = desk.handover.push(1, vec![0; FRAME], 0);
        assert_eq!(pushed, Ok(1));
        writer.join().expect("the writer wakes");
    });
}

#[test]
fn every_append_is_answered_and_keeps_its_place() {
    explore(|| {
        let desk = Desk::new(100);
        let writer = Desk::write(&desk);
        let other = {
            let desk = Arc::clone(&desk);
            thread::spawn(move || desk.append_and_wait())
        };
        let mine = desk.append_and_wait();
        let theirs = other.join().expect("the appender ends");
        assert_ne!(mine, theirs);
        assert_eq!(desk.close_and_read(writer), [1, 2]);
    });
}

#[test]
fn a_full_queue_wakes_those_it_turned_away() {
    explore(|| {
        let desk = Desk::new(FRAME);
        let writer = Desk::write(&desk);
        let other = {
            let desk = Arc::clone(&desk);
            thread::spawn(move || desk.append_and_wait())
        };
        desk.append_and_wait();
        other.join().expect("the appender ends");
        assert_eq!(desk.close_and_read(writer), [1, 2]);
    });
}

#[test]
fn what_was_taken_before_a_close_is_written_and_nothing_after() {
    explore(|| {
        let desk = Desk::new(100);
        let writer = Desk::write(&desk);
        let other = {
            let desk = Arc::clone(&desk);
            thread::spawn(move || desk.handover.push(1, vec![0; FRAME], 0))
        };
        desk.handover.flush();
        let written = desk.close_and_read(writer);
        match other.join().expect("the appender ends") {
            Ok(number) => assert_eq!(written, [number]),
            Err(refused) => {
                assert_eq!(refused, Refused::Closed);
                assert!(written.is_empty());
            }
        }
    });
}
