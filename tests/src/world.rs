//! Sinks and agents as real processes in directories of their own, on free ports of loopback.

mod agent;
mod credentials;
mod sink;

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::wait::until;

pub use agent::Agent;
pub use sink::{Sink, Sums};

/// A program that has not started, answered or stopped by then never will.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Environment variables of a program, without their `WEIR_AGENT_` or `WEIR_SINK_`.
pub type Variables = BTreeMap<String, String>;

/// Variables from pairs.
pub fn variables(pairs: &[(&str, &str)]) -> Variables {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// Faults ordered in the programs under test: environment variables of `weir-fault`.
#[derive(Clone, Debug, Default)]
pub struct Faults(Vec<(&'static str, String)>);

impl Faults {
    /// None.
    pub fn none() -> Self {
        Self::default()
    }

    /// The process dies by SIGKILL when it passes this point for the n-th time.
    pub fn kill(point: weir_fault::Point, times: u64) -> Self {
        let order = format!("{}@{times}", point.name());
        Self(vec![("WEIR_FAULT_KILL", order)])
    }

    /// The process runs with this mutation.
    pub fn mutant(mutant: weir_fault::Mutant) -> Self {
        Self(vec![("WEIR_FAULT_MUTANT", mutant.name().to_owned())])
    }

    /// The program panics there whenever it handles this subject.
    pub fn trap(trap: weir_fault::Trap, subject: &str) -> Self {
        let order = format!("{}:{subject}", trap.name());
        Self(vec![("WEIR_FAULT_TRAP", order)])
    }

    /// Both of two.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

/// A child process that is killed when it is let go of.
#[derive(Debug)]
struct Process {
    child: Child,
}

impl Process {
    fn start(
        (program, prefix): (&Path, &str),
        variables: &Variables,
        faults: &Faults,
        directory: &Path,
    ) -> Self {
        let log = File::options()
            .create(true)
            .append(true)
            .open(directory.join("log"))
            .expect("a log beside the data");
        let mut command = clean(program, prefix, variables, directory);
        let child = command
            .arg("run")
            .envs(faults.0.iter().map(|(name, value)| (*name, value)))
            // Of its own group, so that a Ctrl-C meant for us does not reach it first.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        Self { child }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a child has a pid");
        // A process that is gone already has what it was to get.
        let _ = kill_process(pid, signal);
    }

    fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }

    async fn stopped(&mut self, what: &str) -> ExitStatus {
        until(what, LIMIT, || {
            let status = self.child.try_wait().expect("a child can be waited for");
            async move { status }
        })
        .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A command that sees these variables and nothing of the caller's `WEIR_` ones.
fn clean(program: &Path, prefix: &str, variables: &Variables, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory);
    for (name, _) in std::env::vars() {
        if name.starts_with("WEIR_") {
            command.env_remove(name);
        }
    }
    for (name, value) in variables {
        command.env(format!("{prefix}{name}"), value);
    }
    command
}

/// Runs a program to its end with the given arguments.
pub fn run_once(program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut command = clean(program, "", &variables(environment), directory.path());
    command
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()))
}

/// A directory with the log and the data of one program.
fn place(parent: &Path, name: &str) -> PathBuf {
    let directory = parent.join(name);
    std::fs::create_dir_all(&directory).expect("a writable directory");
    directory
}

/// The addresses a program wrote down once it listened, or how it ended before that.
async fn listening(process: &mut Process, directory: &Path) -> Result<Value, ExitStatus> {
    let path = directory.join("data").join("endpoints.json");
    let what = format!("{} (see the log beside it)", path.display());
    until(&what, LIMIT, || {
        let exited = process.child.try_wait().expect("a child can be asked");
        let read = std::fs::read_to_string(&path)
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok());
        async move { exited.map(Err).or(read.map(Ok)) }
    })
    .await
}

/// The addresses a program wrote down once it listened.
async fn endpoints(process: &mut Process, directory: &Path) -> Value {
    let found = listening(process, directory).await;
    found.unwrap_or_else(|exited| {
        panic!(
            "{} ended with {exited:?}:\n{}",
            directory.display(),
            std::fs::read_to_string(directory.join("log")).unwrap_or_default()
        )
    })
}

fn address(endpoints: &Value, name: &str) -> SocketAddr {
    endpoints[name]
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("endpoints.json has no address {name}: {endpoints}"))
}

/// What `/metrics` of a program says: name with labels to value.
async fn metrics(address: SocketAddr) -> BTreeMap<String, f64> {
    let (_, body) = crate::http::get(address, "/metrics")
        .await
        .expect("the program answers");
    String::from_utf8_lossy(&body)
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect()
}
