//! A sink as a real process, and what it answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};

use http::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    Faults, LIMIT, Process, Variables, address, endpoints, listening, place, run_once, variables,
};
use crate::wait::until;
use crate::{http as client, programs};

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

    /// Another value for a setting, from the next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// What `/metrics` says, by name and labels.
    pub async fn metrics(&self) -> BTreeMap<String, f64> {
        super::metrics(self.http).await
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

    /// The URL agents are given: by name where the ports speak TLS.
    pub fn url(&self) -> String {
        if self.is_encrypted() {
            return format!("https://localhost:{}", self.grpc.port());
        }
        format!("http://{}", self.grpc)
    }

    /// Whether its ports speak TLS.
    fn is_encrypted(&self) -> bool {
        self.variables.contains_key("TLS_CERT")
    }

    /// SIGHUP.
    pub fn hang_up(&self) {
        self.process.signal(Signal::HUP);
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
        if self.is_encrypted() {
            until("the sink to be ready", LIMIT, || async {
                self.command(&["health"]).status.success().then_some(())
            })
            .await;
            return;
        }
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
