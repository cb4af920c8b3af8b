//! The agent for arm64, run by qemu beside a sink of this machine. `make arm64-check` builds it first.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use weir_tests::wait::until;
use weir_tests::world::Sink;

const LIMIT: Duration = Duration::from_secs(120);

/// Bytes of a page, as machines have them: most, a Raspberry Pi 5, some servers.
const PAGES: [&str; 3] = ["4096", "16384", "65536"];

/// The program of another machine with such pages, by the emulator.
fn foreign(page: &str) -> Command {
    let program =
        std::env::var("WEIR_ARM64_AGENT").expect("make arm64-check says where the program is");
    let mut command = Command::new("qemu-aarch64-static");
    command.args(["-p", page]).arg(program);
    command.env_clear().stdin(Stdio::null());
    command
}

/// How the program's parts are aligned in memory, from its ELF header: a kernel refuses those below its page's size.
fn alignments() -> Vec<u64> {
    let program = std::env::var("WEIR_ARM64_AGENT").expect("as above");
    let bytes = fs::read(program).expect("the program");
    let number = |at: usize, long: usize| {
        let bytes = bytes[at..at + long].iter().rev();
        bytes.fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    };
    let index = |at, long| usize::try_from(number(at, long)).expect("a place in the file");
    let (first, size, count) = (index(32, 8), index(54, 2), index(56, 2));
    let parts = (0..count).map(|part| first + part * size);
    let loaded = parts.filter(|part| number(*part, 4) == 1);
    loaded.map(|part| number(part + 48, 8)).collect()
}

fn start(page: &str, data: &Path, sink: &str, log: &Path) -> Child {
    let log = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(log)
        .expect("a log");
    foreign(page)
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

/// Red when the agent assumes this machine's byte order or its atomics, was linked for pages of 4 KiB alone (with
/// `-Wl,-z,max-page-size=4096`), or cannot read on other pages what it wrote: it is killed, started on a machine with
/// larger ones, and at last stopped, and the sink has each reading once.
#[tokio::test]
#[ignore = "needs the program: make arm64-check"]
async fn an_emulated_agent_delivers_is_killed_and_delivers_the_rest() {
    let place = tempfile::tempdir().expect("a directory");
    let said = foreign(PAGES[0]).arg("--version").output();
    let said = said.expect("the emulator starts");
    assert!(
        String::from_utf8_lossy(&said.stdout).starts_with("weir-agent"),
        "{said:?}"
    );
    let alignments = alignments();
    let fits = |alignment: &u64| *alignment >= 65_536;
    assert!(
        !alignments.is_empty() && alignments.iter().all(fits),
        "{alignments:?}"
    );
    let sink = Sink::start(place.path(), &[]).await;
    let (data, log): (PathBuf, PathBuf) = (place.path().join("data"), place.path().join("log"));

    let [before, others @ ..] = PAGES;
    let mut agent = start(before, &data, &sink.url(), &log);
    let mut had = stored(&sink, 40).await;
    for page in others {
        agent.kill().expect("it runs");
        agent.wait().expect("it ends");
        agent = start(page, &data, &sink.url(), &log);
        had = stored(&sink, had + 40).await;
    }
    let mut last = agent;
    let pid = rustix::process::Pid::from_child(&last);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    let ended = last.wait().expect("it ends");
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
