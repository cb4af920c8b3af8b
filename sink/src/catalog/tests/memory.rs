//! What can be made to go wrong with the catalog in memory, as the fold meets it.

use std::time::Duration;

use super::*;
use crate::catalog::Faults;

/// Red when a refused transaction leaves anything, or an unanswered one nothing.
#[tokio::test]
async fn a_refused_transaction_changes_nothing_and_an_unanswered_one_has_happened() {
    let memory = Memory::new();
    let catalog = Catalog::new(memory.clone());
    let at = catalog.take_over([1; 16]).await.expect("taken");
    memory.set_faults(Faults {
        refused: 1,
        unanswered: 1,
        ..Faults::default()
    });
    let wanted = commit(at, 9, vec![file("a", 5)]);
    let refused = catalog.commit(&wanted).await;
    assert!(matches!(refused, Err(CatalogError::Database(_))));
    assert_eq!(catalog.position().await.expect("read"), Some(at));
    assert!(catalog.live_files().await.expect("read").is_empty());

    let unanswered = catalog.commit(&wanted).await;
    assert!(matches!(unanswered, Err(CatalogError::Database(_))));
    let moved = Position { number: 9, ..at };
    assert_eq!(catalog.position().await.expect("read"), Some(moved));
    assert_eq!(catalog.live_files().await.expect("read"), wanted.files);

    let again = catalog.commit(&wanted).await;
    assert!(matches!(again, Err(CatalogError::Moved { .. })));
}

/// Red when the tables change before the transaction's time has passed.
#[tokio::test(start_paused = true)]
async fn a_transaction_that_was_dropped_while_it_was_slow_has_not_happened() {
    let memory = Memory::new();
    let catalog = Catalog::new(memory.clone());
    let at = catalog.take_over([1; 16]).await.expect("taken");
    let latency = Duration::from_secs(2);
    memory.set_faults(Faults {
        latency,
        ..Faults::default()
    });
    let wanted = commit(at, 9, vec![file("a", 5)]);
    let dropped = tokio::time::timeout(latency / 2, catalog.commit(&wanted)).await;
    assert!(dropped.is_err());
    assert_eq!(catalog.position().await.expect("read"), Some(at));

    let late = tokio::time::timeout(latency * 3 / 2, catalog.commit(&wanted)).await;
    assert!(late.is_err(), "its answer takes time too");
    assert_eq!(catalog.live_files().await.expect("read"), wanted.files);
}

/// Red when an absent catalog answers.
#[tokio::test]
async fn an_absent_catalog_answers_nothing_and_keeps_what_it_had() {
    let memory = Memory::new();
    let catalog = Catalog::new(memory.clone());
    let at = catalog.take_over([1; 16]).await.expect("taken");
    memory.set_faults(Faults {
        away: true,
        ..Faults::default()
    });
    catalog.position().await.expect_err("away");
    catalog.take_over([2; 16]).await.expect_err("away");
    memory.set_faults(Faults::default());
    assert_eq!(catalog.position().await.expect("read"), Some(at));
}
