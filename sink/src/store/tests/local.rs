//! What a directory alone can do wrong.

use std::fs;

use super::*;

#[tokio::test]
async fn deleting_takes_a_broken_off_write_along() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("opened");
    store.put(PATH, "x".into()).await.expect("put");
    fs::write(dir.path().join(format!("{PATH}.part")), b"half").expect("written");
    store.delete(PATH).await.expect("deleted");
    assert!(store.list().await.expect("listed").is_empty());
}

#[tokio::test]
async fn a_failed_write_says_what_failed_and_leaves_no_object() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("opened");
    fs::write(dir.path().join("samples"), b"in the way").expect("written");
    let failed = store.put(PATH, "x".into()).await.expect_err("fails");
    assert!(
        failed
            .to_string()
            .starts_with(&format!("cannot write {PATH}: ")),
        "{failed}"
    );
    fs::remove_file(dir.path().join("samples")).expect("removed");
    assert!(store.list().await.expect("listed").is_empty());
    store.put(PATH, "x".into()).await.expect("put");
}
