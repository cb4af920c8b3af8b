//! A large request and the others on its thread.

use std::cell::Cell;
use std::future::poll_fn;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use weir_journal::{Journal, Memory, Options};
use weir_process::clock::ManualClock;
use weir_proto::batch::{Block, Column, Values, encode};
use weir_proto::v1::record::Record;

use super::*;
use crate::ingest::tests::{ANYBODY, defining, series};
use crate::ingest::turns::TURN;
use crate::ingest::{Allowed, IngestConfig};
use crate::metrics::IngestMetrics;

/// Readings of one batch.
const READINGS: u64 = 1000;

fn ingest() -> (Ingest, Journal) {
    let (journal, committer) = Journal::open(
        Arc::new(Memory::new()),
        Path::new("/log"),
        Options::default(),
    )
    .unwrap();
    committer.spawn().unwrap();
    let config = IngestConfig {
        window_bytes: 1 << 20,
        budget_bytes: 1 << 30,
        max_connections: 16,
        max_streams: 16,
        high_water_bytes: u64::MAX,
        lost_after: std::time::Duration::ZERO,
        limits: Allowed::default(),
    };
    let ingest = Ingest::new(
        journal.clone(),
        Arc::new(drop),
        Arc::new(ManualClock::new(1_700_000_000_000_000_000)),
        config,
        IngestMetrics::default(),
    );
    (ingest, journal)
}

async fn open(ingest: &Ingest, number: u8) -> (Session, v1::Welcome) {
    open_until(ingest, number, &CancellationToken::new()).await
}

async fn open_until(
    ingest: &Ingest,
    number: u8,
    draining: &CancellationToken,
) -> (Session, v1::Welcome) {
    let hello = v1::Hello {
        stream_id: vec![number; 16],
        agent: format!("edge-{number}"),
        next_sequence: 1,
        protocol_min: 1,
        protocol_max: 1,
        ..v1::Hello::default()
    };
    ingest.open(&ANYBODY, &hello, draining).await.unwrap()
}

/// So many batches from the first on; that one defines its series by this name.
fn request(batches: u64, metric: &str) -> v1::DeliverRequest {
    let encoded = encode(&[Block {
        times: (0..READINGS as i64).collect(),
        columns: vec![Column {
            series: 1,
            values: Values::Numbers(vec![1.5; READINGS as usize]),
            present: None,
        }],
    }]);
    let one = |sequence: u64| {
        let batch = v1::Batch {
            header: Some(v1::BatchHeader {
                sequence,
                readings_before: (sequence - 1) * READINGS,
                ..encoded.header()
            }),
            series_defined: Vec::new(),
            payload: encoded.payload.clone(),
        };
        let record = match sequence {
            1 => defining(batch, vec![series(1, metric)]),
            _ => Record::Batch(batch),
        };
        v1::Record {
            record: Some(record),
        }
    };
    v1::DeliverRequest {
        records: (1..=batches).map(one).collect(),
        ..v1::DeliverRequest::default()
    }
}

fn effort(request: &v1::DeliverRequest) -> u64 {
    let records = request.records.iter().flat_map(|one| &one.record);
    records.map(codec::effort).sum()
}

/// What comes of it, how often it was polled, and how often another task had a turn meanwhile.
async fn polls_of<T>(work: impl Future<Output = T>) -> (T, u64, u64) {
    let turns = Rc::new(Cell::new(0));
    let others = tokio::task::LocalSet::new();
    let counted = Rc::clone(&turns);
    others.spawn_local(async move {
        loop {
            counted.set(counted.get() + 1);
            tokio::task::yield_now().await;
        }
    });
    let mut polls = 0;
    let mut work = pin!(work);
    let counting = poll_fn(|context| {
        polls += 1;
        work.as_mut().poll(context)
    });
    let done = others.run_until(counting).await;
    (done, polls, turns.get())
}

/// Mutations, red: no yield; one after each record, which a small request pays for.
#[tokio::test]
async fn a_large_request_gives_way_after_each_turn_and_a_small_one_never() {
    let (ingest, journal) = ingest();
    let (mut session, _) = open(&ingest, 1).await;
    for (batches, large) in [(10, false), (200, true)] {
        let (mut session, _) = open(&ingest, batches as u8).await;
        let request = request(batches, "force");
        let effort = effort(&request);
        assert_eq!(effort > TURN, large);
        let before = journal.next();
        let (taken, polls, others) = polls_of(session.take(request)).await;
        assert_eq!((taken.fault, taken.refused), (None, Vec::new()));
        assert_eq!(journal.next() - before, batches, "all of it, once");
        // A turn ends with a record, so each may be longer by one.
        let turns = effort / (TURN + effort / batches)..=effort / TURN;
        match large {
            true => assert!(turns.contains(&(polls - 1)), "{polls} polls, {turns:?}"),
            false => assert_eq!(polls, 1),
        }
        assert!(
            others + 1 >= polls,
            "{others} turns of others, {polls} polls"
        );
    }
    let taken = session.take(request(1, "force")).await;
    assert_eq!(taken.fault, None);
}

/// Mutation: what was accepted stays when the taking is dropped: then the stream is there for good, what comes again
/// counts as had, and its series as defined otherwise.
#[tokio::test]
async fn a_request_dropped_in_the_middle_has_not_happened() {
    let (ingest, journal) = ingest();
    let before = journal.next();
    let half = |mut session: Session| async move {
        let dropped = {
            let mut taking = pin!(session.take(request(200, "force")));
            poll_fn(|context| Poll::Ready(taking.as_mut().poll(context).is_pending())).await
        };
        assert!(dropped, "a turn is less than this request");
        session
    };
    drop(half(open(&ingest, 1).await.0).await);
    assert_eq!(journal.next(), before, "nothing of it was appended");
    assert!(ingest.streams().is_empty(), "nothing was begun");
    // The session itself may go on too, and what it does not have is what comes next.
    let mut session = half(open(&ingest, 1).await.0).await;
    let taken = session.take(request(200, "another meaning")).await;
    assert_eq!((taken.fault, taken.refused), (None, Vec::new()));
    assert_eq!(journal.next() - before, 200);
    let through = journal.committed(journal.next() - 1).await.unwrap();
    let ack = session.settle(through).unwrap();
    assert_eq!(ack.durable_through, 200);
    drop(session);
    let (_, welcome) = open(&ingest, 1).await;
    assert_eq!(welcome.readings_through, 200 * READINGS);
}

/// Mutations: no limit to large requests; a small one that waits too; a wait that goes on when the sink stops.
#[tokio::test]
async fn large_requests_wait_for_each_other_and_small_ones_for_nobody() {
    let (ingest, _journal) = ingest();
    let draining = CancellationToken::new();
    let (first, _) = open(&ingest, 1).await;
    let (second, _) = open_until(&ingest, 2, &draining).await;
    let turn = first.turn(TURN + 1).await.unwrap();
    assert!(second.turn(TURN).await.is_ok());
    let mut waiting = pin!(second.turn(TURN + 1));
    let mut waits =
        async || poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending())).await;
    assert!(waits().await, "this runtime has one thread");
    drop(turn);
    assert!(!waits().await);
    let _turn = first.turn(TURN + 1).await.unwrap();
    let stopping = async { draining.cancel() };
    let (ended, ()) = tokio::join!(second.turn(TURN + 1), stopping);
    assert_eq!(ended.err(), Some(Fault::Draining));
}
