//! Journals that are new, old, damaged or too short for their catalog.

use std::fs;

use super::sender::{Sender, seconds};
use super::world::World;
use crate::fold::FoldError;

#[tokio::test]
async fn a_new_journal_begins_at_zero_and_the_old_rest_is_recorded_as_lost() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    let number = sink
        .deliver(&sender.numbers("pump", &["speed"], &seconds(0, 3)))
        .await;
    sink.folded(number).await;
    sink.flush().await;
    let old = sink.journal.id();
    sink.stop().await.expect("stops");
    fs::remove_dir_all(world.dir.path().join("journal")).expect("removed");
    let sink = world.start().await;
    let losses = sink.catalog.journal_losses().await.expect("read");
    assert_eq!((losses[0].journal_id, losses[0].from), (old, number + 1));
    let number = sink
        .deliver(&sender.numbers("pump", &["speed"], &seconds(3, 3)))
        .await;
    assert_eq!(number, 1);
    sink.folded(number).await;
    sink.flush().await;
    assert_eq!(sink.readings().await, sender.sorted());
    assert_eq!(sink.fold.streams()[0].unexplained(), 0);
    sink.stop().await.expect("stops");
}

#[tokio::test]
async fn a_catalog_that_does_not_belong_to_the_journal_is_refused_by_name() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    let number = sink
        .deliver(&sender.numbers("pump", &["speed"], &seconds(0, 3)))
        .await;
    sink.folded(number).await;
    sink.flush().await;
    sqlx::raw_sql("UPDATE positions SET position = 5")
        .execute(sink.database.pool())
        .await
        .expect("updated");
    sink.kill().await;
    let refused = world
        .start_with(World::quiet())
        .await
        .err()
        .expect("refused");
    assert!(
        matches!(
            refused,
            FoldError::RolledBack {
                position: 5,
                next: 2
            }
        ),
        "{refused}"
    );
}

#[tokio::test]
async fn records_that_are_gone_keep_the_fold_shut_until_an_operator_gives_them_up() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    let number = sink
        .deliver(&sender.numbers("pump", &["speed"], &seconds(0, 3)))
        .await;
    sink.folded(number).await;
    sink.flush().await;
    sink.kill().await;
    let gone = without_first_segment(&world, &mut sender).await;
    let refused = world
        .start_with(World::quiet())
        .await
        .err()
        .expect("refused");
    assert!(
        matches!(refused, FoldError::Missing { position: 1, .. }),
        "{refused}"
    );
    let (journal, committer) = world.journal();
    let committer = committer.spawn().expect("a thread");
    let catalog = world.catalog().await;
    let lost = crate::fold::recover(&journal, &catalog)
        .await
        .expect("recovered");
    assert_eq!(lost, Some((2, gone)));
    assert_eq!(
        crate::fold::recover(&journal, &catalog)
            .await
            .expect("looked"),
        None
    );
    journal.close();
    committer.join().expect("ends");

    let sink = world.start().await;
    sink.folded(11).await;
    let ledger = &sink.fold.streams()[0];
    let batches_lost = (2..=gone).filter(|number| number % 2 == 0).count();
    assert_eq!(
        ledger.unexplained(),
        9 * i64::try_from(batches_lost).expect("few")
    );
    assert_eq!(ledger.watermark, 6);
    sink.stop().await.expect("stops");
}

#[tokio::test]
async fn damage_in_the_journal_shows_as_unexplained_and_the_rest_is_folded() {
    let world = World::new();
    let (journal, committer) = world.journal();
    let committer = committer.spawn().expect("a thread");
    let mut sender = Sender::new(1);
    let mut bodies = Vec::new();
    for i in 0..5 {
        let envelope = sender.numbers("pump", &["speed"], &seconds(i * 10, 10));
        let body = prost::Message::encode_to_vec(&envelope);
        let number = journal
            .append(crate::envelope::KIND, &[&body])
            .await
            .expect("appended");
        journal.committed(number).await.expect("committed");
        bodies.push(body);
    }
    journal.close();
    committer.join().expect("ends");
    flip(&world, &bodies[2]);
    sender.sent.retain(|one| !seconds(20, 10).contains(&one.4));

    let sink = world.start().await;
    sink.folded(5).await;
    assert_eq!(sink.fold.counts().journal_lost, 1);
    assert_eq!(sink.fold.streams()[0].unexplained(), 10);
    assert_eq!(sink.readings().await, sender.sorted());
    sink.flush().await;
    let losses = sink.catalog.journal_losses().await.expect("read");
    assert_eq!(
        (losses[0].from, losses[0].through, losses[0].reason.as_str()),
        (3, 3, "damaged")
    );
    sink.stop().await.expect("stops");
}

/// Changes one bit in the middle of `body`, wherever the journal has it.
fn flip(world: &World, body: &[u8]) {
    for entry in fs::read_dir(world.dir.path().join("journal")).expect("a directory") {
        let path = entry.expect("an entry").path();
        let Ok(mut bytes) = fs::read(&path) else {
            continue;
        };
        let found = bytes.windows(body.len()).position(|window| window == body);
        if let Some(at) = found {
            bytes[at + body.len() / 2] ^= 1;
            fs::write(&path, bytes).expect("written");
            return;
        }
    }
    panic!("the record is in no segment");
}

/// Batches between fillers that make segments full, and the first segment gone: its last number.
async fn without_first_segment(world: &World, sender: &mut Sender) -> u64 {
    let (journal, committer) = world.journal();
    let committer = committer.spawn().expect("a thread");
    let large = || weir_proto::batch::Values::Texts(vec!["x".repeat(60); 1]);
    let mut wide = |from: i64| {
        let names: Vec<String> = (0..9).map(|i| format!("text.{i}")).collect();
        let columns = names.iter().map(|name| (name.as_str(), large())).collect();
        sender.batch("pump", columns, &seconds(from, 1))
    };
    for i in 0..5 {
        let envelope = wide(i);
        let body = prost::Message::encode_to_vec(&envelope);
        let filler = vec![0u8; 600_000];
        journal
            .append(crate::envelope::KIND, &[&body])
            .await
            .expect("appended");
        let number = journal.append(9, &[&filler]).await.expect("appended");
        journal.committed(number).await.expect("committed");
    }
    let gone = journal
        .drop_oldest()
        .expect("dropped")
        .expect("a sealed segment");
    assert_eq!(gone.0, 1);
    journal.close();
    committer.join().expect("ends");
    gone.1
}

/// Fails when `recover` looks only at journals that the catalog has a position of.
#[tokio::test]
async fn records_before_a_journal_the_catalog_never_saw_can_be_given_up() {
    let world = World::new();
    let mut sender = Sender::new(1);
    let gone = without_first_segment(&world, &mut sender).await;
    let refused = world
        .start_with(World::quiet())
        .await
        .err()
        .expect("refused");
    assert!(
        matches!(refused, FoldError::Missing { position: 0, .. }),
        "{refused}"
    );
    // What a catalog of another life stands at does not matter.
    fs::remove_file(world.dir.path().join("catalog.sqlite")).expect("removed");
    let (journal, committer) = world.journal();
    let committer = committer.spawn().expect("a thread");
    let lost = crate::fold::recover(&journal, &world.catalog().await)
        .await
        .expect("recovered");
    assert_eq!(lost, Some((1, gone)));
    journal.close();
    committer.join().expect("ends");
    let sink = world.start().await;
    sink.folded(10).await;
    assert_eq!(sink.fold.streams()[0].watermark, 5);
    sink.stop().await.expect("stops");
}
