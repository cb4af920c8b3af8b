//! Budgets: what is counted, what follows from it, and that an agent lives by it.

use std::sync::Mutex;

use tracing::field::{Field, Visit};
use tracing::span;

use super::waits::Verdict;
use super::*;
use crate::assembly::{Agent, Parts};
use crate::config::Config;
use crate::sensors::Given;
use crate::spool::{Ground, Writers};
use weir_process::clock::ManualClock;
use weir_process::shutdown::Shutdown;

const SECOND: Duration = Duration::from_secs(1);
const CONFIGURED: Waits = Waits {
    age: Duration::from_secs(2),
    commit: SECOND,
};

fn limits(flash: u64, wire: u64) -> Limits {
    Limits {
        flash,
        wire,
        max_interval: 60 * SECOND,
    }
}

/// What an agent would use up in a day: something for each commit and each batch, and something anyhow.
fn plant(waits: Waits, scale: f64) -> Rates {
    let per_day = |wait: Duration| 86_400.0 / wait.as_secs_f64();
    Rates {
        flash: Some(scale * (10_000.0 * per_day(waits.commit) + 1e6)),
        wire: Some(scale * (2_000.0 * per_day(waits.age) + 1e6)),
        growth: 0.0,
    }
}

/// Looks every five seconds for two hours; answers the verdicts that changed something, and the last.
fn settle(governor: &mut Governor, start: Instant, scale: f64) -> (Vec<(Waits, Waits)>, Verdict) {
    let (mut changes, mut waits) = (Vec::new(), CONFIGURED);
    let mut verdict = governor.judge(start, Rates::default());
    for look in 1..=1440 {
        verdict = governor.judge(start + 5 * look * SECOND, plant(waits, scale));
        if let Some((from, to)) = verdict.changed {
            waits = to;
            changes.push((from, to));
        }
    }
    (changes, verdict)
}

/// Red when nothing is judged, when a step is judged too early, or when 45 % of a limit is no bound for a step back.
#[tokio::test]
async fn waits_double_until_the_limit_holds_and_stay() {
    let start = Instant::now();
    // 865 MB a day as configured; 109 MB at commits of eight seconds.
    let mut governor = Governor::new(limits(120_000_000, 0), CONFIGURED, start);
    let (changes, verdict) = settle(&mut governor, start, 1.0);
    let commits: Vec<u64> = changes.iter().map(|(_, to)| to.commit.as_secs()).collect();
    let ages: Vec<u64> = changes.iter().map(|(_, to)| to.age.as_secs()).collect();
    assert_eq!(commits, [2, 4, 8], "no step too few, too many or back");
    assert_eq!(ages, [4, 8, 16]);
    assert!(!verdict.flash_exceeded);
}

/// Red when a wait outgrows the ceiling, or nobody is told that it does not help.
#[tokio::test]
async fn the_ceiling_is_kept_and_said_to_be_reached() {
    let start = Instant::now();
    let mut governor = Governor::new(limits(1000, 0), CONFIGURED, start);
    let (changes, verdict) = settle(&mut governor, start, 1.0);
    let (_, last) = changes.last().unwrap();
    let ceiling = limits(1, 0).longest(CONFIGURED);
    assert_eq!(*last, ceiling);
    assert_eq!(ceiling.loss_bound(), 120 * SECOND);
    assert!(verdict.flash_exceeded && !verdict.wire_exceeded);
}

/// Red when the wire lengthens commits, or an unlimited disk does.
#[tokio::test]
async fn the_wire_makes_only_batches_wait() {
    let start = Instant::now();
    let mut governor = Governor::new(limits(0, 20_000_000), CONFIGURED, start);
    let (changes, verdict) = settle(&mut governor, start, 1.0);
    assert!(changes.iter().all(|(_, to)| to.commit == CONFIGURED.commit));
    assert_eq!(changes.last().unwrap().1.age, 16 * SECOND);
    assert!(!verdict.wire_exceeded);
}

/// Red when nothing is ever shortened, or what is shortened passes what is configured.
#[tokio::test]
async fn waits_return_to_what_is_configured_when_there_is_room() {
    let start = Instant::now();
    let mut governor = Governor::new(limits(120_000_000, 0), CONFIGURED, start);
    let (changes, _) = settle(&mut governor, start, 1.0);
    let reached = changes.last().unwrap().1;
    let later = start + 10_000 * SECOND;
    let (mut waits, mut back) = (reached, Vec::new());
    for look in 1..=1440 {
        let verdict = governor.judge(later + 5 * look * SECOND, plant(waits, 0.001));
        if let Some((_, to)) = verdict.changed {
            waits = to;
            back.push(to.commit.as_secs());
        }
    }
    assert_eq!((waits, back), (CONFIGURED, vec![4, 2, 1]));
}

/// Red when the first seconds are believed, when the span of ten minutes is not cut, or when a restart is forgotten.
#[tokio::test]
async fn rates_are_those_of_late() {
    let start = Instant::now();
    let mut watch = Watch::default();
    let at = |seconds: u64, flash: u64, waiting: u64| {
        let usage = Usage {
            flash,
            wire: 2 * flash,
            waiting,
        };
        (start + Duration::from_secs(seconds), usage)
    };
    let mut look = |(now, usage)| watch.look(now, usage);
    assert_eq!(look(at(0, 1000, 0)).flash, None);
    assert_eq!(look(at(5, 9000, 0)).flash, None);
    let rates = look(at(10, 1100, 500));
    assert_eq!(
        (rates.flash, rates.wire),
        (Some(864_000.0), Some(1_728_000.0))
    );
    assert_eq!(rates.growth, 50.0);
    for seconds in 11..=700 {
        look(at(seconds, 2000 + seconds, 100_000 + 3 * seconds));
    }
    let rates = look(at(701, 2701, 100_000 + 3 * 701));
    assert_eq!((rates.flash, rates.growth), (Some(86_400.0), 3.0));
    watch.restart(start + Duration::from_secs(702));
    assert_eq!(
        watch
            .look(start + Duration::from_secs(705), Usage::default())
            .flash,
        None
    );
}

/// Red when a spool that drains is said to fill up, or a full one is not.
#[test]
fn the_spool_is_full_when_what_waits_has_no_room() {
    let grows = Drain {
        readings: 10,
        seconds: None,
        ..Drain::default()
    };
    assert_eq!(until_full(1000, 10.0, &grows), Some(100.0));
    assert_eq!(until_full(1000, -1.0, &grows), None);
    assert_eq!(until_full(0, 0.0, &grows), Some(0.0));
    let falls = Drain {
        seconds: Some(3.0),
        ..grows
    };
    assert_eq!(until_full(1000, 10.0, &falls), None);
    assert_eq!(until_full(0, 0.0, &Drain::default()), None, "nothing waits");
}

/// The messages of the log of this thread.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Visit for Heard {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0.lock().unwrap().push(format!("{value:?}"));
        }
    }
}

impl tracing::Subscriber for Heard {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().contains("budget")
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

fn parts(settings: &[(&str, &str)], reads: &Arc<AtomicU64>) -> Parts {
    let counted = Arc::clone(reads);
    let given = Given {
        name: "given".to_owned(),
        device: "pump".to_owned(),
        interval: SECOND,
        metrics: vec!["given.count".to_owned()],
        reading: Arc::new(move |_| Ok(vec![counted.fetch_add(1, Ordering::Relaxed) as f64])),
    };
    let settings = [settings, &[("WEIR_AGENT_DATA_DIR", "/agent")]].concat();
    Parts {
        config: Config::of(&settings).unwrap().sensing(vec![given]),
        ground: Ground {
            storage: Arc::new(weir_journal::Memory::new()),
            clock: Arc::new(ManualClock::new(1_800_000_000_000_000_000)),
            writers: Writers::Tasks(Duration::ZERO),
        },
        dial: Some(Arc::new(|_| {
            Box::pin(async { Err(std::io::Error::other("there is no network")) })
        })),
        shutdown: Shutdown::new(),
    }
}

fn batches(agent: &Agent) -> u64 {
    let text = agent.registry.encode();
    let mut lines = text.lines();
    let count = lines.find_map(|line| line.strip_prefix("weir_agent_batch_batches_total "));
    count.unwrap().parse().unwrap()
}

/// Half an hour of an agent that may write nothing: its waits grow to the ceiling, each change is one line, it is said that
/// even so the limit does not hold, the disk gets much less, and no reading is dropped. Red when the spool, or batcher
/// and sampler together, keep to what is configured.
#[tokio::test(start_paused = true)]
async fn an_agent_lives_by_its_budget_and_drops_nothing() {
    let heard = Heard::default();
    let _log = tracing::subscriber::set_default(heard.clone());
    let reads = Arc::new(AtomicU64::new(0));
    let settings = [
        ("WEIR_AGENT_BUDGET_FLASH_BYTES_PER_DAY", "1MB"),
        ("WEIR_AGENT_BUDGET_MAX_INTERVAL", "30s"),
    ];
    let parts = parts(&settings, &reads);
    let shutdown = parts.shutdown.clone();
    let agent = Agent::start(parts).unwrap();
    tokio::time::sleep(58 * SECOND).await;
    let first = *agent.budget.borrow();
    assert_eq!((first.changes, first.flash.exceeded), (0, false));
    tokio::time::sleep(1800 * SECOND).await;
    let seen = *agent.budget.borrow();
    assert_eq!(agent.age.get(), 30 * SECOND);
    assert_eq!(agent.spool().commit_interval(), 30 * SECOND);
    assert!(seen.flash.exceeded, "{seen:?}");
    let (before, after) = (first.flash.per_day.unwrap(), seen.flash.per_day.unwrap());
    assert!(after < before / 8.0, "{before} a day became {after}");
    let batches = batches(&agent);
    tokio::time::sleep(600 * SECOND).await;
    let batches = self::batches(&agent) - batches;
    assert!((15..=45).contains(&batches), "{batches} in ten minutes");

    let lines = heard.0.lock().unwrap().clone();
    let changes = lines.iter().filter(|line| line.contains("wait longer"));
    assert_eq!(changes.count() as u64, seen.changes, "{lines:#?}");
    let exceeded = lines.iter().filter(|line| line.contains("is exceeded"));
    assert_eq!(exceeded.count(), 1, "{lines:#?}");
    let spool = agent.spool().clone();
    shutdown.stop();
    agent.until_stopped().await;
    let totals = spool.ledger().totals;
    let read = reads.load(Ordering::Relaxed);
    assert!(read >= 1800, "{read}");
    assert_eq!((totals.produced, totals.spooled), (read, read));
}

/// Red when the wire is not looked at, or the limit of one thing is taken for the other's.
#[tokio::test(start_paused = true)]
async fn an_agent_without_limits_keeps_to_its_configuration() {
    let agent = Agent::start(parts(&[], &Arc::default())).unwrap();
    tokio::time::sleep(700 * SECOND).await;
    let seen = *agent.budget.borrow();
    assert_eq!((seen.changes, agent.age.get()), (0, 2 * SECOND));
    assert!(seen.flash.per_day.unwrap() > 1e6, "{seen:?}");
    assert_eq!(seen.wire.per_day, Some(0.0));
    let left = seen.spool_full_seconds.expect("the sink is away");
    assert!(left > 86_400.0, "{left}");
}
