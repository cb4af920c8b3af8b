//! Crashes, foreign hands and failing disks around a flush.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use super::sender::{Sender, seconds};
use super::world::{Running, World, until};
use crate::catalog::CatalogError;
use crate::fold::FoldError;
use crate::retention::Retention;

async fn execute(sink: &Running, sql: &'static str) {
    sqlx::raw_sql(sql)
        .execute(sink.database.pool())
        .await
        .expect("executed");
}

#[tokio::test]
async fn a_kill_before_the_flush_changes_nothing() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    sink.deliver(&sender.numbers("pump", &["speed"], &seconds(0, 3)))
        .await;
    sink.flush().await;
    let number = sink
        .deliver(&sender.numbers("pump", &["speed"], &seconds(3, 4)))
        .await;
    sink.folded(number).await;
    let before = (sink.readings().await, sink.fold.streams());
    sink.kill().await;
    let sink = world.start().await;
    sink.folded(number).await;
    assert_eq!((sink.readings().await, sink.fold.streams()), before);
    assert_eq!(before.0, sender.sorted());
    sink.stop().await.expect("stops");
}

#[tokio::test]
async fn a_crash_between_put_and_commit_leaves_an_orphan_that_is_swept_in_time() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    let number = sink
        .deliver(&sender.numbers("pump", &["speed"], &seconds(0, 3)))
        .await;
    sink.folded(number).await;
    execute(
        &sink,
        "CREATE TRIGGER no BEFORE UPDATE ON positions BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    .await;
    sink.fold.flush();
    until("a commit has failed", || sink.fold.flushes().failures > 0).await;
    assert_eq!(
        sink.readings().await,
        sender.sorted(),
        "rows stay visible meanwhile"
    );
    assert!(world.health.ready().is_err());
    execute(&sink, "DROP TRIGGER no").await;
    let orphan = sink.store.list().await.expect("listed");
    assert_eq!(orphan.len(), 1);
    // The pool goes first: the flush that is trying again cannot commit any more.
    sink.kill().await;

    let sink = world.start().await;
    sink.folded(number).await;
    let flushed = sink.fold.view("default").files.len();
    if flushed == 0 {
        sink.flush().await;
    }
    assert_eq!(sink.readings().await, sender.sorted());
    let retention = |world: &World| Retention {
        catalog: sink.catalog.clone(),
        store: sink.store.clone(),
        clock: std::sync::Arc::clone(&world.clock) as _,
        fold: sink.fold.clone(),
        lease_epoch: sink.lease_epoch,
        days: None,
        grace: std::time::Duration::ZERO,
    };
    assert_eq!(
        retention(&world).sweep().await.expect("swept"),
        0,
        "its writer may still live"
    );
    world.clock.advance(std::time::Duration::from_secs(601));
    retention(&world).sweep().await.expect("swept");
    let files = Arc::clone(&sink.fold.view("default").files);
    let left = sink.store.list().await.expect("listed");
    assert_eq!(
        left,
        files
            .iter()
            .map(|file| file.path.clone())
            .collect::<Vec<_>>()
    );
    assert_eq!(sink.readings().await, sender.sorted());
    sink.stop().await.expect("stops");
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_not_done_twice() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    let number = sink
        .deliver(&sender.numbers("pump", &["speed"], &seconds(0, 3)))
        .await;
    sink.flush().await;
    sink.folded(number).await;
    let at = sink.catalog.position().await.expect("read").expect("there");
    assert_eq!(at.number, number);
    let commit = crate::catalog::Commit {
        expected: crate::catalog::Position { number: 0, ..at },
        through: number,
        files: Vec::new(),
        streams: Vec::new(),
        series: Vec::new(),
        definitions: Vec::new(),
        snapshot: (1, Vec::new()),
        dead: Vec::new(),
        losses: Vec::new(),
        now_ns: 0,
    };
    let again = sink.catalog.commit(&commit).await;
    assert!(
        matches!(again, Err(CatalogError::Moved { .. })),
        "{again:?}"
    );
    // The flush that tries again finds that it was done; one from elsewhere finds it was not.
    let flush = crate::fold::flush::Flush {
        catalog: sink.catalog.clone(),
        store: sink.store.clone(),
        clock: std::sync::Arc::clone(&world.clock) as _,
        stage: world.health.stage("flush", None),
        shared: std::sync::Arc::clone(&sink.fold.shared),
        retry: World::quiet().retry,
        token: tokio_util::sync::CancellationToken::new(),
    };
    flush.attempt(&[], &commit).await.expect("it is done");
    let elsewhere = crate::catalog::Commit {
        through: number + 1,
        ..commit
    };
    let refused = flush.attempt(&[], &elsewhere).await;
    assert!(
        matches!(refused, Err(FoldError::Catalog(CatalogError::Moved { .. }))),
        "{refused:?}"
    );
    assert_eq!(sink.catalog.live_files().await.expect("read").len(), 1);
    assert_eq!(sink.readings().await, sender.sorted());
    sink.stop().await.expect("stops");
}

#[tokio::test]
async fn a_fold_that_lost_its_lease_ends_without_a_trace() {
    let world = World::new();
    let mut sink = world.start().await;
    let mut sender = Sender::new(1);
    let number = sink
        .deliver(&sender.numbers("pump", &["speed"], &seconds(0, 3)))
        .await;
    sink.folded(number).await;
    let before = sink
        .catalog
        .take_over(sink.journal.id())
        .await
        .expect("taken over");
    sink.fold.flush();
    let ended = sink.ended().await;
    assert!(
        matches!(ended, Err(FoldError::Catalog(CatalogError::Moved { .. }))),
        "{ended:?}"
    );
    assert!(world.health.live().is_err());
    assert_eq!(sink.catalog.position().await.expect("read"), Some(before));
    assert!(sink.catalog.live_files().await.expect("read").is_empty());
    sink.kill().await;
}

#[tokio::test]
async fn a_failing_store_holds_rows_back_within_bounds_and_loses_none() {
    let world = World::new();
    let mut config = World::quiet();
    config.flush_rows = 10;
    config.max_buffer_bytes = 4000;
    let sink = world.start_with(config).await.expect("opens");
    let samples = world.dir.path().join("store/samples");
    fs::write(&samples, b"in the way").expect("written");
    let mut sender = Sender::new(1);
    let mut last = 0;
    for i in 0..40 {
        last = sink
            .deliver(&sender.numbers("pump", &["speed"], &seconds(i * 10, 10)))
            .await;
    }
    until("a flush has failed", || sink.fold.flushes().failures > 1).await;
    let reason = world.health.ready().expect_err("not ready")[0]
        .reason
        .clone();
    assert!(reason.contains("samples"), "{reason}");
    assert!(sink.fold.position() < last, "the fold waits");
    assert!(sink.fold.buffered().1 < 5000, "{:?}", sink.fold.buffered());

    fs::remove_file(&samples).expect("removed");
    sink.folded(last).await;
    until("it is well again", || world.health.ready().is_ok()).await;
    assert_eq!(sink.readings().await, sender.sorted());
    sink.stop().await.expect("stops");
    let sink = world.start().await;
    assert_eq!(sink.readings().await, sender.sorted());
    sink.stop().await.expect("stops");
}

#[tokio::test]
async fn a_stop_flushes_what_is_folded() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    let number = sink
        .deliver(&sender.numbers("pump", &["speed"], &seconds(0, 3)))
        .await;
    sink.folded(number).await;
    sink.stop().await.expect("stops");
    let catalog = world.catalog().await;
    assert_eq!(catalog.live_files().await.expect("read").len(), 1);
    assert_eq!(
        catalog
            .position()
            .await
            .expect("read")
            .expect("there")
            .number,
        number
    );
}

/// A stop finds a flush in its pause after a failure, and newer rows behind it, while the store is
/// well again. Red when the newer rows are flushed: the position passes the rows of the first flush
/// and the journal lets them go.
#[tokio::test]
async fn a_stop_during_a_failed_flush_commits_nothing_past_it() {
    let world = World::new();
    let mut config = World::quiet();
    config.retry = (Duration::from_secs(3600), Duration::from_secs(3600));
    let sink = world.start_with(config).await.expect("opens");
    let samples = world.dir.path().join("store/samples");
    fs::write(&samples, b"in the way").expect("written");
    let mut sender = Sender::new(1);
    let first = sink
        .deliver(&sender.numbers("pump", &["speed"], &seconds(0, 3)))
        .await;
    sink.folded(first).await;
    sink.fold.flush();
    until("the flush has failed", || sink.fold.flushes().failures > 0).await;
    fs::remove_file(&samples).expect("removed");
    let second = sink
        .deliver(&sender.numbers("fan", &["speed"], &seconds(10, 3)))
        .await;
    sink.folded(second).await;
    sink.stop().await.expect("a stop is no failure");

    let sink = world.start().await;
    sink.folded(second).await;
    assert_eq!(sink.readings().await, sender.sorted());
    sink.stop().await.expect("stops");
}
