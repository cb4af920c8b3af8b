//! The spool over real directories (and one that loses its power): what goes in is what comes out, or
//! what a Skip says. Expected counts come from the test's own record of what it offered.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;
use weir_journal::{Item, Memory, OpenError};
use weir_process::clock::ManualClock;
use weir_proto::batch::{self, Block, Column, Values};
use weir_proto::record;

use super::*;
use crate::ledger::{Fate, Piece};

pub(crate) mod fork;
mod hostile;
mod inspect;
mod trouble;

const START_NS: i64 = 1_800_000_000_000_000_000;

pub(crate) fn config(data_dir: &Path) -> SpoolConfig {
    SpoolConfig {
        data_dir: data_dir.to_owned(),
        max_bytes: 64 << 20,
        segment_bytes: 1 << 20,
        overflow: Overflow::Block,
        commit_interval: Duration::ZERO,
        dead_letter_max_bytes: 64 << 20,
    }
}

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new(START_NS))
}

/// Opens a spool that an earlier one may still be letting go of.
pub(crate) async fn open(config: SpoolConfig) -> Spool {
    open_on(Arc::new(Disk), config).await
}

pub(crate) async fn open_on(storage: Arc<dyn Storage>, config: SpoolConfig) -> Spool {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match Spool::open_on(Arc::clone(&storage), config.clone(), clock()) {
            Err(SpoolError::Locked { .. } | SpoolError::Open(OpenError::Locked { .. }))
                if Instant::now() < deadline =>
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            opened => return opened.unwrap(),
        }
    }
}

pub(crate) fn series(reference: u32) -> v1::Series {
    v1::Series {
        r#ref: reference,
        device: "pump".into(),
        metric: format!("test.metric.{reference}"),
        kind: v1::Kind::Gauge.into(),
        ..v1::Series::default()
    }
}

/// A batch of `readings` values of series 1 that do not compress well.
pub(crate) fn draft(n: u64, readings: usize) -> Draft {
    let value = |k: usize| ((n * 7919 + k as u64) as f64).sqrt().sin();
    let start = START_NS + i64::try_from(n).unwrap() * 1_000_000_000;
    let block = Block {
        times: (0..readings)
            .map(|k| start + k as i64 * 1_000_000)
            .collect(),
        columns: vec![Column {
            series: 1,
            values: Values::Numbers((0..readings).map(value).collect()),
            present: None,
        }],
    };
    Draft {
        encoded: batch::encode(&[block]),
        series_defined: Vec::new(),
        monotonic_start_ns: n,
    }
}

pub(crate) fn first_draft(readings: usize) -> Draft {
    Draft {
        series_defined: vec![series(1)],
        ..draft(1, readings)
    }
}

/// Waits until the live stream has committed everything appended so far.
pub(crate) async fn committed(spool: &Spool) {
    let live = spool.lock().live().unwrap();
    let last = live.next_sequence() - 1;
    let mut progress = live.progress();
    let waiting = progress.wait_for(|progress| progress.durable_through >= last);
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .expect("commits in time")
        .unwrap();
}

/// Every record of a stream: (sequence, readings before, readings, reason of a Skip).
fn records(stream: &Stream) -> Vec<(u64, u64, u64, Option<v1::DropReason>)> {
    let mut reader = stream.reader(stream.oldest_sequence());
    let mut found = Vec::new();
    while let Some(item) = reader.next().unwrap() {
        let Item::Record { number, body, .. } = item else {
            continue;
        };
        match record::decode(body).unwrap().record.unwrap() {
            v1::record::Record::Batch(batch) => {
                let header = batch.header.unwrap();
                assert_eq!(header.sequence, number);
                found.push((number, header.readings_before, header.readings, None));
            }
            v1::record::Record::Skip(skip) => {
                assert_eq!((skip.from, skip.through), (number, number));
                let reason = v1::DropReason::try_from(skip.reason).unwrap();
                found.push((number, skip.readings_before, skip.readings, Some(reason)));
            }
            other => panic!("{other:?}"),
        }
    }
    found
}

fn streams(spool: &Spool) -> Vec<Arc<Stream>> {
    spool.lock().streams.iter().map(Arc::clone).collect()
}

fn oldest(spool: &Spool) -> Arc<Stream> {
    streams(spool).swap_remove(0)
}

fn ack(spool: &Spool, stream: &Stream, through: u64) {
    for (number, before, readings, reason) in records(stream) {
        if number <= through {
            let fate = reason.map_or(Fate::Stored { crc: 1 }, Fate::Dropped);
            let piece = Piece {
                from: number,
                through: number,
                readings_before: before,
                readings,
                fate,
            };
            spool.settle(stream, &piece, 1000);
        }
    }
}

#[tokio::test]
async fn numbers_batches_from_one_with_cumulative_counts() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(config(dir.path())).await;
    for n in 1..=3 {
        let appended = spool.append(draft(n, 10)).await.unwrap();
        assert_eq!(appended, Appended::Stored { sequence: n });
    }
    committed(&spool).await;
    let found = records(&streams(&spool)[0]);
    assert_eq!(
        found,
        [(1, 0, 10, None), (2, 10, 10, None), (3, 20, 10, None)]
    );
    let view = spool.ledger();
    assert_eq!((view.totals.produced, view.totals.spooled), (30, 30));
    assert_eq!(view.streams[0].oldest_unacked_ns, START_NS + 1_000_000_000);
}

#[tokio::test]
async fn every_opening_is_a_stream_and_earlier_ones_come_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut ids = Vec::new();
    for opening in 0..3_u64 {
        let spool = open(config(dir.path())).await;
        ids.push(spool.live_stream_id().unwrap());
        spool.append(first_draft(5)).await.unwrap();
        for n in 0..opening {
            spool.append(draft(n, 7)).await.unwrap();
        }
        committed(&spool).await;
    }
    let spool = open(config(dir.path())).await;
    let held = streams(&spool);
    assert_eq!(held.len(), 4);
    for (opening, stream) in held.iter().take(3).enumerate() {
        assert_eq!(stream.id, ids[opening]);
        assert!(stream.is_ended());
        let opening = opening as u64;
        assert_eq!(stream.durable(), (1 + opening, 5 + 7 * opening));
        assert_eq!(stream.dictionary(), BTreeMap::from([(1, series(1))]));
    }
    assert!(held[3].is_live());
    assert_eq!(
        ids.iter()
            .chain([&held[3].id])
            .collect::<BTreeSet<_>>()
            .len(),
        4
    );
}

#[tokio::test]
async fn an_opening_that_held_nothing_leaves_nothing_unless_a_sink_knows_it() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(config(dir.path())).await);
    let spool = open(config(dir.path())).await;
    assert_eq!(streams(&spool).len(), 1);
    streams(&spool)[0].announce().unwrap();
    drop(spool);
    let spool = open(config(dir.path())).await;
    assert_eq!(streams(&spool).len(), 2);
    assert_eq!(streams(&spool)[0].durable(), (0, 0));
}

#[tokio::test]
async fn a_second_agent_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _spool = open(config(dir.path())).await;
    let error = Spool::open(config(dir.path()), clock()).err().unwrap();
    assert!(matches!(error, SpoolError::Locked { .. }), "{error}");
}

#[tokio::test]
async fn losses_before_batching_become_one_skip_per_reason() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(config(dir.path())).await;
    spool.append(draft(1, 10)).await.unwrap();
    spool.record_drop(v1::DropReason::QueueOldest, 3).await;
    spool.record_drop(v1::DropReason::QueueOldest, 4).await;
    spool.record_drop(v1::DropReason::QueueNewest, 5).await;
    spool.flush_lost(true).unwrap();
    committed(&spool).await;
    let found = records(&streams(&spool)[0]);
    assert_eq!(
        found[1..],
        [
            (2, 10, 7, Some(v1::DropReason::QueueOldest)),
            (3, 17, 5, Some(v1::DropReason::QueueNewest)),
        ]
    );
    assert_eq!(spool.ledger().totals.produced, 22);
}

fn tight(dir: &Path, overflow: Overflow) -> SpoolConfig {
    SpoolConfig {
        max_bytes: 64 << 10,
        segment_bytes: 8 << 10,
        overflow,
        ..config(dir)
    }
}

#[tokio::test]
async fn drop_newest_counts_exactly_what_it_gave_up() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(tight(dir.path(), Overflow::DropNewest)).await;
    let (mut stored, mut dropped) = (0, 0);
    for n in 0..100 {
        match spool.append(draft(n, 200)).await.unwrap() {
            Appended::Stored { .. } => stored += 200,
            Appended::Dropped => dropped += 200,
        }
    }
    assert!(stored > 0 && dropped > 0, "{stored} {dropped}");
    spool.finish().await.unwrap();
    let found = records(&streams(&spool)[0]);
    let skipped: u64 = found
        .iter()
        .filter(|record| record.3.is_some())
        .map(|record| record.2)
        .sum();
    let batched: u64 = found
        .iter()
        .filter(|record| record.3.is_none())
        .map(|record| record.2)
        .sum();
    assert_eq!((batched, skipped), (stored, dropped));
    assert_eq!(spool.ledger().totals.produced, stored + dropped);
}

#[tokio::test]
async fn a_batch_too_large_for_the_limit_is_counted_and_blocks_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(tight(dir.path(), Overflow::Block)).await;
    let appended = spool.append(draft(1, 10_000)).await.unwrap();
    assert_eq!(appended, Appended::Dropped);
    spool.append(draft(2, 10)).await.unwrap();
    spool.finish().await.unwrap();
    let found = records(&oldest(&spool));
    assert_eq!(found[1], (2, 10, 10_000, Some(v1::DropReason::SpoolNewest)));
}

#[tokio::test]
async fn definitions_of_a_dropped_batch_go_with_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(tight(dir.path(), Overflow::DropNewest)).await;
    let mut n = 0;
    while spool.append(draft(n, 200)).await.unwrap() != Appended::Dropped {
        n += 1;
    }
    assert_eq!(
        spool
            .append(Draft {
                series_defined: vec![series(7)],
                ..draft(n, 200)
            })
            .await
            .unwrap(),
        Appended::Dropped
    );
    let live = oldest(&spool);
    ack(&spool, &live, n);
    live.release(1).unwrap();
    let Appended::Stored { sequence } = spool.append(draft(n, 5)).await.unwrap() else {
        panic!("there was room");
    };
    committed(&spool).await;
    let body = live.read(sequence).unwrap().unwrap();
    let Some(v1::record::Record::Batch(batch)) = record::decode(body).unwrap().record else {
        panic!("a batch was appended");
    };
    assert_eq!(batch.series_defined, [series(7)]);
}

#[tokio::test]
async fn drop_oldest_keeps_the_newest_within_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(tight(dir.path(), Overflow::DropOldest)).await;
    for n in 1..=200 {
        let appended = spool.append(draft(n, 100)).await.unwrap();
        assert_eq!(appended, Appended::Stored { sequence: n });
    }
    committed(&spool).await;
    let found = records(&streams(&spool)[0]);
    assert_eq!(found.last().unwrap().0, 200);
    assert!(found[0].0 > 1);
    // Until the sink has acknowledged the Skip, the drop is provisional.
    let view = spool.ledger();
    assert_eq!(
        (view.totals.produced, view.totals.spooled),
        (20_000, 20_000)
    );
    assert!(view.spool_bytes <= view.spool_max_bytes, "{view:?}");
    // The hole's readings are what the first record left says came before it.
    assert_eq!(found[0].1, (found[0].0 - 1) * 100);
}

#[tokio::test]
async fn drop_oldest_gives_up_whole_streams_of_earlier_runs() {
    let dir = tempfile::tempdir().unwrap();
    let config = tight(dir.path(), Overflow::DropOldest);
    let spool = open(config.clone()).await;
    for n in 1..=4 {
        spool.append(draft(n, 100)).await.unwrap();
    }
    committed(&spool).await;
    drop(spool);
    let spool = open(config.clone()).await;
    for n in 1..=200 {
        spool.append(draft(n, 100)).await.unwrap();
    }
    committed(&spool).await;
    let old = oldest(&spool);
    assert!(old.is_given_up());
    assert_eq!(old.durable(), (4, 400));
    drop((spool, old));
    // The count survives the next start, although no record is left to say it.
    let spool = open(config).await;
    assert_eq!(streams(&spool)[0].durable(), (4, 400));
    assert!(streams(&spool)[0].is_given_up());
}

#[tokio::test]
async fn block_waits_until_the_sink_has_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(tight(dir.path(), Overflow::Block)).await;
    let mut n = 0;
    loop {
        n += 1;
        let append = spool.append(draft(n, 200));
        if tokio::time::timeout(Duration::from_millis(200), append)
            .await
            .is_err()
        {
            break;
        }
    }
    let blocked = tokio::spawn({
        let spool = spool.clone();
        async move { spool.append(draft(n, 200)).await }
    });
    committed(&spool).await;
    let live = oldest(&spool);
    ack(&spool, &live, n - 1);
    spool.bump_room();
    live.release(1).unwrap();
    spool.bump_room();
    let appended = tokio::time::timeout(Duration::from_secs(10), blocked).await;
    let appended = appended.expect("goes on").unwrap().unwrap();
    assert_eq!(appended, Appended::Stored { sequence: n });
}

#[tokio::test]
async fn acknowledged_counts_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(tight(dir.path(), Overflow::Block)).await;
    for n in 1..=20 {
        spool.append(draft(n, 100)).await.unwrap();
    }
    committed(&spool).await;
    let live = oldest(&spool);
    ack(&spool, &live, 15);
    live.release(1).unwrap();
    assert!(live.oldest_sequence() > 1, "segments were given back");
    drop((spool, live));
    let spool = open(tight(dir.path(), Overflow::Block)).await;
    let view = spool.ledger();
    let old = &view.streams[0];
    assert_eq!(
        (old.produced, old.acked, old.spooled, old.unexplained),
        (2000, 1500, 500, 0)
    );
    assert_eq!(old.acked_through, 15);
}

#[tokio::test]
async fn a_finished_spool_takes_nothing_and_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let slow = SpoolConfig {
        commit_interval: Duration::from_secs(3600),
        ..config(dir.path())
    };
    let spool = open(slow).await;
    spool.append(draft(1, 10)).await.unwrap();
    spool.record_drop(v1::DropReason::QueueNewest, 2).await;
    spool.finish().await.unwrap();
    assert_eq!(streams(&spool)[0].durable(), (2, 12));
    assert!(matches!(
        spool.append(draft(2, 10)).await,
        Err(SpoolError::Closed)
    ));
}

#[tokio::test]
async fn a_power_loss_costs_only_what_was_not_committed() {
    let memory = Memory::new();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let slow = SpoolConfig {
        commit_interval: Duration::from_secs(3600),
        ..config(Path::new("/data"))
    };
    let spool = open_on(Arc::clone(&storage), slow.clone()).await;
    spool.append(first_draft(10)).await.unwrap();
    let live = oldest(&spool);
    live.seal().await.unwrap();
    drop((spool, live));
    let spool = open_on(Arc::clone(&storage), slow.clone()).await;
    spool.append(first_draft(10)).await.unwrap(); // never committed
    memory.crash();
    let after = open_on(Arc::new(memory.duplicate()), slow).await;
    assert_eq!(after.ledger().totals.produced, 10);
    assert_eq!(streams(&after)[0].durable(), (1, 10));
    drop(spool);
}
