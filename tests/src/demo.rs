//! The steps of the demo, each said before it is done.

use std::cell::Cell;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Duration;

use weir_tests::programs;
use weir_tests::wait::until;
use weir_tests::world::{Agent, Sink, Sums};

/// Readings of both agents that must be stored before and after the kill.
const ENOUGH: u64 = 200;

/// No step takes longer on a slow machine.
const LIMIT: Duration = Duration::from_secs(120);

const HOST: &str = "this-host";
const DEVICE: &str = "simulated-press";

/// One line for the person who watches. A closed pipe is no reason to stop.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// The whole demo. With `keep` it runs until Ctrl-C instead of stopping by itself.
pub(crate) async fn run(keep: bool) -> ExitCode {
    let directory = match tempfile::Builder::new().prefix("weir-demo-").tempdir() {
        Ok(directory) => directory,
        Err(error) => {
            say(&format!("cannot make a temporary directory: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let mut world = start(directory.path(), keep).await;
    world.grow(ENOUGH, "stored").await;
    if keep {
        return world.stay().await;
    }
    world.kill_and_restart().await;
    world.show().await;
    world.stop().await
}

struct World {
    sink: Sink,
    agents: Vec<Agent>,
}

async fn start(directory: &Path, keep: bool) -> World {
    say("starting a sink ...");
    let ports: &[(&str, &str)] = if keep {
        &[
            ("GRPC_LISTEN", "127.0.0.1:4317"),
            ("HTTP_LISTEN", "127.0.0.1:4318"),
        ]
    } else {
        &[]
    };
    let sink = Sink::start(directory, ports).await;
    say(&format!("  gRPC on {}, HTTP on {}", sink.grpc, sink.http));
    say("starting an agent on this host's sensors and one with a simulated device ...");
    let url = sink.url();
    let quick = ("BATCH_MAX_AGE", "1s");
    let host = Agent::start(directory, HOST, &url, &[quick]).await;
    let device = Agent::start(
        directory,
        DEVICE,
        &url,
        &[
            quick,
            ("SENSORS", "simulated"),
            ("SAMPLE_INTERVAL", "100ms"),
        ],
    )
    .await;
    World {
        sink,
        agents: vec![host, device],
    }
}

impl World {
    /// Readings stored over both agents; nothing while the sink is away.
    async fn stored(&self) -> u64 {
        let host = self.sink.closed_ledger(HOST).await;
        let device = self.sink.closed_ledger(DEVICE).await;
        host.stored + device.stored
    }

    /// Waits until this many more readings are stored, and says how it goes.
    async fn grow(&self, by: u64, what: &str) {
        let goal = self.stored().await + by;
        let said = Cell::new(0);
        until("readings to be stored", LIMIT, || async {
            let stored = self.stored().await;
            if stored >= goal || stored > said.get() + ENOUGH / 4 {
                say(&format!("  {stored} readings {what}"));
                said.set(stored);
            }
            (stored >= goal).then_some(())
        })
        .await;
    }

    /// What the demo is about: the sink dies without warning and nothing is missing afterwards.
    async fn kill_and_restart(&mut self) {
        say("SIGKILL to the sink; the agents keep sampling into their spools ...");
        self.sink.kill();
        let device = &self.agents[1];
        let before = spooled(device).await;
        until("the spool to grow", LIMIT, || async {
            let waiting = spooled(device).await;
            (waiting > before + ENOUGH / 4)
                .then(|| say(&format!("  {waiting} readings wait at {DEVICE}")))
        })
        .await;
        say("starting the sink again on what it left ...");
        self.sink.restart().await;
        self.grow(ENOUGH, "stored, the waiting ones among them")
            .await;
    }

    /// SQL answers and the ledger, through the program an operator would use.
    async fn show(&self) {
        let latest = "select device, metric, attributes, value, unit, time from latest \
                      where device = 'this-host' and metric in ('system.cpu.load_average.1m', \
                      'system.cpu.utilization', 'system.memory.usage', 'system.network.io') \
                      order by 1, 2, 3 limit 12";
        let minutes = "select date_trunc('minute', time) as minute, device, metric, \
                       round(avg(value), 3) as average, count(*) as readings from samples \
                       where device <> 'this-host' group by 1, 2, 3 order by 2, 3, 1 limit 8";
        say("\nthe latest values of this host:");
        self.ask(&["sql", latest]);
        say("\nthe simulated device by minute:");
        self.ask(&["sql", minutes]);
    }

    fn ask(&self, arguments: &[&str]) {
        let url = format!("http://{}", self.sink.http);
        let status = Command::new(programs::sink())
            .args(arguments)
            .args(["--url", &url])
            .status();
        if !status.as_ref().is_ok_and(ExitStatus::success) {
            say(&format!("  no answer: {status:?}"));
        }
    }

    /// Agents first, so that what they still hold is delivered; then the ledger; then the sink.
    async fn stop(mut self) -> ExitCode {
        say("\nstopping the agents; what they still hold is delivered first ...");
        let mut clean = true;
        for agent in &mut self.agents {
            let status = agent.terminate().await;
            clean &= status.success();
            say(&format!("  {} ended with {status}", agent.name));
        }
        say("\nthe ledger (produced = stored + spooled + dropped):");
        self.ask(&["ledger"]);
        let (host, device) = (
            self.sink.closed_ledger(HOST).await,
            self.sink.closed_ledger(DEVICE).await,
        );
        let status = self.sink.terminate().await;
        clean &= status.success();
        say(&format!("\nthe sink ended with {status}"));
        let all_there = complete(host) && complete(device);
        if clean && all_there {
            say("done: every reading is accounted for, unexplained 0");
            return ExitCode::SUCCESS;
        }
        say("the demo did not end as it should: see above");
        ExitCode::FAILURE
    }

    /// Runs until Ctrl-C, then stops as the demo does.
    async fn stay(self) -> ExitCode {
        let http = self.sink.http;
        say("\nrunning until Ctrl-C. In another terminal:");
        let sink = programs::sink();
        let sink = sink.display();
        let query = "select device, metric, value, unit, time from latest order by 1,2";
        say(&format!("  {sink} sql \"{query}\""));
        say(&format!("  {sink} ledger"));
        say(&format!("  curl -s http://{http}/metrics"));
        for agent in &self.agents {
            say(&format!("  curl -s http://{}/status", agent.status));
        }
        let _ = tokio::signal::ctrl_c().await;
        self.show().await;
        self.stop().await
    }
}

/// Nothing waits any more and everything produced is stored.
fn complete(sums: Sums) -> bool {
    sums.produced > 0 && sums.spooled == 0 && sums.produced == sums.stored + sums.dropped
}

/// Readings an agent still holds.
async fn spooled(agent: &Agent) -> u64 {
    let status = agent.status().await;
    status["ledger"]["spooled"].as_u64().unwrap_or(0)
}
