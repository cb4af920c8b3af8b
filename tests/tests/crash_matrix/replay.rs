//! `weir-agent spool replay` is killed. Each life of the agent leaves a stream with a refused batch and
//! some that wait; the replay that follows is killed, and a last one must find what is left to do.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use weir_tests::counting::{Life, check_lives};
use weir_tests::disk;
use weir_tests::faulty::{FaultySink, Plan};
use weir_tests::programs;
use weir_tests::proxy::Proxy;
use weir_tests::wait::until;
use weir_tests::world::{Agent, run_once};

use crate::agent::{end_well, loss_bound, settings};
use crate::cases::{BACKLOG, Case};
use crate::sink::killed;

const LIMIT: Duration = Duration::from_secs(60);

/// Runs one case; what is wrong, if anything is.
pub(crate) async fn run(case: &Case) -> Result<(), String> {
    let place = tempfile::tempdir().expect("a directory");
    let refusing = Plan {
        refuse: Some(3),
        ..Plan::default()
    };
    let sink = FaultySink::start(refusing).await;
    disk::watch();
    let proxy = Proxy::start().await;
    let mut lives = vec![Life::begin()];
    let mut agent = Agent::start(place.path(), "replay", &proxy.url(), &settings(false)).await;
    for (turn, passing) in case.passings.iter().enumerate() {
        if turn > 0 {
            lives.push(Life::begin());
            agent.restart().await;
        }
        proxy.to(sink.address);
        leave_a_letter(&agent, lives.last_mut().expect("it was pushed"), &proxy).await;
        agent.kill();
        lives.last_mut().expect("it was pushed").end();
        let order = format!("{}@{passing}", case.point.name());
        killed(
            replay(&agent.data(), &[("WEIR_FAULT_KILL", &order)]).status,
            case,
        )?;
    }
    sink.plan(Plan::default());
    proxy.to(sink.address);
    // A letter of which the sink had not heard when the agent was killed is left for the second turn.
    for last in [false, true] {
        let replayed = replay(&agent.data(), &[]);
        if last && !replayed.status.success() {
            return Err(format!("the last replay: {replayed:?}"));
        }
        lives.push(Life::begin());
        agent.restart().await;
        end_well(&mut agent, lives.last_mut().expect("it was pushed")).await?;
    }
    let left = letters(&agent.data());
    if !left.is_empty() {
        return Err(format!("these are still dead letters: {left:?}"));
    }
    let stored = sink.seen().readings();
    let mut stored: Vec<(i64, u64)> = stored
        .iter()
        .map(|(time, value)| (*time, *value as u64))
        .collect();
    stored.sort_unstable();
    check_lives(&stored, &lives, loss_bound())
}

/// Names of the files in the dead-letter store.
fn letters(data: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(data.join("dead-letter")).expect("a dead-letter store");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
    entries
        .map(|entry| name(entry).to_string_lossy().into_owned())
        .collect()
}

/// Waits until a batch of this life was refused, takes the sink away, and waits for a backlog.
async fn leave_a_letter(agent: &Agent, life: &mut Life, proxy: &Proxy) {
    until("a refused batch", LIMIT, || async {
        let status = agent.try_status().await?;
        let live = status["streams"]
            .as_array()?
            .iter()
            .find(|stream| stream["live"] == true)?;
        (live["dropped"]["refused"].as_u64()? > 0).then_some(())
    })
    .await;
    proxy.close();
    let status = until("readings that wait", LIMIT, || async {
        let status = agent.try_status().await?;
        (status["ledger"]["spooled"].as_u64()? >= BACKLOG).then_some(status)
    })
    .await;
    life.hear(&status);
}

fn replay(data: &Path, environment: &[(&str, &str)]) -> Output {
    let data = data.to_str().expect("a path in UTF-8");
    let arguments = ["spool", "replay", "--all", "--data-dir", data];
    run_once(&programs::agent(), &arguments, environment)
}
