//! Merging changes no row.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::audit::audit;
use crate::catalog::Extent;
use crate::fold::tests::sender::{Sender, seconds};
use crate::fold::tests::world::{Running, World};
use crate::model::DEFAULT_TENANT;

fn compactor(world: &World, sink: &Running, min_files: usize) -> Compactor {
    Compactor {
        catalog: sink.catalog.clone(),
        store: sink.store.clone(),
        clock: Arc::clone(&world.clock) as _,
        fold: sink.fold.clone(),
        lease_epoch: sink.lease_epoch,
        min_files,
        max_rows: 1 << 20,
        faults: Faults::default(),
        journals: Journals::default(),
        unsettled: None,
    }
}

async fn fill(sink: &Running, sender: &mut Sender, files: i64) {
    for i in 0..files {
        // Times overlap between files, and every second file goes back in time.
        let from = if i % 2 == 0 { i * 10 } else { i * 10 - 15 };
        let texts = weir_proto::batch::Values::Texts(vec![format!("state {i}"), "off".into()]);
        let number = sink
            .deliver(&sender.batch("fan", vec![("state", texts)], &seconds(from, 2)))
            .await;
        sink.folded(number).await;
        let number = sink
            .deliver(&sender.numbers("pump", &["speed", "load"], &seconds(from, 20)))
            .await;
        sink.folded(number).await;
        sink.flush().await;
    }
}

#[tokio::test]
async fn the_rows_of_a_merged_file_are_those_of_its_inputs() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    fill(&sink, &mut sender, 8).await;
    let before = sink.fold.view(DEFAULT_TENANT);
    assert_eq!(before.files.len(), 8);
    let mut compactor = compactor(&world, &sink, 8);
    assert!(compactor.step().await.expect("merged"));
    assert!(
        !compactor.step().await.expect("looked"),
        "one file is no reason to merge"
    );

    let view = sink.fold.view(DEFAULT_TENANT);
    assert_eq!(view.files.len(), 1);
    assert_eq!((view.files[0].from, view.files[0].through), (0, 16));
    assert_eq!(sink.readings().await, sender.sorted());
    let footer = read::provenance(
        &sink.store.get(&view.files[0].path).await.expect("read"),
        "merged",
    );
    let footer = footer.expect("a footer");
    assert_eq!(footer.streams, [(crate::model::StreamId([1; 16]), 16)]);
    for input in before.files.iter() {
        assert!(
            sink.store
                .size(&input.path)
                .await
                .expect("looked")
                .is_some(),
            "a query may read it"
        );
    }
    let lines = audit(&sink.catalog, &sink.store).await.expect("audited");
    assert_eq!((lines[0].unexplained(), lines[0].faults.len()), (0, 0));
    sink.kill().await;
    let sink = world.start().await;
    assert_eq!(sink.readings().await, sender.sorted());
    sink.stop().await.expect("stops");
}

#[tokio::test]
async fn a_merge_whose_input_expires_meanwhile_is_given_up_and_leaves_nothing() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    fill(&sink, &mut sender, 3).await;
    let inputs = sink.catalog.live_files().await.expect("read");
    let gone = sink
        .catalog
        .expire_files(&inputs[..1], 1)
        .await
        .expect("expired");
    assert_eq!((gone.len(), sink.fold.files().len()), (1, 3));
    let merged = compactor(&world, &sink, 2).merge(inputs.clone()).await;
    assert!(!merged.expect("given up"));
    assert_eq!(sink.catalog.live_files().await.expect("read"), inputs[1..]);
    let mut shown = sink.fold.files().to_vec();
    shown.sort_by(|a, b| a.path.cmp(&b.path));
    assert_eq!(shown, inputs[1..], "it would be chosen again and again");
    assert_eq!(sink.store.list().await.expect("listed").len(), 3);
    assert_eq!(sink.catalog.known_paths().await.expect("read").len(), 3);
    sink.stop().await.expect("stops");
}

/// The answer to the commit was an error, and so was the answer to the question after it.
#[tokio::test]
async fn a_merge_whose_commit_was_in_doubt_is_shown_once_the_catalog_says_so() {
    for committed in [true, false] {
        let world = World::new();
        let sink = world.start().await;
        let mut sender = Sender::new(1);
        fill(&sink, &mut sender, 3).await;
        let inputs = sink.catalog.live_files().await.expect("read");
        let mut compactor = compactor(&world, &sink, 8);
        assert!(compactor.merge(inputs.clone()).await.expect("merged"));
        let output = sink.fold.files()[0].clone();
        if !committed {
            sqlx::query("UPDATE files SET removed_at_ns = 1 WHERE path = ?")
                .bind(&output.path)
                .execute(sink.database.pool())
                .await
                .expect("out of sight");
        }
        sink.fold
            .replace_files(std::slice::from_ref(&output), inputs.clone());
        compactor.unsettled = Some(Replacement {
            inputs: inputs.clone(),
            outputs: vec![output.clone()],
        });
        assert_eq!(compactor.step().await.expect("asked"), committed);
        let shown = if committed { vec![output] } else { inputs };
        assert_eq!(*sink.fold.files(), shown);
        assert!(compactor.unsettled.is_none());
        sink.stop().await.expect("stops");
    }
}

#[tokio::test]
async fn a_merge_that_was_never_committed_is_an_orphan_under_the_next_lease() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    fill(&sink, &mut sender, 2).await;
    let stop = "CREATE TRIGGER no BEFORE UPDATE ON files BEGIN SELECT RAISE(ABORT, 'no'); END";
    sqlx::raw_sql(stop)
        .execute(sink.database.pool())
        .await
        .expect("made");
    compactor(&world, &sink, 2)
        .step()
        .await
        .expect_err("cannot commit");
    assert_eq!(sink.store.list().await.expect("listed").len(), 3);
    assert_eq!(sink.readings().await, sender.sorted());
    sqlx::raw_sql("DROP TRIGGER no")
        .execute(sink.database.pool())
        .await
        .expect("dropped");
    sink.kill().await;
    let sink = world.start().await;
    world.clock.advance(Duration::from_secs(601));
    let orphans = sink
        .catalog
        .orphans(sink.lease_epoch, world.now())
        .await
        .expect("asked");
    assert_eq!(orphans.len(), 1);
    assert_eq!(sink.readings().await, sender.sorted());
    sink.stop().await.expect("stops");
}

fn object(world: &World, file: &DataFile) -> PathBuf {
    world.dir.path().join("store").join(&file.path)
}

/// Everything there is to merge; a step that fails fails the test.
async fn merge_all(compactor: &mut Compactor) {
    while compactor.step().await.expect("no file stops the merges") {}
}

/// Changes one byte so that the file still reads as one of ours.
fn change_unnoticed(world: &World, file: &DataFile) {
    let path = object(world, file);
    let good = fs::read(&path).expect("read");
    let changed = (4..good.len()).find_map(|at| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        let bytes = Bytes::from(bytes);
        let read = reading(file, || {
            read::provenance(&bytes, &file.path)?;
            let mut source = read::Source::open(&bytes, file)?;
            while source.next(file)?.is_some() {}
            Ok(())
        });
        read.is_ok().then_some(bytes)
    });
    fs::write(path, changed.expect("Parquet does not notice all")).expect("written");
}

#[tokio::test]
async fn a_changed_byte_is_named_by_the_audit_and_not_merged_onward_until_restored() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    fill(&sink, &mut sender, 4).await;
    let files = sink.catalog.live_files().await.expect("read");
    let good = fs::read(object(&world, &files[1])).expect("read");
    change_unnoticed(&world, &files[1]);

    let lines = audit(&sink.catalog, &sink.store).await.expect("audited");
    let faults = &lines[0].faults;
    assert_eq!(faults.len(), 1, "{faults:?}");
    for part in [&files[1].path, "checksum differs: restore the file"] {
        assert!(faults[0].contains(part), "{faults:?}");
    }
    let mut compactor = compactor(&world, &sink, 2);
    merge_all(&mut compactor).await;
    let live = sink.catalog.live_files().await.expect("read");
    assert_eq!(live.len(), 2, "it, and the others as one");
    assert!(live.contains(&files[1]), "{live:?}");

    fs::write(object(&world, &files[1]), good).expect("restored");
    world.clock.advance(Duration::from_secs(3600));
    merge_all(&mut compactor).await;
    assert_eq!(sink.catalog.live_files().await.expect("read").len(), 1);
    assert_eq!(sink.readings().await, sender.sorted());
    let lines = audit(&sink.catalog, &sink.store).await.expect("audited");
    assert_eq!((lines[0].unexplained(), lines[0].faults.len()), (0, 0));
    sink.stop().await.expect("stops");
}

#[tokio::test]
async fn one_missing_file_does_not_keep_the_others_from_being_merged() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    fill(&sink, &mut sender, 4).await;
    let files = sink.catalog.live_files().await.expect("read");
    sink.store.delete(&files[2].path).await.expect("deleted");
    merge_all(&mut compactor(&world, &sink, 2)).await;
    let live = sink.catalog.live_files().await.expect("read");
    assert_eq!(live.len(), 2, "it, and the others as one");
    assert!(live.contains(&files[2]), "the catalog goes on saying so");
    let lines = audit(&sink.catalog, &sink.store).await.expect("audited");
    let held = i64::try_from(files[2].rows).expect("few");
    assert_eq!(lines[0].unexplained(), held);
    assert!(lines[0].faults[0].contains(&files[2].path));
    sink.stop().await.expect("stops");
}

#[tokio::test]
async fn a_damaged_file_from_before_checksums_is_left_out_where_it_cannot_be_read() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    fill(&sink, &mut sender, 4).await;
    sqlx::raw_sql("UPDATE files SET crc = NULL")
        .execute(sink.database.pool())
        .await
        .expect("updated");
    sink.kill().await;
    let sink = world.start().await;
    let files = sink.catalog.live_files().await.expect("read");
    assert_eq!(files[0].crc, None);
    let mut bytes = fs::read(object(&world, &files[0])).expect("read");
    bytes[4..100].fill(0xff);
    fs::write(object(&world, &files[0]), bytes).expect("written");
    fs::write(object(&world, &files[3]), b"short").expect("written");
    merge_all(&mut compactor(&world, &sink, 2)).await;
    let live = sink.catalog.live_files().await.expect("read");
    assert_eq!(live.len(), 3, "two that stay, and the others as one");
    assert!(live.contains(&files[0]) && live.contains(&files[3]));
    sink.stop().await.expect("stops");
}

/// Six files of all series become files that follow each other, and hold the same rows. Red when a file ends within the
/// rows of a series for no reason, or when the outputs overlap: the day would be merged again and again.
#[tokio::test]
async fn a_large_day_is_put_in_files_that_do_not_overlap() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    let metrics: Vec<String> = (0..9).map(|i| format!("m{i}")).collect();
    let metrics: Vec<&str> = metrics.iter().map(String::as_str).collect();
    for i in 0..6 {
        for device in ["fan", "pump"] {
            let batch = sender.numbers(device, &metrics, &seconds(i * 15 - 8 * (i % 2), 20));
            let number = sink.deliver(&batch).await;
            sink.folded(number).await;
        }
        sink.flush().await;
    }
    let mut compactor = Compactor {
        max_rows: 400,
        ..compactor(&world, &sink, 3)
    };
    merge_all(&mut compactor).await;
    let view = sink.fold.view(DEFAULT_TENANT);
    let mut extents: Vec<&Extent> = view.files.iter().flat_map(|f| &f.extent).collect();
    extents.sort_by_key(|extent| &extent.first);
    assert!(view.files.iter().all(|file| file.rows >= 200));
    assert_eq!(extents.len(), view.files.len());
    assert!(extents.len() >= 4, "{extents:?}");
    for pair in extents.windows(2) {
        assert!(pair[0].last < pair[1].first, "{extents:?}");
    }
    assert_eq!(sink.readings().await, sender.sorted());
    let lines = audit(&sink.catalog, &sink.store).await.expect("audited");
    assert_eq!((lines[0].unexplained(), lines[0].faults.len()), (0, 0));
    sink.kill().await;
    let sink = world.start().await;
    assert_eq!(sink.readings().await, sender.sorted());
    sink.stop().await.expect("stops");
}

/// A series with more rows than fit into memory is divided, and comes to rest.
#[tokio::test]
async fn a_series_longer_than_a_file_is_divided() {
    let world = World::new();
    let sink = world.start().await;
    let mut sender = Sender::new(1);
    for i in 0..4 {
        for device in ["fan", "pump"] {
            let batch = sender.numbers(device, &["load"], &seconds(i * 300, 300));
            let number = sink.deliver(&batch).await;
            sink.folded(number).await;
        }
        sink.flush().await;
    }
    let mut compactor = Compactor {
        max_rows: 500,
        ..compactor(&world, &sink, 3)
    };
    merge_all(&mut compactor).await;
    let view = sink.fold.view(DEFAULT_TENANT);
    assert!(view.files.iter().all(|file| file.rows <= 800));
    let narrow = view.files.iter().flat_map(|file| &file.extent);
    assert!(narrow.filter(|extent| extent.is_one_place()).count() >= 2);
    assert_eq!(sink.readings().await, sender.sorted());
    sink.stop().await.expect("stops");
}

/// Two files of the old journal, and of the new one: a pair each. Red when a merge that finds files of two journals is
/// given up without a note of which is whose: the same four, or the last two, are chosen again for ever.
#[tokio::test]
async fn files_of_two_journals_are_merged_each_with_its_like_and_come_to_rest() {
    for old_files in [1, 2] {
        let world = World::new();
        let mut sender = Sender::new(1);
        let sink = world.start().await;
        fill(&sink, &mut sender, old_files).await;
        let old = sink.journal.id();
        sink.stop().await.expect("stops");
        fs::remove_dir_all(world.dir.path().join("journal")).expect("removed");
        let sink = world.start().await;
        fill(&sink, &mut sender, 2).await;
        let mut compactor = compactor(&world, &sink, 2);
        let mut steps = 0;
        while compactor.step().await.expect("no file stops the merges") {
            steps += 1;
            assert!(steps < 10, "it comes to rest");
        }
        let live = sink.catalog.live_files().await.expect("read");
        assert_eq!(live.len(), 2, "one of each journal: {live:?}");
        let mut journals = HashSet::new();
        for file in &live {
            let bytes = sink.store.get(&file.path).await.expect("read");
            let footer = read::provenance(&bytes, &file.path).expect("ours");
            journals.insert(footer.journal_id);
        }
        assert_eq!(journals, HashSet::from([old, sink.journal.id()]));
        assert_eq!(sink.readings().await, sender.sorted());
        sink.stop().await.expect("stops");
    }
}
