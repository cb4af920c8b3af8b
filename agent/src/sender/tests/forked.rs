//! Which Welcomes say that a sink has another stream's records under this one's id, also where the last
//! of them is a Skip, which has no checksum, or where a copy has closed it. The agent and its clone are one spool; the sink is its words.

use weir_proto::record;

use super::*;
use crate::sender::delivery::Delivery;
use crate::sender::failure::Failure;
use crate::sender::resume::Resume;
use crate::sender::set_aside::set_aside;
use crate::spool::Stream;
use crate::spool::tests::fork::no_room_for_a_copy;

/// Batches 1 to 3 and 5 of 10 readings, and under 4 a Skip of 5.
async fn with_a_skip(dir: &Path) -> (Spool, Arc<Stream>) {
    let spool = spool_in(dir).await;
    fill(&spool, 3).await;
    spool.record_drop(v1::DropReason::QueueOldest, 5).await;
    spool.flush_lost(true).unwrap();
    spool.append(draft(5, 10)).await.unwrap();
    committed(&spool).await;
    let stream = spool.next_stream().unwrap();
    (spool, stream)
}

pub(super) fn crc(stream: &Stream, sequence: u64) -> u32 {
    let body = stream.read(sequence).unwrap().unwrap();
    match record::decode(body).unwrap().record.unwrap() {
        v1::record::Record::Batch(batch) => batch.header.unwrap().crc,
        other => panic!("{other:?}"),
    }
}

/// What becomes of a Welcome that says the sink has the stream through a sequence, with this checksum and count.
pub(super) fn welcomed(
    (spool, stream): (&Spool, &Stream),
    (durable_through, durable_crc, readings_through): (u64, u32, u64),
) -> Result<(), Failure> {
    let welcome = v1::Welcome {
        durable_through,
        durable_crc,
        readings_through,
        ..v1::Welcome::default()
    };
    answered((spool, stream), &welcome)
}

fn answered((spool, stream): (&Spool, &Stream), welcome: &v1::Welcome) -> Result<(), Failure> {
    let mut delivery = Delivery::new(stream);
    let resume = Resume {
        spool,
        stream,
        window: &mut delivery.window,
        metrics: &Metrics::new(&Registry::new("weir_agent")),
        definitions_due: &mut delivery.definitions_due,
    };
    resume.at(welcome).map(drop)
}

/// Mutations, each red: the counts not compared, a Skip compared with nothing, a Skip of the sink's taken for any
/// batch of ours, the letters not asked.
#[tokio::test]
async fn a_fork_is_seen_where_a_skip_is_last_on_either_side() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, stream) = with_a_skip(dir.path()).await;
    let here = (&spool, &*stream);
    let of_another = [
        ("our Skip, a batch there", (4, 77, 35)),
        ("our batch, a Skip there", (5, 0, 45)),
        ("another Skip, fewer readings", (4, 0, 33)),
        ("another Skip, more than there are", (4, 0, 400)),
        (
            "more readings before the same batch",
            (5, crc(&stream, 5), 60),
        ),
    ];
    for (case, said) in of_another {
        let outcome = welcomed(here, said);
        let forked = matches!(outcome, Err(Failure::Forked(_)));
        assert!(forked, "{case}: {outcome:?}");
        assert_eq!(stream.account().acked_through, 0, "{case}");
    }
    welcomed(here, (3, crc(&stream, 3), 30)).unwrap();
    welcomed(here, (4, 0, 35)).unwrap();
    // Refused, its letter kept, the ack of the Skip in its place lost.
    set_aside(&spool, &stream, 5, ("malformed", "as the test says")).unwrap();
    welcomed(here, (5, 0, 45)).unwrap();
    assert_eq!(stream.account().acked_through, 5);
}

/// Mutations: an end that is not looked at, or before what the sink has is settled; a stream that ended where the sink has it taken for a fork.
#[tokio::test]
async fn a_stream_that_a_copy_has_closed_before_its_end_has_forked() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, stream) = with_a_skip(dir.path()).await;
    let here = (&spool, &*stream);
    let closed_after = |durable_through, readings_through| v1::Welcome {
        durable_through,
        durable_crc: crc_or_skip(&stream, durable_through),
        readings_through,
        closed: true,
        ..v1::Welcome::default()
    };
    let forked = |outcome| matches!(outcome, Err(Failure::Forked(_)));
    assert!(forked(answered(here, &closed_after(3, 30))));
    assert_eq!(stream.account().acked_through, 3, "it has that");
    assert!(
        forked(answered(here, &closed_after(5, 45))),
        "more will come"
    );
    spool.finish().await.unwrap();
    assert!(forked(answered(here, &closed_after(4, 35))));
    answered(here, &closed_after(5, 45)).unwrap();
}

fn crc_or_skip(stream: &Stream, sequence: u64) -> u32 {
    if sequence == 4 {
        0
    } else {
        crc(stream, sequence)
    }
}

/// A stream has forked, and the disk has no room for a copy of it: what waits behind it goes first, and makes room.
///
/// Mutations, each red: the stream asked again and again, and the others never; never asked again.
#[tokio::test]
async fn a_fork_that_finds_no_room_does_not_hold_up_the_others() {
    let (memory, _config, spool) = no_room_for_a_copy().await;
    let sink = Sink::start().await;
    for n in 2..=4 {
        spool.append(first_draft(10)).await.unwrap();
        spool.append(draft(n, 10)).await.unwrap();
    }
    committed(&spool).await;
    let files = memory.paths();
    let used = files.iter().map(|path| memory.read(path).unwrap().len());
    memory.set_capacity(Some(used.sum::<usize>() as u64));
    let forked = spool.streams()[0].id;
    let other_half = sink::Kept {
        durable_through: 9,
        durable_crc: 77,
        ..sink::Kept::default()
    };
    sink.lock().streams.insert(forked.to_vec(), other_half);
    let in_order = SenderConfig {
        order: Order::OldestFirst,
        ..sender_config(sink.url())
    };
    let running = start(&spool, in_order);
    let live = running.stream;
    until("the other one is delivered", || {
        sink.kept(live).stored_readings() == 60
    })
    .await;
    assert_eq!(spool.streams()[0].id, forked);
    memory.set_capacity(None);
    until("the forked one is delivered, too", || {
        spool.ledger().totals.spooled == 0
    })
    .await;
    assert_eq!(sink.kept(live).stored_readings(), 60);
    check(&sink, &spool);
    running.stop().await;
}
