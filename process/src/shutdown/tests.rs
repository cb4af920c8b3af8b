//! Stopping, on a paused clock.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use rustix::process::{Pid, Signal, getpid, kill_process};

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
    kill_process(getpid(), Signal::TERM).unwrap();
    tokio::time::timeout(Duration::from_secs(30), shutdown.token().cancelled())
        .await
        .unwrap();
}

/// Not a test of its own: the program that the next test signals. It announces each step on a line.
#[test]
#[ignore = "run as a child process by a_second_signal_ends_the_process_at_once"]
fn child_that_never_finishes() {
    if std::env::var_os("AS_CHILD").is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let shutdown = Shutdown::new();
        shutdown.on_signal().unwrap();
        println!("\nup");
        shutdown.token().cancelled().await;
        println!("stopping");
        std::future::pending::<()>().await;
    });
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let name = "shutdown::tests::child_that_never_finishes";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env("AS_CHILD", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&child);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut wait_for = |wanted: &str| {
        let found = lines.by_ref().any(|line| line.unwrap() == wanted);
        assert!(found, "the child never said {wanted:?}");
    };
    wait_for("up");
    kill_process(pid, Signal::TERM).unwrap();
    wait_for("stopping");
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
