//! What can be made to go wrong with the store in memory.

use std::time::Duration;

use super::*;

/// Red when a put is there before its time has passed, or a crash keeps half of one.
#[tokio::test(start_paused = true)]
async fn a_crash_takes_what_was_being_put_and_leaves_what_was() {
    let memory = Memory::new();
    let store = Store::new(memory.clone());
    store.put(PATH, "kept".into()).await.expect("put");
    let latency = Duration::from_secs(1);
    memory.set_faults(Faults {
        latency,
        ..Faults::default()
    });
    let other = PATH.replace("a.parquet", "b.parquet");
    let put = store.put(&other, "lost".into());
    assert!(tokio::time::timeout(latency * 3 / 2, put).await.is_err());
    assert_eq!(memory.paths(), [PATH.to_owned(), format!("{other}.part")]);
    memory.crash();
    assert_eq!(memory.paths(), [PATH]);
    assert_eq!(store.get(PATH).await.expect("read"), "kept");
}

/// Red when a broken put answers well, or has the object's name.
#[tokio::test]
async fn a_broken_put_fails_half_way_and_the_next_one_succeeds() {
    let memory = Memory::new();
    let store = Store::new(memory.clone());
    memory.set_faults(Faults {
        broken_puts: 1,
        ..Faults::default()
    });
    store.put(PATH, "text".into()).await.expect_err("broken");
    assert_eq!(store.size(PATH).await.expect("looked"), None);
    store.put(PATH, "text".into()).await.expect("put");
    assert_eq!(store.list().await.expect("listed"), [PATH]);
    memory.set_faults(Faults {
        away: true,
        ..Faults::default()
    });
    store.get(PATH).await.expect_err("away");
}
