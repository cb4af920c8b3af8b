//! A sink that is restored, to any day of its life, again and again: the agent's books follow it.
//! The model is a plain set: which sequences the sink has stored, and the Skips it took.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::sink::Kept;
use super::*;
use crate::ledger::Fate;
use crate::sender::delivery::Due;
use crate::sender::feed::Feed;
use crate::sender::feed::Outgoing;
use crate::sender::resume::Resume;
use crate::sender::window::Window;
use crate::spool::Stream;

/// One stream and one sink, without a network between them: every step is the test's.
struct Rig {
    spool: Spool,
    stream: Arc<Stream>,
    metrics: Metrics,
    window: Window,
    feed: Option<Feed>,
    definitions_due: Due,
    appended: u64,
    produced: u64,
    sink: Kept,
    /// Copies of the sink, of any age, on any branch of its history.
    copies: Vec<Kept>,
}

impl Rig {
    async fn new(dir: &Path) -> Rig {
        let small = SpoolConfig {
            segment_bytes: 4096,
            ..config(dir)
        };
        let spool = open(small).await;
        Rig {
            stream: spool.next_stream().unwrap(),
            metrics: Metrics::new(&Registry::new("weir_agent")),
            window: Window::default(),
            feed: None,
            definitions_due: Due::default(),
            appended: 0,
            produced: 0,
            sink: Kept::default(),
            copies: vec![Kept::default()],
            spool,
        }
    }

    /// A few batches, or readings that were lost on the way and become a Skip.
    async fn produce(&mut self, random: &mut StdRng) {
        for _ in 0..random.random_range(1..40) {
            self.appended += 1;
            let readings = random.random_range(1..60);
            self.produced += readings as u64;
            if random.random_bool(0.1) {
                let reason = v1::DropReason::QueueOldest;
                self.spool.record_drop(reason, readings as u64).await;
                self.spool.flush_lost(true).unwrap();
            } else if self.appended == 1 {
                self.spool.append(first_draft(readings)).await.unwrap();
            } else {
                let draft = draft(self.appended, readings);
                self.spool.append(draft).await.unwrap();
            }
        }
        committed(&self.spool).await;
    }

    /// A new call: the Welcome says what the sink has.
    fn connect(&mut self) {
        let welcome = v1::Welcome {
            durable_through: self.sink.durable_through,
            durable_crc: self.sink.durable_crc,
            readings_through: self.sink.readings_through,
            books: Some(self.sink.books()),
            ..v1::Welcome::default()
        };
        let resume = Resume {
            spool: &self.spool,
            stream: &self.stream,
            window: &mut self.window,
            metrics: &self.metrics,
            definitions_due: &mut self.definitions_due,
        };
        self.feed = Some(resume.at(&welcome).unwrap());
    }

    /// The sink takes up to `most` records.
    fn deliver(&mut self, most: usize) {
        if self.feed.is_none() {
            self.connect();
        }
        let feed = self.feed.as_mut().unwrap();
        for _ in 0..most {
            let none = Default::default();
            if feed.peek(&self.stream, &none).unwrap().is_none() {
                return;
            }
            let sent = feed.take().unwrap();
            if let Some(piece) = sent.piece {
                take(&mut self.sink, &sent);
                self.window.push(piece, sent.bytes as u64, sent.first_ns);
            }
        }
    }

    /// Everything the sink has is acknowledged; what was acknowledged is given back.
    fn ack(&mut self) {
        while let Some((piece, bytes)) = self.window.pop_through(self.sink.durable_through) {
            self.spool.settle(&self.stream, &piece, bytes);
        }
        self.stream.release(1).unwrap();
    }

    fn step(&mut self, random: &mut StdRng) {
        match random.random_range(0..10) {
            0..4 => self.deliver(random.random_range(1..80)),
            4..7 => self.ack(),
            7 => self.copies.push(self.sink.clone()),
            8 => self.feed = None,
            _ => {
                let copy = random.random_range(0..self.copies.len());
                self.sink = self.copies[copy].clone();
                self.feed = None;
            }
        }
    }

    fn assert_books_are_equal(&self, seed: u64) {
        let account = self.stream.account();
        let sink = &self.sink;
        let case = format!("seed {seed}: {account:?}");
        assert_eq!(account.acked_through, sink.durable_through, "{case}");
        assert_eq!(account.stored, sink.stored_readings(), "{case}");
        for reason in [v1::DropReason::SinkRolledBack, v1::DropReason::QueueOldest] {
            let booked = account.dropped[crate::ledger::slot(reason)];
            assert_eq!(booked, sink.dropped(reason), "{reason:?}, {case}");
        }
        let (stored, dropped) = (sink.stored_readings(), account.dropped_total());
        assert_eq!(stored + dropped, self.produced, "{case}");
        assert_eq!(account.unexplained(), 0, "{case}");
    }
}

/// The next record, in the order of its sequence and with the count that belongs there, or it is a
/// fault of the sender.
fn take(sink: &mut Kept, sent: &Outgoing) {
    let piece = sent.piece.expect("the caller asked");
    assert_eq!(piece.from, sink.durable_through + 1);
    assert_eq!(piece.readings_before, sink.readings_through);
    sink.durable_through = piece.through;
    sink.readings_through += piece.readings;
    match piece.fate {
        Fate::Stored { crc } => {
            sink.durable_crc = crc;
            sink.stored.insert(piece.from, piece.readings);
        }
        Fate::Dropped(reason) => {
            sink.durable_crc = 0;
            sink.skips.push(v1::Skip {
                from: piece.from,
                through: piece.through,
                reason: reason.into(),
                readings_before: piece.readings_before,
                readings: piece.readings,
            });
        }
    }
}

/// Mutation: `Resume::compare` that leaves our books as they are is red (a second rollback is then
/// booked over the first); so is a `peak` that `adopt` does not raise.
#[tokio::test]
async fn books_are_the_sinks_after_any_rollbacks() {
    let mut rolled_back = 0;
    for seed in 0..60 {
        let dir = tempfile::tempdir().unwrap();
        let mut random = StdRng::seed_from_u64(seed);
        let mut rig = Rig::new(dir.path()).await;
        for _ in 0..6 {
            rig.produce(&mut random).await;
            for _ in 0..random.random_range(1..14) {
                rig.step(&mut random);
            }
        }
        rig.connect();
        rig.deliver(usize::MAX);
        rig.ack();
        rig.assert_books_are_equal(seed);
        rolled_back += u64::from(rig.sink.dropped(v1::DropReason::SinkRolledBack) > 0);
    }
    assert!(
        rolled_back > 20,
        "only {rolled_back} of the seeds lost anything"
    );
}

/// The case that was seen: restored from an older copy, then deleted. What the first Skip had closed
/// is not lost a second time.
#[tokio::test]
async fn a_sink_that_was_restored_and_then_deleted_loses_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(1);
    let mut rig = Rig::new(dir.path()).await;
    for part in 0..6 {
        rig.produce(&mut random).await;
        rig.deliver(usize::MAX);
        rig.ack();
        if part == 1 {
            rig.copies.push(rig.sink.clone());
        }
    }
    for copy in [1, 0] {
        rig.sink = rig.copies[copy].clone();
        rig.connect();
        rig.deliver(usize::MAX);
        rig.ack();
        assert!(rig.sink.dropped(v1::DropReason::SinkRolledBack) > 0);
        rig.assert_books_are_equal(1);
    }
}

/// The ack of a hole's Skip is lost, and no batch followed it yet.
/// Mutation: `Resume::settle` that asks for no definitions.
#[tokio::test]
async fn definitions_precede_the_first_batch_after_a_hole_also_on_a_new_call() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(3);
    let mut rig = Rig::new(dir.path()).await;
    for _ in 0..6 {
        rig.produce(&mut random).await;
    }
    rig.stream.drop_oldest().unwrap().unwrap();
    rig.deliver(1);
    assert_eq!(rig.sink.skips.len(), 1);
    rig.connect();
    let feed = rig.feed.as_mut().unwrap();
    let none = Default::default();
    while feed.peek(&rig.stream, &none).unwrap().is_some() {
        let sent = feed.take().unwrap();
        assert!(!sent.is_batch, "a batch before the definitions");
        if sent.piece.is_none() {
            return;
        }
    }
    panic!("there were batches to come");
}
