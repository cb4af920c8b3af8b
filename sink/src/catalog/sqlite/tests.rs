//! What SQLite alone can do wrong: versions of its schema, a full disk.

use std::path::PathBuf;

use super::*;

async fn open() -> (tempfile::TempDir, PathBuf, Sqlite) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("catalog.sqlite");
    let catalog = Sqlite::open(&path).await.expect("opened");
    (dir, path, catalog)
}

#[tokio::test]
async fn a_catalog_for_newer_programs_only_is_refused_with_a_remedy() {
    let (_dir, path, catalog) = open().await;
    for (version, refused) in [("1", false), ("99", true)] {
        sqlx::query("UPDATE meta SET value = ? WHERE key = 'min_reader_version'")
            .bind(version)
            .execute(catalog.pool())
            .await
            .expect("updated");
        let opened = Sqlite::open(&path).await;
        assert_eq!(opened.is_err(), refused);
        if let Err(error) = opened {
            assert!(error.to_string().contains("upgrade weir-sink"), "{error}");
        }
    }
}

/// As a command does beside a sink that starts for the first time. Mutations: a step
/// whose need was looked at before its turn came; a first connection that does not come back when it was told "locked".
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_that_open_a_new_catalog_at_once_all_get_it() {
    for _ in 0..5 {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("catalog.sqlite");
        let opening: Vec<_> = (0..8)
            .map(|_| {
                let path = path.clone();
                tokio::spawn(async move { Sqlite::open(&path).await.map(|_| ()) })
            })
            .collect();
        for one in opening {
            one.await.expect("no panic").expect("it opens");
        }
    }
}

#[tokio::test]
async fn files_of_a_catalog_from_before_checksums_are_kept_without_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("catalog.sqlite");
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true);
    let old = sqlx::SqlitePool::connect_with(options).await.expect("made");
    let rest = "INSERT INTO meta VALUES ('schema_version', '1'), ('min_reader_version', '1');
        INSERT INTO files VALUES
          ('old', 'default', '2026-03-01', 10, 5, 0, 1, 2, 3, 4, 5, NULL)";
    for sql in [include_str!("../schema/0001_start.sql"), rest] {
        sqlx::raw_sql(sql).execute(&old).await.expect("filled");
    }
    old.close().await;

    for _ in 0..2 {
        let catalog = Sqlite::open(&path).await.expect("opened");
        let files = catalog.live_files().await.expect("read");
        assert_eq!(
            (files[0].path.as_str(), files[0].rows, files[0].crc),
            ("old", 5, None)
        );
        assert_eq!(files[0].extent, None);
        catalog.close().await;
    }
}

/// A full disk makes SQLite end the transaction by itself; the next one must not find the catalog
/// stuck. The size limit of SQLite stands for the disk: the error is the same SQLITE_FULL.
/// Red without the check of pooled connections: "begin_with at non-zero transaction depth".
#[tokio::test]
async fn full_disk_does_not_leave_the_catalog_stuck() {
    let (_dir, _path, catalog) = open().await;
    sqlx::query("CREATE TABLE filler (bytes BLOB)")
        .execute(catalog.pool())
        .await
        .expect("a table");
    let mut full = catalog.write().await.expect("begins");
    sqlx::query("PRAGMA max_page_count = 1")
        .execute(&mut *full)
        .await
        .expect("the limit is what the file has now");
    let error = sqlx::query("INSERT INTO filler VALUES (zeroblob(10000000))")
        .execute(&mut *full)
        .await
        .expect_err("there is no room");
    assert!(error.to_string().contains("full"), "{error}");
    drop(full);

    for _ in 0..8 {
        let next = catalog.write().await.expect("begins again");
        next.commit().await.expect("commits");
    }
}

/// Red without the triggers.
#[tokio::test]
async fn nobody_changes_the_audit_log() {
    let (_dir, _path, catalog) = open().await;
    let deed = crate::catalog::Deed {
        at_ns: 1,
        tenant: "a".into(),
        who: "b".into(),
        action: "c".into(),
        object: "d".into(),
        outcome: "ok".into(),
        address: String::new(),
    };
    catalog.record(&[deed]).await.expect("noted");
    for sql in [
        "UPDATE audit SET outcome = 'not me'",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit SELECT 1, 0, '', '', '', '', '', ''",
    ] {
        let changed = sqlx::raw_sql(sql).execute(catalog.pool()).await;
        let error = changed.expect_err("refused").to_string();
        assert!(error.contains("only added to"), "{sql}: {error}");
    }
}
