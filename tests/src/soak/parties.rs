//! Who takes part in a soak, and what happens to each: its own task makes its faults, at times
//! that its own chance decides.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::samples::Sample;
use super::{AGENTS, Plan};
use crate::chance::Chance;
use crate::counting::Life;
use crate::memory::{bytes_below, resident};
use crate::proxy::Proxy;
use crate::world::{Agent, Sink};

/// A process stays away for at most this long.
const AWAY: Duration = Duration::from_secs(3);
/// A link stays parted for at most this long.
const PARTED: Duration = Duration::from_secs(8);
/// How often an agent is asked what it has committed.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// An agent and its lives.
pub(super) struct Party {
    pub(super) agent: Agent,
    pub(super) lives: Vec<Life>,
}

impl Party {
    pub(super) async fn start(
        place: &Path,
        name: &str,
        url: &str,
        settings: &[(&str, &str)],
    ) -> Self {
        let lives = vec![Life::begin()];
        let agent = Agent::start(place, name, url, settings).await;
        Self { agent, lives }
    }

    fn life(&mut self) -> &mut Life {
        self.lives.last_mut().expect("one has begun")
    }

    async fn hear(&mut self) {
        if let Some(status) = self.agent.try_status().await {
            self.life().hear(&status);
        }
    }

    fn kill(&mut self) {
        self.agent.kill();
        self.life().end();
    }

    /// SIGTERM; what is wrong with how it ended.
    pub(super) async fn stop(&mut self) -> Result<(), String> {
        if let Some(status) = self.agent.try_status().await {
            if status["ledger"]["unexplained"] != 0 {
                return Err(format!("{}: unexplained: {status}", self.agent.name));
            }
            self.life().hear_before_stop(&status);
        }
        let exited = self.agent.terminate().await;
        self.life().end();
        if exited.success() {
            return Ok(());
        }
        Err(format!("{} stopped with {exited}", self.agent.name))
    }

    async fn restart(&mut self) {
        self.lives.push(Life::begin());
        self.agent.restart().await;
    }
}

/// What all parties share.
pub(super) struct Field {
    plan: Plan,
    over: CancellationToken,
    links: Arc<Vec<Proxy>>,
    kills: AtomicU64,
    stops: AtomicU64,
    cuts: AtomicU64,
    seen: Mutex<Seen>,
    spools: Vec<PathBuf>,
    sink: PathBuf,
}

struct Seen {
    /// Of the agents, then of the sink.
    pids: [u32; AGENTS + 1],
    http: std::net::SocketAddr,
    faults: Vec<String>,
}

impl Field {
    pub(super) fn new(
        plan: Plan,
        links: &Arc<Vec<Proxy>>,
        agents: &[Party],
        sink: &Sink,
    ) -> Arc<Self> {
        let mut pids = [sink.pid(); AGENTS + 1];
        for (pid, party) in pids.iter_mut().zip(agents) {
            *pid = party.agent.pid();
        }
        Arc::new(Self {
            plan,
            over: CancellationToken::new(),
            links: Arc::clone(links),
            kills: AtomicU64::new(0),
            stops: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
            seen: Mutex::new(Seen {
                pids,
                http: sink.http,
                faults: Vec::new(),
            }),
            spools: agents.iter().map(|party| party.agent.data()).collect(),
            sink: sink.data(),
        })
    }

    /// No more faults: every party comes to rest, running.
    pub(super) fn end(&self) {
        self.over.cancel();
    }

    /// Kills, stops, and troubles of links.
    pub(super) fn totals(&self) -> (u64, u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.kills), read(&self.stops), read(&self.cuts))
    }

    /// The same in words.
    pub(super) fn counts(&self) -> String {
        let (kills, stops, cuts) = self.totals();
        format!("{kills} kills, {stops} stops, {cuts} cuts")
    }

    pub(super) fn faults(&self) -> Vec<String> {
        std::mem::take(&mut self.seen().faults)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the next fault of a party is.
    fn next(&self, chance: &mut Chance) -> Instant {
        Instant::now() + chance.between(self.plan.between.0, self.plan.between.1)
    }

    pub(super) async fn trouble_agent(
        self: Arc<Self>,
        mut party: Party,
        mut chance: Chance,
    ) -> Party {
        let number = self
            .spools
            .iter()
            .position(|spool| *spool == party.agent.data())
            .expect("the field knows its agents");
        loop {
            let at = self.next(&mut chance);
            while Instant::now() < at && !self.over.is_cancelled() {
                party.hear().await;
                tokio::select! {
                    () = self.over.cancelled() => {}
                    () = sleep_until(at.min(Instant::now() + ASK_EVERY)) => {}
                }
            }
            if self.over.is_cancelled() {
                return party;
            }
            if chance.below(2) == 0 {
                party.kill();
                self.kills.fetch_add(1, Ordering::Relaxed);
            } else {
                let stopped = party.stop().await;
                self.stops.fetch_add(1, Ordering::Relaxed);
                self.seen().faults.extend(stopped.err());
            }
            tokio::time::sleep(chance.between(Duration::ZERO, AWAY)).await;
            party.restart().await;
            self.seen().pids[number] = party.agent.pid();
        }
    }

    pub(super) async fn trouble_sink(self: Arc<Self>, mut sink: Sink, mut chance: Chance) -> Sink {
        loop {
            let at = self.next(&mut chance);
            tokio::select! {
                () = self.over.cancelled() => return sink,
                () = sleep_until(at) => {}
            }
            if chance.below(2) == 0 {
                sink.kill();
                self.kills.fetch_add(1, Ordering::Relaxed);
            } else {
                let exited = sink.terminate().await;
                self.stops.fetch_add(1, Ordering::Relaxed);
                if !exited.success() {
                    let found = format!("the sink stopped with {exited}");
                    self.seen().faults.push(found);
                }
            }
            tokio::time::sleep(chance.between(Duration::ZERO, AWAY)).await;
            sink.restart().await;
            self.links.iter().for_each(|link| link.to(sink.grpc));
            let mut seen = self.seen();
            seen.pids[AGENTS] = sink.pid();
            seen.http = sink.http;
        }
    }

    pub(super) async fn trouble_link(self: Arc<Self>, number: usize, mut chance: Chance) {
        let link = &self.links[number];
        loop {
            let at = self.next(&mut chance);
            tokio::select! {
                () = self.over.cancelled() => return,
                () = sleep_until(at) => {}
            }
            self.cuts.fetch_add(1, Ordering::Relaxed);
            match chance.below(3) {
                0 => link.cut(),
                1 => {
                    link.lose_acks(2);
                    link.cut();
                }
                _ => {
                    link.part();
                    tokio::time::sleep(chance.between(Duration::ZERO, PARTED)).await;
                    link.heal();
                }
            }
        }
    }

    /// Memory and disk now.
    pub(super) async fn sample(&self, at: Duration) -> Sample {
        let (pids, http) = {
            let seen = self.seen();
            (seen.pids, seen.http)
        };
        Sample {
            at,
            resident: pids.map(resident),
            spools: self.spools.iter().map(|spool| bytes_below(spool)).sum(),
            journal: bytes_below(&self.sink.join("log")),
            store: bytes_below(&self.sink.join("store")),
            catalog: ["catalog.db", "catalog.db-wal", "catalog.db-shm"]
                .iter()
                .filter_map(|name| std::fs::metadata(self.sink.join(name)).ok())
                .map(|metadata| metadata.len())
                .sum(),
            stored: stored(http).await,
        }
    }
}

/// Readings stored over all streams; nothing while the sink is away.
async fn stored(http: std::net::SocketAddr) -> Option<u64> {
    let asking = crate::http::get(http, "/v1/ledger");
    let answer = tokio::time::timeout(Duration::from_secs(2), asking).await;
    let (_, body) = answer.ok()?.ok()?;
    let ledger: serde_json::Value = serde_json::from_slice(&body).ok()?;
    ledger["totals"]["stored"].as_u64()
}
