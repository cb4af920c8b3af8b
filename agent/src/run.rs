//! `weir-agent run`: an agent of this machine's parts, with signals and a status page.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use weir_process::exit::Exit;
use weir_process::health::Stage;
use weir_process::memory;
use weir_process::place::Place;
use weir_process::progress;

use crate::assembly::{Agent, Parts, StartError};
use crate::config::Config;
use crate::status::{self, Sources};

/// Runs the agent until it is told to stop, or cannot go on.
///
/// # Errors
/// Something it needs cannot be had at the start.
pub(crate) async fn run(config: Config) -> Result<Exit, StartError> {
    let parts = Parts::of_this_machine(config.clone());
    parts.shutdown.on_signal().map_err(StartError::Signals)?;
    on_hangup().map_err(StartError::Signals)?;
    let listener = listen(config.status_listen).await?;
    let agent = Agent::start(parts)?;
    // Only now the data directory is ours.
    let place = Place::of([config.spool.data_dir.join("spool")]).map_err(StartError::Marker)?;
    tokio::spawn(stay_small());
    tokio::spawn(watch(place, agent.health.stage("data", None)));
    status::write_endpoints(&config.spool.data_dir, listener.as_ref());
    let status = CancellationToken::new();
    if let Some(listener) = listener {
        let sources = Arc::new(sources(config, &agent));
        tokio::spawn(status::serve(listener, sources, status.child_token()));
    }
    let exit = agent.until_stopped().await;
    status.cancel();
    Ok(exit)
}

/// A SIGHUP is what makes others read their settings again. Here it ends nothing and changes nothing, and the log says what does.
fn on_hangup() -> io::Result<()> {
    let mut hangups = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            tracing::warn!(
                "SIGHUP changes nothing: settings are read at the start alone, restart the agent to take others (what it holds is kept); files with tokens and certificates are read again by themselves"
            );
        }
    });
    Ok(())
}

fn sources(config: Config, agent: &Agent) -> Sources {
    let sensors = config.sensors.iter().cloned().zip(agent.states.clone());
    Sources {
        sensors: sensors.collect(),
        config,
        clock: Arc::clone(&agent.clock),
        started_ns: agent.started_ns,
        health: agent.health.clone(),
        registry: agent.registry.clone(),
        queue: agent.queue.clone(),
        spool: agent.spool().clone(),
        link: agent.link(),
        encryption: agent.encryption.clone(),
        own: agent.own.clone(),
        drain: agent.drain.clone(),
        budget: agent.budget.clone(),
        age: agent.age.clone(),
        waits: agent.waits.clone(),
    }
}

/// Parsing at the start and a peak now and then leave holes in the heap: a third of what an agent has of its own.
async fn stay_small() {
    tokio::time::sleep(memory::GIVE_BACK_EVERY).await;
    loop {
        memory::give_back();
        tokio::time::sleep(30 * memory::GIVE_BACK_EVERY).await;
    }
}

/// Says so when the spool's directory is removed or replaced: what is written there then is lost.
async fn watch(place: Place, stage: Stage) {
    let mut looks = progress::looks();
    loop {
        looks.tick().await;
        match place.check() {
            Ok(()) => stage.ok(),
            Err(reason) => {
                tracing::error!(reason, "what is sampled now is not kept: restart the agent");
                return stage.dead(format!("{reason}: what is written is lost"));
            }
        }
    }
}

async fn listen(address: Option<SocketAddr>) -> Result<Option<TcpListener>, StartError> {
    let Some(address) = address else {
        return Ok(None);
    };
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| StartError::Listen { address, source })?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "status page listens");
    }
    Ok(Some(listener))
}
