//! The agent for arm64, run by qemu beside a sink of this machine. `make arm64-check` builds it first.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use weir_tests::wait::until;
use weir_tests::world::Sink;

const LIMIT: Duration = Duration::from_secs(120);

/// The program of another machine, by the emulator.
fn foreign() -> Command {
    let program =
        std::env::var("WEIR_ARM64_AGENT").expect("make arm64-check says where the program is");
    let mut command = Command::new("qemu-aarch64-static");
    command.arg(program).env_clear().stdin(Stdio::null());
    command
}

fn start(data: &Path, sink: &str, log: &Path) -> Child {
    let log = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(log)
        .expect("a log");
    foreign()
        .args(["run", "--data-dir"])
        .arg(data)
        .args([
            "--sink-url",
            sink,
            "--name",
            "arm",
            "--status-listen",
            "127.0.0.1:0",
        ])
        .args([
            "--sensors",
            "simulated",
            "--simulated-mode",
            "counter",
            "--simulated-metrics",
            "1",
        ])
        .args(["--sample-interval", "50ms", "--batch-max-age", "200ms"])
        .stderr(log)
        .spawn()
        .expect("the emulator starts")
}

async fn stored(sink: &Sink, at_least: u64) -> u64 {
    until(&format!("{at_least} stored readings"), LIMIT, || async {
        let stored = sink.closed_ledger("arm").await.stored;
        (stored >= at_least).then_some(stored)
    })
    .await
}

/// Red when the agent assumes pages of 4 KiB, this machine's byte order or its atomics: the emulated one is killed, started
/// again and stopped, and the sink has each reading once.
#[tokio::test]
#[ignore = "needs the program: make arm64-check"]
async fn an_emulated_agent_delivers_is_killed_and_delivers_the_rest() {
    let place = tempfile::tempdir().expect("a directory");
    let said = foreign()
        .arg("--version")
        .output()
        .expect("the emulator starts");
    assert!(
        String::from_utf8_lossy(&said.stdout).starts_with("weir-agent"),
        "{said:?}"
    );
    let sink = Sink::start(place.path(), &[]).await;
    let (data, log): (PathBuf, PathBuf) = (place.path().join("data"), place.path().join("log"));

    let mut first = start(&data, &sink.url(), &log);
    let before = stored(&sink, 40).await;
    first.kill().expect("it runs");
    first.wait().expect("it ends");

    let mut second = start(&data, &sink.url(), &log);
    stored(&sink, before + 40).await;
    let pid = rustix::process::Pid::from_child(&second);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    let ended = second.wait().expect("it ends");
    let log = fs::read_to_string(&log).expect("a log");
    assert!(ended.success(), "{ended:?}: {log}");

    let sums = sink.closed_ledger("arm").await;
    assert_eq!(sums.spooled, 0, "{log}");
    sink.folded().await;
    let rows = sink
        .sql("select count(*), count(distinct (time, metric)) from samples where agent = 'arm'")
        .await;
    assert_eq!(rows[0][0], sums.stored, "{log}");
    assert_eq!(rows[0][0], rows[0][1], "{log}");
}
