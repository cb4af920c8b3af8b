//! Every kind of catalog against the promises of [`Backend`]: one suite, run on each.

use super::*;

mod access;
mod memory;

/// A kind of catalog, and where its content is while nobody has it open.
enum Place {
    Sqlite(tempfile::TempDir),
    Memory(Memory),
}

impl Place {
    /// A new one of every kind.
    fn every() -> [Place; 2] {
        let dir = tempfile::tempdir().expect("a directory");
        [Place::Sqlite(dir), Place::Memory(Memory::new())]
    }

    async fn open(&self) -> Catalog {
        match self {
            Place::Sqlite(dir) => Catalog::open(&dir.path().join("catalog.sqlite"))
                .await
                .expect("opened"),
            Place::Memory(memory) => Catalog::new(memory.clone()),
        }
    }
}

fn file(name: &str, rows: u64) -> DataFile {
    DataFile {
        path: format!("samples/tenant=default/date=2026-03-01/{name}.parquet"),
        tenant: "default".into(),
        date: "2026-03-01".into(),
        bytes: 10,
        rows,
        min_ns: -5,
        max_ns: i64::MAX,
        max_received_ns: 7,
        from: 0,
        through: u64::MAX,
        crc: Some(u32::MAX),
        extent: Some(Extent {
            first: extent::Place {
                metric: "a".into(),
                device: "d\u{0}".into(),
            },
            last: extent::Place {
                metric: "m".into(),
                device: "".into(),
            },
            devices: ("".into(), "\u{10ffff}".into()),
        }),
    }
}

fn commit(expected: Position, through: u64, files: Vec<DataFile>) -> Commit {
    let key = |text: &str| -> Arc<str> { text.into() };
    let mut stream = StreamLedger::new(
        key("default"),
        key("agent"),
        StreamId([u8::MAX; 16]),
        i64::MIN,
    );
    stream.stored = files.iter().map(|file| file.rows).sum();
    stream.readings_through = u64::MAX;
    stream.last_crc = u32::MAX;
    stream.dropped.insert("refused".into(), 3);
    let series = SeriesKey {
        tenant: key("default"),
        metric: key("m"),
        device: key("d"),
        attributes: key(r#"{"a":"\"1\""}"#),
        unit: key("By"),
        kind: key("counter"),
        source: key("s"),
        agent: key("agent"),
    };
    Commit {
        expected,
        through,
        files,
        streams: vec![(0, stream)],
        series: vec![(0, series)],
        definitions: vec![(0, 4, 0)],
        snapshot: (1, vec![1, 2, 3]),
        dead: Vec::new(),
        losses: Vec::new(),
        now_ns: 1,
    }
}

#[tokio::test]
async fn what_was_committed_is_loaded_to_the_bit() {
    for place in Place::every() {
        let catalog = place.open().await;
        let at = catalog.take_over([1; 16]).await.expect("taken");
        let wanted = commit(at, 9, vec![file("a", 5)]);
        catalog
            .intend(&[wanted.files[0].path.clone()], 1, 0)
            .await
            .expect("intended");
        catalog.commit(&wanted).await.expect("committed");
        catalog.close().await;

        let catalog = place.open().await;
        let loaded = catalog.load().await.expect("loaded");
        assert_eq!(loaded.streams, wanted.streams);
        assert_eq!(loaded.series, wanted.series);
        assert_eq!(loaded.definitions, wanted.definitions);
        assert_eq!(loaded.snapshot, Some(wanted.snapshot));
        assert_eq!(loaded.files, wanted.files);
        assert!(
            catalog.orphans(2, 1).await.expect("asked").is_empty(),
            "a committed file is no orphan"
        );
        let key = crate::model::StreamKey::new("default", StreamId([u8::MAX; 16]));
        let series = catalog.series_of(&key).await.expect("read");
        assert_eq!(
            (series[0].r#ref, series[0].attributes["a"].as_str()),
            (4, "\"1\"")
        );
        assert_eq!(series[0].kind(), v1::Kind::Counter);
    }
}

#[tokio::test]
async fn a_commit_from_elsewhere_or_under_an_old_lease_changes_nothing() {
    for place in Place::every() {
        let catalog = place.open().await;
        let old = catalog.take_over([1; 16]).await.expect("taken");
        let at = catalog.take_over([1; 16]).await.expect("taken again");
        for wrong in [
            old,
            Position { number: 3, ..at },
            Position {
                journal_id: [2; 16],
                ..at
            },
        ] {
            let refused = catalog.commit(&commit(wrong, 9, vec![file("a", 5)])).await;
            assert!(
                matches!(refused, Err(CatalogError::Moved { .. })),
                "{refused:?}"
            );
        }
        assert!(catalog.streams().await.expect("read").is_empty());
        assert!(catalog.live_files().await.expect("read").is_empty());
        assert_eq!(catalog.position().await.expect("read"), Some(at));
    }
}

#[tokio::test]
async fn an_intent_for_a_live_file_never_makes_it_an_orphan() {
    for place in Place::every() {
        let catalog = place.open().await;
        let at = catalog.take_over([1; 16]).await.expect("taken");
        catalog
            .commit(&commit(at, 9, vec![file("a", 5)]))
            .await
            .expect("committed");
        let paths = [file("a", 5).path, file("b", 5).path];
        catalog
            .intend(&paths, at.lease_epoch, 100)
            .await
            .expect("intended");
        assert!(
            catalog
                .orphans(at.lease_epoch, 100)
                .await
                .expect("asked")
                .is_empty(),
            "own lease"
        );
        assert!(
            catalog
                .orphans(at.lease_epoch + 1, 99)
                .await
                .expect("asked")
                .is_empty(),
            "too early"
        );
        let orphans = catalog
            .orphans(at.lease_epoch + 1, 100)
            .await
            .expect("asked");
        assert_eq!(orphans, paths[1..]);
    }
}

#[tokio::test]
async fn expired_rows_are_counted_once_and_inputs_are_replaced_only_while_live() {
    for place in Place::every() {
        let catalog = place.open().await;
        let at = catalog.take_over([1; 16]).await.expect("taken");
        let files = vec![file("a", 5), file("b", 7)];
        catalog
            .commit(&commit(at, 9, files.clone()))
            .await
            .expect("committed");
        assert_eq!(
            catalog
                .expire_files(&files[..1], 50)
                .await
                .expect("expired")
                .len(),
            1
        );
        assert_eq!(
            catalog
                .expire_files(&files[..1], 51)
                .await
                .expect("again")
                .len(),
            0
        );
        let replaced = catalog.replace_files(&files, &[file("c", 12)], 52).await;
        assert!(
            matches!(replaced, Err(CatalogError::NotLive(_))),
            "{replaced:?}"
        );
        assert_eq!(catalog.live_files().await.expect("read"), files[1..]);
        let (sums, _) = catalog.audit_data().await.expect("read");
        assert_eq!((sums[0].stored, sums[0].expired), (12, 5));
        assert_eq!(catalog.removed_before(50).await.expect("read").len(), 0);
        assert_eq!(
            catalog.removed_before(51).await.expect("read"),
            [files[0].path.clone()]
        );
    }
}

/// Red when rows of a lost file are counted twice, or stay in the sums as if they were in files.
#[tokio::test]
async fn a_lost_file_is_taken_out_of_sight_and_counted_once() {
    for place in Place::every() {
        let catalog = place.open().await;
        let at = catalog.take_over([1; 16]).await.expect("taken");
        let files = vec![file("a", 5), file("b", 7)];
        let committed = catalog.commit(&commit(at, 9, files.clone())).await;
        committed.expect("committed");
        let path = &files[0].path;
        let lost = catalog.accept_loss(path, 50).await.expect("accepted");
        let lost = lost.expect("it was live");
        assert_eq!((&lost.path, lost.rows, lost.accepted_at_ns), (path, 5, 50));
        assert_eq!(catalog.accept_loss(path, 51).await.expect("again"), None);
        assert_eq!(catalog.accept_loss("x", 51).await.expect("none"), None);
        assert_eq!(catalog.lost_files().await.expect("read"), [lost]);
        assert_eq!(catalog.live_files().await.expect("read"), files[1..]);
        let (sums, _) = catalog.audit_data().await.expect("read");
        assert_eq!((sums[0].stored, sums[0].expired, sums[0].lost), (12, 0, 5));
    }
}

#[tokio::test]
async fn giving_up_moves_the_position_forward_only_and_says_what_went() {
    for place in Place::every() {
        let catalog = place.open().await;
        let at = catalog.take_over([1; 16]).await.expect("taken");
        catalog.give_up([2; 16], 50).await.expect("another journal");
        assert_eq!(catalog.position().await.expect("read"), Some(at));
        catalog.give_up([1; 16], 20).await.expect("given up");
        catalog.give_up([1; 16], 10).await.expect("behind");
        assert_eq!(
            catalog
                .position()
                .await
                .expect("read")
                .expect("there")
                .number,
            20
        );
        let losses = catalog.journal_losses().await.expect("read");
        assert_eq!(losses.len(), 1);
        assert_eq!((losses[0].from, losses[0].through), (1, 20));
    }
}
