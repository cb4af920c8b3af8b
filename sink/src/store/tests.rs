//! The directory as an object store.

use object_store::ObjectStoreExt;
use object_store::path::Path as ObjectPath;

use super::*;

const PATH: &str = "samples/tenant=default/date=2026-03-01/a.parquet";

#[tokio::test]
async fn an_object_is_whole_under_its_name_and_readers_see_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(&dir.path().join("new/store")).expect("made");
    store
        .put(PATH, Bytes::from_static(b"first"))
        .await
        .expect("put");
    store
        .put(PATH, Bytes::from_static(b"second"))
        .await
        .expect("put again");
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

#[tokio::test]
async fn deleting_takes_a_broken_off_write_along_and_is_done_when_nothing_is_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("opened");
    store
        .put(PATH, Bytes::from_static(b"x"))
        .await
        .expect("put");
    fs::write(dir.path().join(format!("{PATH}.part")), b"half").expect("written");
    store.delete(PATH).await.expect("deleted");
    store.delete(PATH).await.expect("nothing is there");
    assert!(store.list().await.expect("listed").is_empty());
    assert_eq!(store.size(PATH).await.expect("looked"), None);
}

#[tokio::test]
async fn a_failed_write_says_what_failed_and_leaves_no_object() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("opened");
    fs::write(dir.path().join("samples"), b"in the way").expect("written");
    let failed = store
        .put(PATH, Bytes::from_static(b"x"))
        .await
        .expect_err("fails");
    assert!(
        failed
            .to_string()
            .starts_with(&format!("cannot write {PATH}: ")),
        "{failed}"
    );
    fs::remove_file(dir.path().join("samples")).expect("removed");
    assert!(store.list().await.expect("listed").is_empty());
    store
        .put(PATH, Bytes::from_static(b"x"))
        .await
        .expect("put");
}
