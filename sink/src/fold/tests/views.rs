//! What views keep from one to the next, and that it shows nowhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};

use super::sender::{Sender, seconds};
use super::world::{Reading, Running, World, readings_of};
use crate::envelope::Envelope;

fn names(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|i| format!("m{i:04}")).collect()
}

async fn send(sink: &Running, sender: &mut Sender, metrics: std::ops::Range<usize>, at: i64) {
    let names = names(metrics);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let number = sink
        .deliver(&sender.numbers("pump", &names, &seconds(at, 1)))
        .await;
    sink.folded(number).await;
}

/// The last of each series, by what the sender remembers.
fn last_of(sender: &Sender) -> Vec<Reading> {
    let mut last = BTreeMap::new();
    for one in &sender.sent {
        last.insert((one.0.clone(), one.1.clone()), one.clone());
    }
    last.into_values().collect()
}

fn latest(batches: &[RecordBatch]) -> Vec<Reading> {
    let mut found = Vec::new();
    for batch in batches {
        readings_of(batch, &mut found);
    }
    found.sort();
    found
}

fn is_same(a: &RecordBatch, b: &RecordBatch, column: &str) -> bool {
    let data = |batch: &RecordBatch| batch.column_by_name(column).expect("there").to_data();
    data(a).ptr_eq(&data(b))
}

/// Three blocks of series, of which one changes. Red when a block that changed is shown as it was, when one that did not
/// is made anew, and when what names the series is kept though a series has come.
#[tokio::test]
async fn only_what_changed_of_the_latest_values_is_made_anew() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    send(&sink, &mut sender, 0..2100, 0).await;
    let first = sink.fold.view("default");
    assert_eq!(first.latest.len(), 3);
    assert_eq!(latest(&first.latest), last_of(&sender));

    send(&sink, &mut sender, 1500..1510, 1).await;
    let second = sink.fold.view("default");
    assert_eq!(latest(&second.latest), last_of(&sender));
    for block in [0, 2] {
        let (old, new) = (&first.latest[block], &second.latest[block]);
        assert!(is_same(old, new, "value") && is_same(old, new, "metric"));
    }
    let (old, new) = (&first.latest[1], &second.latest[1]);
    assert!(is_same(old, new, "metric") && !is_same(old, new, "value"));

    send(&sink, &mut sender, 2100..2105, 2).await;
    let third = sink.fold.view("default");
    assert_eq!(latest(&third.latest), last_of(&sender));
    assert!(is_same(&second.latest[1], &third.latest[1], "value"));
    sink.flush().await;
    sink.kill().await;
    let sink = world.start().await;
    let after = sink.fold.view("default");
    assert_eq!(latest(&after.latest), last_of(&sender), "after a restart");
    send(&sink, &mut sender, 3..4, 3).await;
    assert_eq!(latest(&sink.fold.view("default").latest), last_of(&sender));
    sink.stop().await.expect("stops");
}

/// Red when a view that was made without latest values is taken for one that has them.
#[tokio::test]
async fn latest_values_are_there_for_whoever_wants_them() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    send(&sink, &mut sender, 0..5, 0).await;
    let rows = sink.fold.view_of_rows("default");
    assert_eq!((rows.latest.len(), rows.fresh[0].num_rows()), (0, 5));
    let view = sink.fold.view("default");
    assert_eq!(latest(&view.latest), last_of(&sender));
    assert_eq!(view.fresh.len(), 1, "the rows are those of before");
    let again = sink.fold.view_of_rows("default");
    assert!(Arc::ptr_eq(&view, &again), "nothing has changed");
    sink.stop().await.expect("stops");
}

/// Mutations: an old view is taken for the last; one without latest values for one with them.
#[tokio::test]
async fn a_view_is_at_hand_until_something_changes() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    send(&sink, &mut sender, 0..3, 0).await;
    assert!(sink.fold.view_at_hand("default", false).is_none());
    let made = sink.fold.view_of_rows("default");
    let found = sink.fold.view_at_hand("default", false).expect("made");
    assert!(Arc::ptr_eq(&made, &found));
    assert!(sink.fold.view_at_hand("default", true).is_none());
    assert!(sink.fold.view_at_hand("other", false).is_none());

    send(&sink, &mut sender, 0..3, 1).await;
    assert!(sink.fold.view_at_hand("default", false).is_none());
    let made = sink.fold.view("default");
    let found = sink.fold.view_at_hand("default", true).expect("made");
    assert!(Arc::ptr_eq(&made, &found));
}

fn of_tenant(envelope: Envelope, tenant: &str) -> Envelope {
    Envelope {
        tenant: tenant.into(),
        ..envelope
    }
}

/// Twelve tenants, more than are kept, take turns; of each two series. Red when the rows that one was shown count as
/// shown to another, when a flush leaves rows in what is kept of one that did not ask meanwhile, or when all are kept.
#[tokio::test]
async fn tenants_that_take_turns_see_their_own_rows_once() {
    let world = World::new();
    let sink = world.start().await;
    let mut tenants: Vec<(String, Sender)> = (0..12)
        .map(|i| (format!("tenant-{i}"), Sender::new(i)))
        .collect();
    let rows = |sink: &Running, tenant: &str| {
        let view = sink.fold.view(tenant);
        let fresh: usize = view.fresh.iter().map(RecordBatch::num_rows).sum();
        let files: u64 = view.files.iter().map(|file| file.rows).sum();
        (fresh as u64 + files, latest(&view.latest))
    };
    for round in 0..4 {
        for (tenant, sender) in &mut tenants {
            let batch = sender.numbers("pump", &["speed", "load"], &seconds(round, 1));
            let number = sink.deliver(&of_tenant(batch, tenant)).await;
            sink.folded(number).await;
        }
        if round == 2 {
            sink.flush().await;
        }
        // The last to ask are the first to ask again, and so among those that are kept.
        tenants.reverse();
        for (tenant, sender) in &tenants {
            let (count, last) = rows(&sink, tenant);
            assert_eq!((count, last), (sender.sent.len() as u64, last_of(sender)));
        }
    }
    sink.stop().await.expect("stops");
}
