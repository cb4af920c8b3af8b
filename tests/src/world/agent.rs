//! An agent as a real process, and what it says of itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use http::StatusCode;
use rustix::process::Signal;
use serde_json::Value;

use super::{Faults, Process, Variables, address, endpoints, listening, place, variables};
use crate::{http as client, programs};

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

    /// SIGHUP.
    pub fn hang_up(&self) {
        self.process.signal(Signal::HUP);
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

    /// A command of `weir-agent` with this agent's settings.
    pub fn command(&self, arguments: &[&str]) -> std::process::Output {
        let program = programs::agent();
        let mut command = super::clean(&program, "WEIR_AGENT_", &self.variables, &self.directory);
        command
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .output()
            .expect("weir-agent runs")
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
        super::metrics(self.status).await
    }
}
