//! `spool replay`: dead letters back into the spool, by the running agent or, without one, here.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::ArgMatches;
use tokio::time::Instant;
use weir_process::clock::SystemClock;
use weir_process::exit::Exit;
use weir_process::output;

use super::Place;
use crate::config::Config;
use crate::dead_letter::request::{Answer, Request};
use crate::spool::{Replayed, Spool, SpoolError};

/// The agent looks for requests every second, and may wait for its disk.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(100);

pub(super) fn replay(place: &Place, config: &Config, matches: &ArgMatches) -> anyhow::Result<Exit> {
    let named = matches.get_many::<String>("letter");
    let letters: Option<Vec<String>> = named.map(|names| names.cloned().collect());
    if letters.is_none() && !matches.get_flag("all") {
        output::note("weir-agent: name the letters that `weir-agent spool ls` shows, or say --all");
        return Ok(Exit::Usage);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answer = runtime.block_on(async {
        match Spool::open(config.spool.clone(), Arc::new(SystemClock)) {
            Ok(spool) => here(&spool, letters.as_deref()).await,
            Err(SpoolError::Locked { .. }) => by_the_agent(place, letters).await,
            Err(error) => Err(error.into()),
        }
    })?;
    let Some(answer) = answer else {
        output::note(
            "weir-agent: the agent that has the spool open does not answer: nothing was asked of it any more",
        );
        return Ok(Exit::Unavailable);
    };
    match answer {
        Answer::Failed(reason) => {
            output::note(&format!("weir-agent: cannot replay: {reason}"));
            Ok(Exit::Io)
        }
        Answer::Done(replayed) => tell(&replayed),
    }
}

fn tell(replayed: &Replayed) -> anyhow::Result<Exit> {
    let Replayed {
        letters, readings, ..
    } = replayed;
    output::line(&format!(
        "put back into the spool: {letters} of the dead letters, {readings} readings"
    ))?;
    for fault in &replayed.faults {
        output::note(&format!("weir-agent: {fault}"));
    }
    Ok(if replayed.faults.is_empty() {
        Exit::Ok
    } else {
        Exit::Failure
    })
}

/// No agent runs: this process is the agent for a moment.
async fn here(spool: &Spool, letters: Option<&[String]>) -> anyhow::Result<Option<Answer>> {
    let replayed = spool.replay(letters).await?;
    spool.finish().await?;
    Ok(Some(Answer::Done(replayed)))
}

async fn by_the_agent(
    place: &Place,
    letters: Option<Vec<String>>,
) -> anyhow::Result<Option<Answer>> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let id = format!("{}-{}", std::process::id(), now.as_nanos());
    place
        .letters
        .ask(&id, &Request { letters })
        .context("cannot write into the agent's data directory")?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(answer) = place.letters.take_answer(&id) {
            return Ok(Some(answer));
        }
        tokio::time::sleep(LOOK).await;
    }
    place.letters.withdraw(&id);
    Ok(None)
}
