//! Sinks and agents as real processes in directories of their own, on free ports of loopback.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use http::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::wait::until;
use crate::{http as client, programs};

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

/// A sink.
#[derive(Debug)]
pub struct Sink {
    process: Process,
    directory: PathBuf,
    variables: Variables,
    /// What goes wrong in the lives to come; nothing in the first.
    pub faults: Faults,
    /// Where agents deliver.
    pub grpc: SocketAddr,
    /// Where SQL, the ledger, probes and metrics are.
    pub http: SocketAddr,
}

impl Sink {
    /// Starts a sink below `parent` on free ports and waits until it is ready.
    pub async fn start(parent: &Path, settings: &[(&str, &str)]) -> Self {
        let directory = place(parent, "sink");
        let mut variables = variables(settings);
        variables.insert("DATA_DIR".to_owned(), "data".to_owned());
        for name in ["GRPC_LISTEN", "HTTP_LISTEN"] {
            variables
                .entry(name.to_owned())
                .or_insert_with(|| "127.0.0.1:0".to_owned());
        }
        let faults = Faults::none();
        let mut process = Self::spawn(&directory, &variables, &faults);
        let found = endpoints(&mut process, &directory).await;
        let mut sink = Self {
            process,
            faults,
            grpc: address(&found, "grpc"),
            http: address(&found, "http"),
            directory,
            variables,
        };
        // The same ports after a restart: agents keep the URL they were given.
        for (name, address) in [("GRPC_LISTEN", sink.grpc), ("HTTP_LISTEN", sink.http)] {
            sink.variables.insert(name.to_owned(), address.to_string());
        }
        sink.ready().await;
        sink
    }

    fn spawn(directory: &Path, variables: &Variables, faults: &Faults) -> Process {
        let _ = std::fs::remove_file(directory.join("data").join("endpoints.json"));
        let program = programs::sink();
        Process::start((&program, "WEIR_SINK_"), variables, faults, directory)
    }

    /// From now on every start takes free ports: a proxy tells agents where the sink is.
    pub fn roam(&mut self) {
        for name in ["GRPC_LISTEN", "HTTP_LISTEN"] {
            self.variables
                .insert(name.to_owned(), "127.0.0.1:0".to_owned());
        }
    }

    /// Starts the sink again without waiting until it is ready; how it ended, if it did before it
    /// listened.
    pub async fn launch(&mut self) -> Option<ExitStatus> {
        self.process.kill();
        self.process = Self::spawn(&self.directory, &self.variables, &self.faults);
        match listening(&mut self.process, &self.directory).await {
            Ok(found) => {
                self.grpc = address(&found, "grpc");
                self.http = address(&found, "http");
                None
            }
            Err(exited) => Some(exited),
        }
    }

    /// Waits until the sink ends by itself.
    pub async fn ended(&mut self, why: &str) -> ExitStatus {
        self.process.stopped(why).await
    }

    /// SIGTERM, without waiting for anything.
    pub fn ask_to_stop(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// What `weir-sink ledger --audit` says, and whether it found the ledger closed.
    pub fn audit(&self) -> Output {
        run_once(
            &programs::sink(),
            &[
                "ledger",
                "--audit",
                "--url",
                &format!("http://{}", self.http),
            ],
            &[],
        )
    }

    /// The URL agents are given.
    pub fn url(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// The directory of journal, store and catalog.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// What the sink has logged so far, over all its lives.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    async fn ready(&mut self) {
        let http = self.http;
        until("the sink to be ready", LIMIT, || async move {
            matches!(client::get(http, "/readyz").await, Ok((StatusCode::OK, _))).then_some(())
        })
        .await;
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts the sink again on the same data and ports and waits until it is ready.
    pub async fn restart(&mut self) {
        self.process.kill();
        self.process = Self::spawn(&self.directory, &self.variables, &self.faults);
        let found = endpoints(&mut self.process, &self.directory).await;
        self.grpc = address(&found, "grpc");
        self.http = address(&found, "http");
        self.ready().await;
    }

    /// SIGTERM, and how the sink ended.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.process.stopped("the sink to stop").await
    }

    /// Rows of a query; an error of the sink fails the test.
    pub async fn sql(&self, query: &str) -> Vec<Vec<Value>> {
        let (status, body) = self.try_sql(query, "application/json").await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
        let answer: Value = serde_json::from_slice(&body).expect("a JSON answer");
        let rows = answer["rows"].as_array().expect("rows");
        rows.iter()
            .map(|row| row.as_array().expect("a row").clone())
            .collect()
    }

    /// Status and body of a query.
    pub async fn try_sql(&self, query: &str, accept: &str) -> (StatusCode, bytes::Bytes) {
        let body = json!({ "query": query }).to_string();
        client::post(self.http, "/v1/sql", accept, body)
            .await
            .expect("the sink answers")
    }

    /// One object per stream.
    pub async fn ledger(&self) -> Vec<Value> {
        let (status, body) = client::get(self.http, "/v1/ledger")
            .await
            .expect("the sink answers");
        assert_eq!(status, StatusCode::OK);
        let answer: Value = serde_json::from_slice(&body).expect("a JSON ledger");
        answer["streams"].as_array().expect("streams").clone()
    }

    /// Waits until everything acknowledged is folded, and so visible to queries: a moment after
    /// the ack, as the fold never holds an ack up.
    pub async fn folded(&self) {
        until("the fold to catch up", LIMIT, || async {
            let ledger = self.ledger().await;
            let all = ledger.iter().all(|stream| stream["pending_fold"] == 0);
            all.then_some(())
        })
        .await;
    }

    /// Asserts that every stream's ledger closes, and answers the sum of (produced, stored,
    /// spooled, dropped) over the streams of one agent.
    pub async fn closed_ledger(&self, agent: &str) -> Sums {
        let mut sums = Sums::default();
        for stream in self.ledger().await {
            assert_eq!(stream["unexplained"], 0, "{stream}");
            let of = Sums::of(&stream);
            assert_eq!(
                of.produced,
                of.stored + of.spooled + of.dropped,
                "the ledger does not close: {stream}"
            );
            if stream["agent"] == agent {
                sums.produced += of.produced;
                sums.stored += of.stored;
                sums.spooled += of.spooled;
                sums.dropped += of.dropped;
            }
        }
        sums
    }
}

/// The four figures of a ledger, in readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Readings that reached the spool, and drops with a durable count.
    pub produced: u64,
    /// Rows the sink has.
    pub stored: u64,
    /// Readings still at the agent.
    pub spooled: u64,
    /// Drops over all reasons.
    pub dropped: u64,
}

impl Sums {
    fn of(stream: &Value) -> Self {
        let number = |name: &str| stream[name].as_u64().unwrap_or_else(|| panic!("{stream}"));
        let dropped = stream["dropped"].as_object().expect("dropped by reason");
        Self {
            produced: number("produced"),
            stored: number("stored"),
            spooled: number("spooled"),
            dropped: dropped.values().filter_map(Value::as_u64).sum(),
        }
    }
}

/// An agent.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    directory: PathBuf,
    variables: Variables,
    /// What goes wrong in the lives to come; nothing in the first.
    pub faults: Faults,
    /// Where its status, probes and metrics are.
    pub status: SocketAddr,
    /// Its name.
    pub name: String,
}

impl Agent {
    /// Starts an agent below `parent` that delivers to `sink_url`, and waits until it serves
    /// its status.
    pub async fn start(
        parent: &Path,
        name: &str,
        sink_url: &str,
        settings: &[(&str, &str)],
    ) -> Self {
        let directory = place(parent, name);
        let mut variables = variables(settings);
        let defaults = [
            ("SINK_URL", sink_url),
            ("NAME", name),
            ("DATA_DIR", "data"),
            ("STATUS_LISTEN", "127.0.0.1:0"),
        ];
        for (key, value) in defaults {
            variables
                .entry(key.to_owned())
                .or_insert_with(|| value.to_owned());
        }
        let faults = Faults::none();
        let mut process = Self::spawn(&directory, &variables, &faults);
        let found = endpoints(&mut process, &directory).await;
        Self {
            process,
            faults,
            status: address(&found, "status"),
            directory,
            variables,
            name: name.to_owned(),
        }
    }

    fn spawn(directory: &Path, variables: &Variables, faults: &Faults) -> Process {
        let _ = std::fs::remove_file(directory.join("data").join("endpoints.json"));
        let program = programs::agent();
        Process::start((&program, "WEIR_AGENT_"), variables, faults, directory)
    }

    /// Starts the agent again; how it ended, if it did before it served its status.
    pub async fn launch(&mut self) -> Option<ExitStatus> {
        self.process.kill();
        self.process = Self::spawn(&self.directory, &self.variables, &self.faults);
        match listening(&mut self.process, &self.directory).await {
            Ok(found) => {
                self.status = address(&found, "status");
                None
            }
            Err(exited) => Some(exited),
        }
    }

    /// Another value of a setting, from the next life on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// How the process ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.process.child.try_wait().expect("a child can be asked")
    }

    /// Waits until the agent ends by itself.
    pub async fn ended(&mut self, why: &str) -> ExitStatus {
        self.process.stopped(why).await
    }

    /// SIGTERM, without waiting for anything.
    pub fn ask_to_stop(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// The agent's status document; nothing when it does not answer.
    pub async fn try_status(&self) -> Option<Value> {
        let (status, body) = client::get(self.status, "/status").await.ok()?;
        (status == StatusCode::OK)
            .then(|| serde_json::from_slice(&body).ok())
            .flatten()
    }

    /// The directory of spool and dead letters.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// What the agent has logged so far, over all its lives.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts the agent again on the same data.
    pub async fn restart(&mut self) {
        self.process.kill();
        self.process = Self::spawn(&self.directory, &self.variables, &self.faults);
        let found = endpoints(&mut self.process, &self.directory).await;
        self.status = address(&found, "status");
    }

    /// SIGTERM, and how the agent ended.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.process.stopped("the agent to stop").await
    }

    /// Whether the process still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.process.child.try_wait(), Ok(None))
    }

    /// The agent's status document.
    pub async fn status(&self) -> Value {
        let (status, body) = client::get(self.status, "/status")
            .await
            .expect("the agent answers");
        assert_eq!(status, StatusCode::OK);
        serde_json::from_slice(&body).expect("a JSON status")
    }

    /// The agent's metrics: name with labels to value.
    pub async fn metrics(&self) -> BTreeMap<String, f64> {
        let (_, body) = client::get(self.status, "/metrics")
            .await
            .expect("the agent answers");
        String::from_utf8_lossy(&body)
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let (name, value) = line.rsplit_once(' ')?;
                Some((name.to_owned(), value.parse().ok()?))
            })
            .collect()
    }
}
