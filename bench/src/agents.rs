//! Agents of a run: real programs with simulated sensors, beside a sink.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tempfile::TempDir;

/// How long an agent may take to deliver what it has and stop.
const STOP: Duration = Duration::from_secs(60);

/// A running agent; dropping it kills it and removes what it wrote.
pub(crate) struct Agent {
    child: Child,
    program: PathBuf,
    settings: Vec<(String, String)>,
    place: TempDir,
}

impl Agent {
    /// Starts `program` against a sink, with settings by the names of its environment less `WEIR_AGENT_`.
    pub(crate) fn start(
        program: &Path,
        sink: &str,
        settings: &[(&str, String)],
    ) -> anyhow::Result<Self> {
        let place = tempfile::tempdir()?;
        let mut own = vec![
            ("WEIR_AGENT_SINK_URL".to_owned(), sink.to_owned()),
            (
                "WEIR_AGENT_DATA_DIR".to_owned(),
                place.path().display().to_string(),
            ),
            ("WEIR_AGENT_STATUS_LISTEN".to_owned(), "127.0.0.1:0".into()),
            ("WEIR_AGENT_SENSORS".to_owned(), "simulated".into()),
            ("WEIR_AGENT_LOG_LEVEL".to_owned(), "error".into()),
        ];
        let named = |(name, value): &(&str, String)| (format!("WEIR_AGENT_{name}"), value.clone());
        own.extend(settings.iter().map(named));
        Ok(Self {
            child: spawn(program, &own)?,
            program: program.to_owned(),
            settings: own,
            place,
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it, as a power failure would.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again on what it left.
    pub(crate) fn again(&mut self) -> anyhow::Result<()> {
        self.child = spawn(&self.program, &self.settings)?;
        Ok(())
    }

    /// Has it deliver what it has, and stop.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        let process = i32::try_from(self.child.id()).ok();
        let process = process.and_then(rustix::process::Pid::from_raw);
        let process = process.context("a process has a number")?;
        rustix::process::kill_process(process, rustix::process::Signal::TERM)?;
        let end = Instant::now() + STOP;
        loop {
            if let Some(status) = self.child.try_wait()? {
                let place = self.place.path().display();
                ensure!(status.success(), "an agent on {place} ended with {status}");
                return Ok(());
            }
            ensure!(Instant::now() < end, "an agent does not stop");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn spawn(program: &Path, settings: &[(String, String)]) -> anyhow::Result<Child> {
    let settings = settings.iter().map(|(name, value)| (name, value));
    let child = Command::new(program)
        .arg("run")
        .envs(settings)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    child.with_context(|| format!("cannot start {}", program.display()))
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
