//! The fold end to end: what was sent is what is there, once, whatever happens between.

mod clocks;
mod forgotten;
mod hostile;
mod journals;
mod lost;
mod recovery;
pub(crate) mod sender;
mod streams;
mod views;
pub(crate) mod world;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use weir_proto::batch::Values;

use self::sender::{Sender, seconds};
use self::world::{NOON, SECOND, World, readings_of};
use crate::audit::audit;
use crate::model::DEFAULT_TENANT;

#[tokio::test]
async fn fresh_rows_are_visible_before_and_after_their_flush() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    let first = sink
        .deliver(&sender.numbers("pump", &["speed", "load"], &seconds(0, 10)))
        .await;
    sink.folded(first).await;
    assert_eq!(sink.readings().await, sender.sorted());
    assert!(sink.fold.view(DEFAULT_TENANT).files.is_empty());

    let second = sink
        .deliver(&sender.numbers("pump", &["speed", "load"], &seconds(10, 5)))
        .await;
    sink.folded(second).await;
    assert_eq!(
        sink.readings().await,
        sender.sorted(),
        "only the new rows were added to the view"
    );

    sink.flush().await;
    let view = sink.fold.view(DEFAULT_TENANT);
    assert_eq!((view.files.len(), view.fresh.len()), (1, 0));
    assert_eq!(sink.readings().await, sender.sorted());
    sink.stop().await.expect("stops");
}

#[tokio::test]
async fn a_record_read_from_the_journal_gives_what_a_handed_over_one_gives() {
    let mut results = Vec::new();
    for handed_over in [true, false] {
        let world = World::new();
        let sink = world.start().await;
        let mut sender = Sender::new(1);
        for i in 0..5 {
            let envelope = sender.numbers("pump", &["speed"], &seconds(i * 3, 3));
            let number = match handed_over {
                true => sink.deliver(&envelope).await,
                false => sink.journal(&envelope).await,
            };
            sink.folded(number).await;
        }
        assert_eq!(sink.readings().await, sender.sorted());
        results.push((sink.fold.streams(), sink.readings().await));
        sink.stop().await.expect("stops");
    }
    assert_eq!(results[0], results[1]);
}

#[tokio::test]
async fn texts_numbers_late_and_early_readings_all_come_back() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    let odd = [
        f64::NAN,
        -0.0,
        f64::INFINITY,
        f64::from_bits(0x7ff8_0000_0000_1234),
    ];
    let texts = ["on", "", "off", "größer"].map(String::from);
    let times = [NOON + 3 * SECOND, NOON, NOON + SECOND, NOON];
    let columns = vec![
        ("speed", Values::Numbers(odd.to_vec())),
        ("state", Values::Texts(texts.to_vec())),
    ];
    sink.deliver(&sender.batch("pump", columns, &times)).await;
    let day = 86_400 * SECOND;
    // 1970, last week, yesterday, tomorrow and a bit.
    let far = [1, NOON - 7 * day, NOON - day, NOON + day + SECOND];
    let number = sink
        .deliver(&sender.numbers("pump", &["speed"], &far))
        .await;
    sink.folded(number).await;
    assert_eq!(sink.readings().await, sender.sorted());
    sink.flush().await;
    assert_eq!(sink.readings().await, sender.sorted());
    let dates: Vec<String> = sink
        .fold
        .view(DEFAULT_TENANT)
        .files
        .iter()
        .map(|file| file.date.clone())
        .collect();
    assert_eq!(
        dates,
        ["2026-02-28", "2026-03-01"],
        "wrong clocks make no days of their own"
    );
    sink.stop().await.expect("stops");
}

#[tokio::test]
async fn latest_is_by_observed_time_and_survives_a_restart() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    sink.deliver(&sender.numbers("pump", &["speed"], &seconds(100, 2)))
        .await;
    sink.flush().await;
    let late = sender.numbers("pump", &["speed"], &seconds(0, 2));
    let number = sink.deliver(&late).await;
    sink.folded(number).await;
    let latest = |sink: &world::Running| {
        let mut found = Vec::new();
        for batch in &sink.fold.view(DEFAULT_TENANT).latest {
            readings_of(batch, &mut found);
        }
        found
    };
    let expected = sender
        .sent
        .iter()
        .filter(|one| one.4 == NOON + 101 * SECOND)
        .cloned();
    let expected: Vec<_> = expected.collect();
    assert_eq!(latest(&sink), expected);
    sink.kill().await;
    let sink = world.start().await;
    sink.folded(number).await;
    assert_eq!(latest(&sink), expected);

    // The same moment again, in a later batch: the later one counts.
    let again = sender.numbers("pump", &["speed"], &seconds(101, 1));
    let number = sink.deliver(&again).await;
    sink.folded(number).await;
    assert_eq!(latest(&sink), [sender.sent.last().expect("sent").clone()]);
    sink.stop().await.expect("stops");
}

/// Batches, duplicates, skips, flushes and kills in random order: every reading is there once.
#[tokio::test]
async fn rows_in_files_and_fresh_are_what_was_sent_whatever_happens_between() {
    for seed in 0..6 {
        let mut random = StdRng::seed_from_u64(seed);
        let world = World::new();
        let mut sink = world.start().await;
        let mut senders = [Sender::new(1), Sender::new(2), Sender::new(3)];
        let mut old = Vec::new();
        let mut last = 0;
        for _ in 0..60 {
            let sender = &mut senders[random.random_range(0..3)];
            match random.random_range(0..12) {
                0..7 => {
                    let times = seconds(random.random_range(0..90_000), random.random_range(1..20));
                    let device = ["pump", "fan"][random.random_range(0..2)];
                    let envelope = sender.numbers(device, &["speed", "load"], &times);
                    last = match random.random::<bool>() {
                        true => sink.deliver(&envelope).await,
                        false => sink.journal(&envelope).await,
                    };
                    old.push(envelope);
                }
                7 if !old.is_empty() => {
                    let envelope = &old[random.random_range(0..old.len())];
                    last = sink.deliver(envelope).await;
                }
                8 => {
                    let skip = sender.skip(2, 5, weir_proto::v1::DropReason::SpoolOldest);
                    last = sink.deliver(&skip).await;
                }
                9 | 10 => {
                    sink.folded(last).await;
                    if sink.fold.buffered().0 > 0 {
                        sink.flush().await;
                    }
                }
                _ => {
                    sink.kill().await;
                    sink = world.start().await;
                }
            }
        }
        sink.folded(last).await;
        let mut sent: Vec<_> = senders
            .iter()
            .flat_map(|sender| sender.sent.clone())
            .collect();
        sent.sort();
        assert_eq!(sink.readings().await, sent, "seed {seed}");
        for ledger in sink.fold.streams() {
            assert_eq!(ledger.unexplained(), 0, "seed {seed}");
        }
        sink.stop().await.expect("stops");
        let lines = audit(&world.catalog().await, &world.store())
            .await
            .expect("audited");
        assert_eq!(
            (lines[0].unexplained(), lines[0].in_files),
            (0, sent.len() as u64)
        );
        assert!(lines[0].faults.is_empty());
    }
}
