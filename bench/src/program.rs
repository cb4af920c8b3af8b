//! A sink of our own for a run: started in a temporary directory with free ports, watched from outside, stopped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::http;

/// A sink that does not answer by then is broken.
const START: Duration = Duration::from_secs(60);

/// What the kernel counts CPU time in, on every machine of ours.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running sink; dropping it kills it and removes what it wrote.
pub(crate) struct Sink {
    child: Child,
    /// Its files and everything else it wrote.
    place: TempDir,
    /// `http://` address for agents.
    pub(crate) grpc: String,
    /// Address of its HTTP port.
    pub(crate) http: String,
}

impl Sink {
    /// Starts `weir-sink` of a directory of programs, with settings by the names of its environment less `WEIR_SINK_`.
    pub(crate) async fn start(programs: &Path, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_in(tempfile::tempdir()?, programs, settings).await
    }

    /// The same on what a former one has left.
    pub(crate) async fn start_in(
        place: TempDir,
        programs: &Path,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let program = programs.join("weir-sink");
        let log = std::fs::File::create(place.path().join("log"))?;
        let mut command = Command::new(&program);
        command
            .arg("run")
            .env("WEIR_SINK_DATA_DIR", place.path().join("data"))
            .env("WEIR_SINK_GRPC_LISTEN", "127.0.0.1:0")
            .env("WEIR_SINK_HTTP_LISTEN", "127.0.0.1:0")
            .env("WEIR_SINK_LOG_LEVEL", "warn")
            .envs(
                settings
                    .iter()
                    .map(|(name, value)| (format!("WEIR_SINK_{name}"), value)),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut sink = Self {
            child,
            place,
            grpc: String::new(),
            http: String::new(),
        };
        sink.wait_for_endpoints().await?;
        Ok(sink)
    }

    async fn wait_for_endpoints(&mut self) -> anyhow::Result<()> {
        let end = Instant::now() + START;
        let path = self.data().join("endpoints.json");
        loop {
            if let Some(status) = self.child.try_wait()? {
                let log = std::fs::read_to_string(self.place.path().join("log"))?;
                bail!("the sink ended with {status}: {log}");
            }
            let text = std::fs::read(&path).unwrap_or_default();
            if let Ok(found) = serde_json::from_slice::<Value>(&text) {
                let address = |name: &str| Some(found[name].as_str()?.to_owned());
                self.grpc = format!("http://{}", address("grpc").context("grpc")?);
                self.http = address("http").context("http")?;
                return Ok(());
            }
            if Instant::now() > end {
                bail!("the sink has no {} after {START:?}", path.display());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Its data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.place.path().join("data")
    }

    /// CPU seconds it has used.
    pub(crate) async fn cpu_seconds(&self) -> anyhow::Result<f64> {
        http::metric(&self.http, "process_cpu_seconds_total").await
    }

    /// A token for all agents of a tenant, made as an operator makes it.
    pub(crate) fn token(&self, programs: &Path, tenant: &str) -> anyhow::Result<String> {
        let create = ["token", "create", "--role", "agent", "--agent-pattern", "*"];
        let made = self.command(programs, &[&create[..], &["--tenant", tenant]].concat())?;
        Ok(made.trim().to_owned())
    }

    /// What this sink's own program says to these arguments.
    pub(crate) fn command(&self, programs: &Path, arguments: &[&str]) -> anyhow::Result<String> {
        let done = Command::new(programs.join("weir-sink"))
            .args(arguments)
            .env("WEIR_SINK_DATA_DIR", self.data())
            .output()?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "{arguments:?}: {said}");
        Ok(String::from_utf8(done.stdout)?)
    }

    /// CPU seconds so far, as the system says: without asking the sink.
    pub(crate) fn cpu_of_process(&self) -> anyhow::Result<f64> {
        cpu_of(self.child.id())
    }

    /// Memory that is its own, in KiB: not that of files.
    pub(crate) fn memory_kib(&self) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = std::fs::read_to_string(path)?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("Anonymous:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.context("no Anonymous in smaps_rollup")?.parse()?)
    }

    /// Rows and bytes of the Parquet files it wrote, merges left out.
    pub(crate) async fn files(&self) -> anyhow::Result<(u64, u64)> {
        let rows = http::metric(&self.http, "weir_sink_store_readings_total").await?;
        let bytes = http::metric(&self.http, "weir_sink_store_written_bytes_total").await?;
        Ok((rows as u64, bytes as u64))
    }

    /// Kills it, as a power failure would.
    pub(crate) fn kill(mut self) -> anyhow::Result<TempDir> {
        self.child.kill()?;
        self.child.wait()?;
        let empty = tempfile::tempdir()?;
        Ok(std::mem::replace(&mut self.place, empty))
    }
}

/// CPU seconds that a process has used.
pub(crate) fn cpu_of(process: u32) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in parentheses may hold blanks; user and system time are the 14th and 15th field.
    let rest = text.rsplit_once(") ").context("no name in stat")?.1;
    let fields: Vec<&str> = rest.split(' ').collect();
    let ticks = |place: usize| -> anyhow::Result<f64> {
        Ok(fields.get(place).context("a short stat")?.parse()?)
    };
    Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

impl Drop for Sink {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
