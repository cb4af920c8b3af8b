//! What the ledger says of a stream when its records are not as they should be.

use bytes::Bytes;
use prost::Message;
use weir_proto::v1;

use super::sender::{Sender, seconds};
use super::world::World;
use crate::catalog::StreamLedger;
use crate::envelope::{self, Envelope};

fn one(streams: Vec<StreamLedger>) -> StreamLedger {
    let [one] = <[StreamLedger; 1]>::try_from(streams).expect("one stream");
    one
}

#[tokio::test]
async fn a_duplicate_is_counted_and_not_stored_again() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    let batch = sender.numbers("pump", &["speed"], &seconds(0, 7));
    sink.deliver(&batch).await;
    sink.journal(&batch).await;
    sink.flush().await;
    let number = sink.deliver(&batch).await;
    sink.folded(number).await;
    let ledger = one(sink.fold.streams());
    assert_eq!(
        (ledger.stored, ledger.duplicates, ledger.unexplained()),
        (7, 14, 0)
    );
    assert_eq!(sink.readings().await, sender.sorted());
    sink.stop().await.expect("stops");
}

#[tokio::test]
async fn a_batch_that_never_arrives_is_unexplained_to_the_reading() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    sink.deliver(&sender.numbers("pump", &["speed"], &seconds(0, 7)))
        .await;
    let _lost = sender.numbers("pump", &["speed"], &seconds(7, 13));
    let number = sink
        .deliver(&sender.numbers("pump", &["speed"], &seconds(20, 5)))
        .await;
    sink.folded(number).await;
    let ledger = one(sink.fold.streams());
    assert_eq!(
        (ledger.watermark, ledger.stored, ledger.unexplained()),
        (3, 12, 13)
    );
    assert_eq!(sink.fold.counts().gaps, 1);
    sink.flush().await;
    sink.kill().await;
    let sink = world.start().await;
    assert_eq!(one(sink.fold.streams()), ledger, "the gap is not forgotten");
    sink.stop().await.expect("stops");
}

#[tokio::test]
async fn a_count_that_goes_back_is_unexplained_below_zero() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    sink.deliver(&sender.numbers("pump", &["speed"], &seconds(0, 7)))
        .await;
    sender.readings = 3;
    let number = sink
        .deliver(&sender.numbers("pump", &["speed"], &seconds(7, 2)))
        .await;
    sink.folded(number).await;
    assert_eq!(one(sink.fold.streams()).unexplained(), -4);
    sink.stop().await.expect("stops");
}

#[tokio::test]
async fn skips_are_drops_by_reason_and_a_known_part_is_not_counted_twice() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    sink.deliver(&sender.numbers("pump", &["speed"], &seconds(0, 4)))
        .await;
    sink.deliver(&sender.skip(3, 30, v1::DropReason::SpoolOldest))
        .await;
    sink.deliver(&sender.numbers("pump", &["speed"], &seconds(4, 4)))
        .await;
    // Over the batch that is already stored, and two more.
    let late = v1::Skip {
        from: 5,
        through: 7,
        reason: v1::DropReason::Refused.into(),
        readings_before: 34,
        readings: 4 + 9,
    };
    let number = sink
        .deliver(&sender.envelope(v1::record::Record::Skip(late)))
        .await;
    sink.folded(number).await;
    let ledger = one(sink.fold.streams());
    let dropped: Vec<_> = ledger
        .dropped
        .iter()
        .map(|(k, v)| (k.as_str(), *v))
        .collect();
    assert_eq!(dropped, [("refused", 9), ("spool_oldest", 30)]);
    assert_eq!(
        (ledger.watermark, ledger.stored, ledger.unexplained()),
        (7, 8, 0)
    );
    sink.stop().await.expect("stops");
}

#[tokio::test]
async fn a_bad_record_is_set_aside_counted_and_the_next_one_is_folded() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    sink.deliver(&sender.numbers("pump", &["speed"], &seconds(0, 3)))
        .await;

    // A payload that does not decode; its definitions are still good.
    let bad = sender.numbers("fan", &["speed"], &seconds(0, 5));
    sink.journal(&broken(&bad, |batch| {
        batch.payload = Bytes::from_static(b"nonsense")
    }))
    .await;
    // A series nobody defined.
    let mut stranger = Sender::new(1);
    stranger.sequence = sender.sequence;
    stranger.readings = sender.readings;
    let undefined = stranger.numbers("x", &["a", "b", "c", "d"], &seconds(0, 1));
    sink.journal(&broken(&undefined, |batch| batch.series_defined.clear()))
        .await;
    sender.sequence += 1;
    sender.readings += 4;
    // Not a record at all, and not even an envelope.
    let noise = Envelope {
        record: Bytes::from_static(&[0xff; 9]),
        ..bad.clone()
    };
    sink.journal(&noise).await;
    let number = sink
        .journal
        .append(envelope::KIND, &[b"\xff\xff\xff"])
        .await
        .expect("appended");
    sink.journal.committed(number).await.expect("committed");

    sender.sent.retain(|one| one.0 == "pump");
    let last = sink
        .deliver(&sender.numbers("fan", &["speed"], &seconds(9, 2)))
        .await;
    sink.folded(last).await;
    assert_eq!(sink.readings().await, sender.sorted());
    let ledger = one(sink.fold.streams());
    assert_eq!(ledger.dropped["fold_error"], 9);
    assert_eq!((ledger.stored, ledger.unexplained()), (5, 0));

    sink.flush().await;
    let letters = sink.catalog.dead_letters(10).await.expect("listed");
    let numbers: Vec<_> = letters
        .iter()
        .map(|one| (one.number, one.readings))
        .collect();
    assert_eq!(numbers, [(2, 5), (3, 4), (4, 0), (5, 0)]);
    assert!(
        letters[1].error.contains("never defined"),
        "{}",
        letters[1].error
    );
    assert_eq!(
        Envelope::parse(letters[0].body.clone())
            .expect("kept")
            .agent,
        "agent-1"
    );
    sink.stop().await.expect("stops");
}

fn broken(envelope: &Envelope, change: impl FnOnce(&mut v1::Batch)) -> Envelope {
    let Ok(Some(v1::record::Record::Batch(mut batch))) = envelope.parse_record() else {
        panic!("a batch");
    };
    change(&mut batch);
    let record = v1::Record {
        record: Some(v1::record::Record::Batch(batch)),
    };
    Envelope {
        record: record.encode_to_vec().into(),
        ..envelope.clone()
    }
}

/// Ingest lets nothing past a close; if a journal holds it all the same, the fold's answer must not
/// depend on a restart in between, after which the refs of a closed stream are gone.
#[tokio::test]
async fn a_batch_behind_a_close_is_set_aside_with_and_without_a_restart() {
    for restarts in [false, true] {
        let world = World::new();
        let mut sink = world.start().await;
        let mut sender = Sender::new(1);
        sink.deliver(&sender.numbers("pump", &["speed"], &seconds(0, 3)))
            .await;
        let close = v1::record::Record::Close(v1::Close { last_sequence: 1 });
        let number = sink.deliver(&sender.envelope(close)).await;
        sink.folded(number).await;
        sink.flush().await;
        if restarts {
            sink.kill().await;
            sink = world.start().await;
        }
        let late = sender.numbers("pump", &["speed"], &seconds(3, 4));
        let number = sink.deliver(&late).await;
        sink.folded(number).await;
        let ledger = one(sink.fold.streams());
        assert_eq!(ledger.dropped["fold_error"], 4, "restarts: {restarts}");
        assert_eq!((ledger.stored, ledger.unexplained()), (3, 0));
        sink.stop().await.expect("stops");
    }
}

#[tokio::test]
async fn reports_definitions_and_closing_survive_a_restart() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    let mut first = sender.numbers("pump", &["speed"], &seconds(0, 3));
    // More than is said at the end: the highest counts.
    first.report = Some(v1::Report {
        produced: 7,
        ..Default::default()
    });
    sink.deliver(&first).await;
    let series = v1::Series {
        r#ref: 9,
        device: "fan".into(),
        metric: "m".into(),
        ..Default::default()
    };
    let definitions = v1::Definitions {
        series: vec![series],
    };
    sink.deliver(&sender.envelope(v1::record::Record::Definitions(definitions)))
        .await;
    sink.flush().await;
    let key = sender
        .envelope(v1::record::Record::Close(v1::Close::default()))
        .stream();
    let key = key.expect("a stream");
    let known = sink.catalog.series_of(&key).await.expect("read");
    assert_eq!(known.iter().map(|s| s.r#ref).collect::<Vec<_>>(), [1, 9]);
    assert_eq!(known[0].attributes["a"], "1");

    let mut close = sender.envelope(v1::record::Record::Close(v1::Close { last_sequence: 1 }));
    close.report = Some(v1::Report {
        produced: 3,
        ..Default::default()
    });
    let number = sink.deliver(&close).await;
    sink.folded(number).await;
    let ledger = one(sink.fold.streams());
    assert!(ledger.closed);
    assert_eq!(
        ledger.report.as_ref().map(|report| report.produced),
        Some(7)
    );
    sink.stop().await.expect("stops");
    let sink = world.start().await;
    assert_eq!(one(sink.fold.streams()), ledger);
    assert!(
        sink.catalog.series_of(&key).await.expect("read").is_empty(),
        "closed needs none"
    );
    sink.stop().await.expect("stops");
}
