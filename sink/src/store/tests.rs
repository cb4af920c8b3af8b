//! Every kind of store against the promises of [`Backend`]: one suite, run on each.

use object_store::ObjectStoreExt;
use object_store::path::Path as ObjectPath;

use super::*;

mod local;
mod memory;

const PATH: &str = "samples/tenant=default/date=2026-03-01/a.parquet";

/// A new one of every kind; the directory must live as long as the store in it.
fn every() -> (tempfile::TempDir, [Store; 2]) {
    let dir = tempfile::tempdir().expect("a directory");
    let local = Store::open(&dir.path().join("new/store")).expect("made");
    (dir, [local, Store::new(Memory::new())])
}

#[tokio::test]
async fn an_object_is_whole_under_its_name_and_readers_see_it() {
    let (_dir, stores) = every();
    for store in stores {
        for text in ["first", "second"] {
            store.put(PATH, text.into()).await.expect("put");
        }
        assert_eq!(store.get(PATH).await.expect("read"), "second");
        assert_eq!(store.size(PATH).await.expect("looked"), Some(6));
        let seen = store
            .objects()
            .get(&ObjectPath::from(PATH))
            .await
            .expect("through object_store");
        assert_eq!(seen.bytes().await.expect("read"), "second");
        assert_eq!(store.list().await.expect("listed"), [PATH]);
    }
}

#[tokio::test]
async fn deleting_is_done_when_nothing_is_there() {
    let (_dir, stores) = every();
    for store in stores {
        store.put(PATH, "x".into()).await.expect("put");
        store.delete(PATH).await.expect("deleted");
        store.delete(PATH).await.expect("nothing is there");
        assert!(store.list().await.expect("listed").is_empty());
        assert_eq!(store.size(PATH).await.expect("looked"), None);
        let missing = store.get(PATH).await.expect_err("it is gone").to_string();
        assert!(
            missing.starts_with(&format!("cannot read {PATH}: ")),
            "{missing}"
        );
    }
}
