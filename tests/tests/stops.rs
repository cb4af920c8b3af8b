//! Graceful ends: SIGTERM at either side at any moment under load ends well and in time, and
//! nothing is lost or doubled. The agents count, so every reading has a name.

#[path = "stops/drain.rs"]
mod drain;
#[path = "stops/random.rs"]
mod random;
#[path = "stops/rolling.rs"]
mod rolling;
#[path = "stops/twice.rs"]
mod twice;

use std::time::Duration;

use weir_tests::counting::{COUNTING, Life, audited, check_lives, committed, folded, readings};
use weir_tests::wait::until;
use weir_tests::world::{Agent, Sink};

/// No condition is waited for longer.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A stop takes no longer: the grace of both programs here, and what a busy machine adds.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// A clean stop loses nothing that was read; this much may lie between the last reading and the end
/// of the process: the delivery of what it held.
pub(crate) const STOPPING: Duration = Duration::from_secs(12);

/// Counting every 2 ms, and a grace of 8 s.
pub(crate) fn settings() -> Vec<(&'static str, &'static str)> {
    let quick = [
        ("SAMPLE_INTERVAL", "2ms"),
        ("BATCH_MAX_READINGS", "10"),
        ("BATCH_MAX_AGE", "50ms"),
        ("SPOOL_COMMIT_INTERVAL", "20ms"),
        ("SHUTDOWN_GRACE", "8s"),
    ];
    COUNTING.into_iter().chain(quick).collect()
}

/// Small flushes and merges, and a grace of 8 s.
pub(crate) const SINK: &[(&str, &str)] = &[
    ("STORE_FLUSH_ROWS", "500"),
    ("STORE_FLUSH_INTERVAL", "200ms"),
    ("COMPACTION_INTERVAL", "1s"),
    ("COMPACTION_MIN_FILES", "4"),
    ("SHUTDOWN_GRACE", "8s"),
    ("QUERY_MAX_ROWS", "1000000"),
];

/// An agent and its lives.
pub(crate) struct Counted {
    pub(crate) agent: Agent,
    pub(crate) lives: Vec<Life>,
}

impl Counted {
    /// Starts an agent that delivers to `url`.
    pub(crate) async fn start(parent: &std::path::Path, name: &str, url: &str) -> Self {
        Self::start_with(parent, name, url, &settings()).await
    }

    /// The same with other settings.
    pub(crate) async fn start_with(
        parent: &std::path::Path,
        name: &str,
        url: &str,
        settings: &[(&str, &str)],
    ) -> Self {
        let lives = vec![Life::begin()];
        let agent = Agent::start(parent, name, url, settings).await;
        Self { agent, lives }
    }

    /// The next life.
    pub(crate) async fn restart(&mut self) {
        self.lives.push(Life::begin());
        self.agent.restart().await;
    }

    /// SIGTERM, which ends well, in time, and loses nothing that was read.
    pub(crate) async fn stop(&mut self) {
        let life = self.lives.last_mut().expect("one has begun");
        life.hear_before_stop(&self.agent.status().await);
        let began = std::time::Instant::now();
        let exited = self.agent.terminate().await;
        let took = began.elapsed();
        life.end();
        assert!(exited.success(), "{exited}:\n{}", self.agent.log());
        assert!(took < GRACE, "the agent took {took:?} to stop");
    }

    /// Everything is delivered; the agent is stopped; what is stored is what was read.
    pub(crate) async fn finish(mut self, sink: &Sink) {
        until("old streams to be delivered", LIMIT, || async {
            let status = self.agent.try_status().await?;
            let streams = status["streams"].as_array()?;
            (streams.len() == 1 && committed(&status) > 0).then_some(())
        })
        .await;
        self.stop().await;
        let name = &self.agent.name;
        folded(sink, name).await;
        let stored = readings(sink, name).await;
        check_lives(&stored, &self.lives, STOPPING).unwrap_or_else(|found| {
            panic!("{name}: {found}");
        });
        let sums = sink.closed_ledger(name).await;
        let count = stored.len() as u64;
        assert_eq!((sums.stored, sums.spooled, sums.dropped), (count, 0, 0));
        audited(sink).expect("files and ledger agree");
    }
}

/// SIGTERM, which ends well and in time.
pub(crate) async fn stop_sink(sink: &mut Sink) {
    sink.ask_to_stop();
    stopped(sink).await;
}

/// The sink, which was asked to, ends well and in time.
pub(crate) async fn stopped(sink: &mut Sink) {
    let began = std::time::Instant::now();
    let exited = sink.ended("the sink to stop").await;
    let took = began.elapsed();
    assert!(exited.success(), "{exited}:\n{}", sink.log());
    assert!(took < GRACE, "the sink took {took:?} to stop");
}

/// Lines of a log that an operator would have to read.
pub(crate) fn complaints(log: &str) -> Vec<&str> {
    let loud = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
    log.lines().filter(loud).collect()
}
