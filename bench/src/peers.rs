//! Other servers beside Weir on the same work in one run: what a point costs each of them in CPU, on the wire and on disk.
//!
//! The servers are those of the system's packages (`victoria-metrics`, `prometheus`, `influxdb`), each started alone in a
//! directory of its own, with its own defaults; one that is not installed is left out and named. They take Prometheus remote
//! write, one batch of one agent per request. CPU is the growth of their process's from before the first request until
//! three seconds after the last answer; what they merge later is not in it, while Weir's has everything in files. What they
//! have stored is counted by asking them.

mod kinds;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;
use tempfile::TempDir;

use crate::gate::programs;
use crate::program::cpu_of;
use crate::replay::{self, Format};
use crate::work::{self, LARGE, SINGLE, SMALL, Work};
use kinds::{KINDS, Kind};

/// A server that does not answer by then ends the run.
const START: Duration = Duration::from_secs(30);
/// Between the last answer and the reading of the clock.
const SETTLE: Duration = Duration::from_secs(3);

/// How it is run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory with `weir-sink`; that of this program when not given.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Part of the works' points: two million of 100 x 100, 200,000 of 1 x 10.
    #[arg(long, default_value_t = 1.0)]
    part: f64,
}

/// One server, one work.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    server: String,
    work: &'static str,
    points: u64,
    /// Points it finds when asked for all of them.
    stored: u64,
    points_per_cpu_second: f64,
    wire_bytes_per_point: f64,
    disk_bytes_per_point: f64,
    answer_p50_ms: f64,
    answer_p99_ms: f64,
}

/// All servers there are, one after the other, Weir first.
pub(crate) async fn run(args: &Args) -> anyhow::Result<Vec<Outcome>> {
    let programs = programs(args.programs.clone())?;
    let sized = |work: Work, points: u64| Work {
        points: (points as f64 * args.part) as u64,
        ..work
    };
    let large = sized(LARGE, 2_000_000);
    let single = sized(SINGLE, 200_000);
    let mut outcomes = Vec::new();
    let one_each = Work {
        batches_per_request: 1,
        ..large
    };
    for work in [one_each, single, sized(SMALL, 2_000_000)] {
        outcomes.push(weir(&programs, work).await?);
    }
    for kind in &KINDS {
        let found = Command::new(kind.program).arg(kind.version).output();
        let Ok(found) = found else {
            tell(&format!("{} is not installed, it is left out", kind.name));
            continue;
        };
        let said = [found.stdout, found.stderr].concat();
        let name = kinds::with_version(kind, &String::from_utf8_lossy(&said));
        for work in [large, single] {
            let outcome = peer(kind, &name, work).await;
            outcomes.push(outcome.with_context(|| name.clone())?);
        }
    }
    Ok(outcomes)
}

async fn weir(programs: &Path, work: Work) -> anyhow::Result<Outcome> {
    let measured = work::run(programs, work, 1.0, false).await?;
    ensure!(measured.closed, "the ledger is open");
    Ok(Outcome {
        server: "weir".to_owned(),
        work: work.name,
        points: measured.points,
        stored: measured.points,
        points_per_cpu_second: measured.points_per_cpu_second(),
        wire_bytes_per_point: measured.wire_bytes_per_point,
        disk_bytes_per_point: measured.disk_bytes_per_point,
        answer_p50_ms: measured.ack_p50_ms,
        answer_p99_ms: measured.ack_p99_ms,
    })
}

async fn peer(kind: &Kind, name: &str, work: Work) -> anyhow::Result<Outcome> {
    let server = Server::start(kind).await?;
    let before = server.cpu()?;
    let arguments = replay::Args {
        format: Format::RemoteWrite,
        url: format!("http://{}{}", server.authority, kind.write),
        agents: 10,
        metrics: work.metrics,
        samples_per_batch: work.samples_per_batch,
        points: work.points,
        seed: 1,
    };
    let sent = replay::run(&arguments).await?;
    kind.flush(&server.authority).await?;
    tokio::time::sleep(SETTLE).await;
    let cpu = server.cpu()? - before;
    let stored = kind.count(&server.authority, sent.points).await?;
    let bytes = bytes_in(&server.stop()?)?;
    Ok(Outcome {
        server: name.to_owned(),
        work: work.name,
        points: sent.points,
        stored,
        points_per_cpu_second: sent.points as f64 / cpu,
        wire_bytes_per_point: sent.wire_bytes_per_point,
        disk_bytes_per_point: bytes as f64 / sent.points as f64,
        answer_p50_ms: sent.answer_p50_ms,
        answer_p99_ms: sent.answer_p99_ms,
    })
}

/// A running server of another kind; dropping it kills it.
struct Server {
    child: Child,
    place: Option<TempDir>,
    authority: String,
}

impl Server {
    async fn start(kind: &Kind) -> anyhow::Result<Self> {
        let place = tempfile::tempdir()?;
        let (own, other) = (free_port()?, free_port()?);
        let log = std::fs::File::create(place.path().join("log"))?;
        let data = place.path().join("data");
        std::fs::create_dir(&data)?;
        let authority = format!("127.0.0.1:{own}");
        let mut command = Command::new(kind.program);
        (kind.prepare)(&mut command, &data, &authority, other)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let server = Self {
            child,
            place: Some(place),
            authority,
        };
        let end = Instant::now() + START;
        while let Err(error) = kind.ready(&server.authority).await {
            let log = server
                .place
                .as_ref()
                .map(|place| place.path().join("log"))
                .and_then(|log| std::fs::read_to_string(log).ok());
            ensure!(
                Instant::now() < end,
                "no answer: {error:#}: {}",
                log.unwrap_or_default()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(server)
    }

    fn cpu(&self) -> anyhow::Result<f64> {
        cpu_of(self.child.id())
    }

    /// Ends it as its service manager would; answers what it has left.
    fn stop(mut self) -> anyhow::Result<TempDir> {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::TERM)?;
        self.child.wait()?;
        self.place.take().context("it has a place until it stops")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port())
}

/// Of all files of the server.
fn bytes_in(place: &TempDir) -> anyhow::Result<u64> {
    let mut sum = 0;
    let mut directories = vec![place.path().join("data")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            let facts = entry.metadata()?;
            match facts.is_dir() {
                true => directories.push(entry.path()),
                // As the disk has it: some reserve more than they write.
                false => sum += std::os::unix::fs::MetadataExt::blocks(&facts) * 512,
            }
        }
    }
    Ok(sum)
}

fn tell(text: &str) {
    use std::io::Write;
    // Nobody may be there to read it.
    let _ = writeln!(std::io::stderr(), "{text}");
}
