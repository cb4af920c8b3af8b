//! Stopping, on a paused clock.

use std::sync::mpsc;

use super::*;

#[tokio::test(start_paused = true)]
async fn names_who_is_late_at_the_deadline() {
    let shutdown = Shutdown::new();
    let token = shutdown.token();
    shutdown.spawn("obedient", async move { token.cancelled().await });
    shutdown.spawn("deaf", std::future::pending::<()>());
    let before = tokio::time::Instant::now();
    let late = shutdown.finish(Duration::from_secs(5)).await;
    assert_eq!(late, ["deaf"]);
    assert_eq!(before.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn does_not_wait_for_the_deadline_when_all_are_done() {
    let shutdown = Shutdown::new();
    let token = shutdown.token();
    shutdown.spawn("sampler", async move { token.cancelled().await });
    let before = tokio::time::Instant::now();
    assert!(shutdown.finish(Duration::from_secs(60)).await.is_empty());
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_panicking_task_stops_the_program_and_is_named() {
    let shutdown = Shutdown::new();
    let task = shutdown.spawn("sender", async { panic!("a fault for this test") });
    shutdown.token().cancelled().await;
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(shutdown.panicked(), ["sender"]);
    assert!(shutdown.running().is_empty());
}

#[tokio::test]
async fn an_aborted_task_leaves_the_list_and_stops_nothing() {
    let shutdown = Shutdown::new();
    let task = shutdown.spawn("link", std::future::pending::<()>());
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert!(shutdown.running().is_empty());
    assert!(!shutdown.token().is_cancelled());
}

#[tokio::test]
async fn waits_for_threads_too() {
    let shutdown = Shutdown::new();
    let (go, wait) = mpsc::channel::<()>();
    let thread = shutdown.thread("committer", move || wait.recv()).unwrap();
    assert_eq!(shutdown.running(), ["committer"]);
    assert_eq!(shutdown.finish(Duration::ZERO).await, ["committer"]);
    go.send(()).unwrap();
    assert!(shutdown.finish(Duration::from_secs(60)).await.is_empty());
    assert!(thread.join().unwrap().is_ok());
}

#[tokio::test]
async fn a_signal_cancels_the_token() {
    let shutdown = Shutdown::new();
    shutdown.on_signal().unwrap();
    let own = rustix::process::getpid();
    rustix::process::kill_process(own, rustix::process::Signal::TERM).unwrap();
    tokio::time::timeout(Duration::from_secs(30), shutdown.token().cancelled())
        .await
        .unwrap();
}
