//! What leaves, when, and that it is counted.

use super::*;
use crate::audit::audit;
use crate::fold::tests::sender::{Sender, seconds};
use crate::fold::tests::world::{NOON, Running, World};
use crate::model::DEFAULT_TENANT;

const DAY: Duration = Duration::from_secs(86_400);

fn retention(world: &World, sink: &Running) -> Retention {
    Retention {
        catalog: sink.catalog.clone(),
        store: sink.store.clone(),
        clock: Arc::clone(&world.clock) as _,
        fold: sink.fold.clone(),
        lease_epoch: sink.lease_epoch,
        days: Some(3),
        grace: Duration::from_secs(60),
    }
}

#[tokio::test]
async fn whole_days_go_by_when_they_were_received_and_the_audit_still_closes() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    // Observed long ago, received now: stays as long as what was observed now.
    let old = [NOON - 400 * DAY_NS, NOON];
    let number = sink
        .deliver(&sender.numbers("pump", &["speed"], &old))
        .await;
    sink.folded(number).await;
    sink.flush().await;
    world.clock.advance(DAY);
    sender.received_ns = NOON + DAY_NS;
    let kept = sender.sent.len();
    let number = sink
        .deliver(&sender.numbers("pump", &["speed"], &seconds(86_400, 5)))
        .await;
    sink.folded(number).await;
    sink.flush().await;

    let retention = retention(&world, &sink);
    world.clock.advance(2 * DAY);
    assert_eq!(
        retention.expire().await.expect("looked"),
        0,
        "three whole days are kept"
    );
    world.clock.advance(DAY);
    assert_eq!(retention.expire().await.expect("expired"), 2);
    assert_eq!(retention.expire().await.expect("looked"), 0, "counted once");
    assert_eq!(sink.readings().await, sender.sent[kept..]);
    let lines = audit(&sink.catalog, &sink.store).await.expect("audited");
    assert_eq!(
        (lines[0].stored, lines[0].in_files, lines[0].expired),
        (7, 5, 2)
    );
    assert_eq!(lines[0].unexplained(), 0);

    assert_eq!(sink.store.list().await.expect("listed").len(), 2);
    assert_eq!(
        retention.delete_removed().await.expect("looked"),
        0,
        "a query may still read it"
    );
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(retention.delete_removed().await.expect("deleted"), 1);
    assert_eq!(retention.delete_removed().await.expect("looked"), 0);
    let left = sink.store.list().await.expect("listed");
    assert_eq!(left, [sink.fold.view(DEFAULT_TENANT).files[0].path.clone()]);
    sink.stop().await.expect("stops");
}

#[tokio::test]
async fn an_object_nobody_knows_is_reported_and_stays() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    let number = sink
        .deliver(&sender.numbers("pump", &["speed"], &seconds(0, 5)))
        .await;
    sink.folded(number).await;
    sink.flush().await;
    let stranger = "samples/tenant=default/date=2026-03-01/stranger.parquet";
    sink.store
        .put(stranger, bytes::Bytes::from_static(b"?"))
        .await
        .expect("put");
    let retention = retention(&world, &sink);
    assert_eq!(retention.unknown().await.expect("looked"), [stranger]);
    world.clock.advance(10 * DAY);
    retention.sweep().await.expect("swept");
    retention.expire().await.expect("expired");
    retention.delete_removed().await.expect("deleted");
    world.clock.advance(DAY);
    retention.delete_removed().await.expect("deleted");
    assert_eq!(sink.store.list().await.expect("listed"), [stranger]);
    sink.stop().await.expect("stops");
}

#[tokio::test]
async fn an_audit_names_a_file_that_is_missing() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    let number = sink
        .deliver(&sender.numbers("pump", &["speed"], &seconds(0, 5)))
        .await;
    sink.folded(number).await;
    sink.flush().await;
    let path = sink.fold.view(DEFAULT_TENANT).files[0].path.clone();
    sink.store.delete(&path).await.expect("deleted");
    let lines = audit(&sink.catalog, &sink.store).await.expect("audited");
    assert_eq!(lines[0].unexplained(), 5);
    assert!(lines[0].faults[0].contains(&path), "{:?}", lines[0].faults);
    sink.stop().await.expect("stops");
}
