//! The agent is killed while a sink refuses the third batch of every stream: the batch is in the
//! dead-letter store, everything else with the sink, nothing in neither.

use std::path::Path;
use std::time::Duration;

use weir_proto::batch::{self, Values};
use weir_proto::record;
use weir_proto::v1::record::Record as Kind;
use weir_tests::counting::{Life, check_lives};
use weir_tests::disk;
use weir_tests::faulty::{FaultySink, Plan};
use weir_tests::proxy::Proxy;
use weir_tests::wait::until;
use weir_tests::world::{Agent, Faults};

use crate::agent::{end_well, loss_bound, settings, until_killed};
use crate::cases::Case;
use crate::sink::killed;

/// Refused in every stream.
const REFUSED: u64 = 3;
const LIMIT: Duration = Duration::from_secs(60);

/// Runs one case; what is wrong, if anything is.
pub(crate) async fn run(case: &Case) -> Result<(), String> {
    let place = tempfile::tempdir().expect("a directory");
    let sink = FaultySink::start(Plan {
        refuse: Some(REFUSED),
        ..Plan::default()
    })
    .await;
    disk::watch();
    let proxy = Proxy::start().await;
    let settings = settings(false);
    let mut lives = vec![Life::begin()];
    let mut agent = Agent::start(place.path(), "refused", &proxy.url(), &settings).await;
    until("a stream to begin with", LIMIT, || async {
        let status = agent.try_status().await?;
        (status["ledger"]["produced"].as_u64()? >= 20).then_some(())
    })
    .await;
    agent.kill();
    lives[0].end();
    for passing in &case.passings {
        agent.faults = Faults::kill(case.point, *passing);
        let mut life = Life::begin();
        let exited = until_killed(&mut agent, &mut life, case.backlog, || {
            proxy.to(sink.address)
        })
        .await
        .ok_or_else(|| format!("passing {passing} was never reached"))?;
        life.end();
        lives.push(life);
        proxy.close();
        killed(exited, case)?;
    }
    agent.faults = Faults::none();
    proxy.to(sink.address);
    lives.push(Life::begin());
    agent.restart().await;
    end_well(&mut agent, lives.last_mut().expect("it was pushed")).await?;

    let seen = sink.seen();
    let mut kept: Vec<(i64, u64)> = seen
        .readings()
        .iter()
        .map(|(time, value)| (*time, *value as u64))
        .collect();
    let letters = dead_letters(&agent.data().join("dead-letter"));
    if seen.skips.len() != lives.len() {
        return Err(format!(
            "{} streams, but these skips: {:?}",
            lives.len(),
            seen.skips
        ));
    }
    kept.extend(letters);
    kept.sort_unstable();
    check_lives(&kept, &lives, loss_bound())
}

/// (observed ns, value) of every reading in the dead-letter store.
fn dead_letters(directory: &Path) -> Vec<(i64, u64)> {
    let mut readings = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a dead-letter store") {
        let path = entry.expect("a readable directory").path();
        if path
            .extension()
            .is_none_or(|extension| extension != "batch")
        {
            continue;
        }
        let body = std::fs::read(&path).expect("a readable letter");
        let record = record::decode(body.into()).expect("a whole record");
        let Some(Kind::Batch(batch)) = record.record else {
            panic!("{} holds no batch", path.display());
        };
        let header = batch.header.expect("a header");
        for block in batch::decode(&header, &batch.payload).expect("a whole batch") {
            for column in &block.columns {
                if let Values::Numbers(values) = &column.values {
                    let times = block.times.iter().copied();
                    readings.extend(times.zip(values.iter().map(|value| *value as u64)));
                }
            }
        }
    }
    readings
}
