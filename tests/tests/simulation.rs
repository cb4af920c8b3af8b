//! One seeded world of agents, wire, ingest, journal and fold, in which everything that can fail does.
//!
//! A seed decides how the world is laid out, what goes wrong and when, and every chance in between (`simulation/plan.rs`);
//! `simulation/check.rs` says what must hold all the while and when all is quiet again. A seed that fails is printed with
//! its plan and the command that lives through it again:
//!
//! A seed is one world, to the byte, but for this: tonic draws by lot which of its connections hears first of an orderly
//! stop of the sink, so that a world with one has a few traces; a failure that does not come again at once is tried again.
//!
//! | variable | effect |
//! |---|---|
//! | `WEIR_SIM_SEED` | this seed alone, with its trace |
//! | `WEIR_SIM_SEEDS` | so many seeds instead of the fixed ones |
//! | `WEIR_SIM_FROM` | the first of them |
//! | `WEIR_SIM_LOG` | the programs' own log lines, as `RUST_LOG` filters them |

#![allow(
    clippy::print_stderr,
    reason = "a failing seed says how to live through it again"
)]

#[path = "simulation/agent.rs"]
mod agent;
#[path = "simulation/books.rs"]
mod books;
#[path = "simulation/check.rs"]
mod check;
#[path = "simulation/clock.rs"]
mod clock;
#[path = "simulation/committed.rs"]
mod committed;
#[path = "simulation/faults.rs"]
mod faults;
#[path = "simulation/lives.rs"]
mod lives;
#[path = "simulation/network.rs"]
mod network;
#[path = "simulation/plan.rs"]
mod plan;
#[path = "simulation/record.rs"]
mod record;
#[path = "simulation/sink.rs"]
mod sink;
#[path = "simulation/trace.rs"]
mod trace;
#[path = "simulation/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use plan::Fault;
use weir_fault::Mutant;
use world::World;

/// Seeds of every run of the tests.
const SEEDS: u64 = 200;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
    )
}

fn log() {
    if let Ok(filter) = std::env::var("WEIR_SIM_LOG") {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .without_time()
            .try_init();
    }
}

/// What the fixed seeds have to bring up.
const EXPECTED: [&str; 12] = [
    "a sink that ends on its disk",
    "an agent that ends on its disk",
    "dropped damaged",
    "dropped queue_newest",
    "dropped queue_oldest",
    "dropped refused",
    "dropped spool_newest",
    "dropped spool_oldest",
    "time ok",
    "time rebased",
    "two streams of one life",
    "unexplained",
];

/// What became of one seed.
struct Lived {
    seed: u64,
    /// To be printed.
    said: String,
    well: bool,
    seen: BTreeSet<String>,
}

/// Lives through a seed.
fn live(seed: u64) -> Lived {
    let lived = catch_unwind(AssertUnwindSafe(|| world::run(seed)));
    let (world, outcome) = match lived {
        Ok((world, outcome)) => (Some(world), outcome),
        Err(_) => (None, Err("a panic, see above".to_owned())),
    };
    let lines = world.as_ref().map(|world| world.trace.lines());
    let lines = lines.unwrap_or_default();
    let hash = world.as_ref().map(|world| world.trace.hash());
    let mut said = String::new();
    if number("WEIR_SIM_SEED").is_some() {
        said += &(lines.join("\n") + "\n");
    } else if outcome.is_err() {
        said += &(lines[lines.len().saturating_sub(30)..].join("\n") + "\n");
    }
    said += &format!("seed {seed} trace {:016x}", hash.unwrap_or_default());
    if let Err(reason) = &outcome {
        let plan = world.as_ref().map(|world| world.plan.clone());
        let plan = plan.unwrap_or_else(|| plan::Plan::draw(seed));
        let again = "cargo test -p weir-tests --test simulation -- --nocapture";
        said += &format!("\n{plan}\nseed {seed}: {reason}\nagain: WEIR_SIM_SEED={seed} {again}");
    }
    Lived {
        seed,
        said,
        well: outcome.is_ok(),
        seen: world.map(|world| world.seen).unwrap_or_default(),
    }
}

/// Every reading a spool committed is stored once or counted, whatever happens. Each processor lives its own worlds.
#[test]
fn every_reading_is_accounted_for_in_every_world() {
    log();
    let seeds = match number("WEIR_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let from = number("WEIR_SIM_FROM").unwrap_or(1);
            from..from + number("WEIR_SIM_SEEDS").unwrap_or(SEEDS)
        }
    };
    let fixed = seeds == (1..1 + SEEDS);
    let (mut seen, mut failed) = (BTreeSet::new(), Vec::new());
    let next = AtomicU64::new(seeds.start);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let (lived, results) = mpsc::channel();
        for _ in 0..workers {
            let (lived, next, end) = (lived.clone(), &next, seeds.end);
            scope.spawn(move || {
                let seeds = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
                let worlds = seeds.take_while(|seed| *seed < end).map(live);
                worlds.for_each(|world| lived.send(world).expect("the test listens"));
            });
        }
        drop(lived);
        for Lived {
            seed,
            said,
            well,
            seen: new,
        } in results
        {
            eprintln!("{said}");
            seen.extend(new);
            failed.extend((!well).then_some(seed));
        }
    });
    eprintln!("seen: {seen:?}");
    assert!(failed.is_empty(), "seeds {failed:?} failed");
    let missing = EXPECTED.iter().find(|what| !seen.contains(**what));
    assert!(!fixed || missing.is_none(), "no world has {missing:?}");
}

/// The same seed is the same world, worlds among them in which the sink stops. Red when anything is drawn elsewhere or
/// waits for real time, and without the flag in .cargo/config.toml.
#[test]
fn a_seed_replays() {
    log();
    let hash = |(world, _): (World, _)| world.trace.hash();
    let stops = |seed: &u64| plan::Plan::draw(*seed).has(|fault| *fault == Fault::StopSink);
    let stopping = (1..).filter(stops).take(4);
    for seed in (1..=4).chain(stopping) {
        let (once, again) = (hash(world::run(seed)), hash(world::run(seed)));
        assert_eq!(once, again, "seed {seed}");
    }
}

/// The checks see what they are there for: worlds are red where the code is broken on purpose. `make mutants` tries every
/// mutation. Red when a mutation has lost its place in the code.
#[test]
fn a_journal_without_syncs_and_a_hasty_agent_are_seen() {
    let own = std::env::current_exe().expect("a program knows its own path");
    for mutant in [Mutant::NoSync, Mutant::ReleaseBeforeAck] {
        let worlds = Command::new(&own)
            .args([
                "--exact",
                "every_reading_is_accounted_for_in_every_world",
                "--nocapture",
            ])
            .env_remove("WEIR_SIM_SEED")
            .env("WEIR_SIM_FROM", "1")
            .env("WEIR_SIM_SEEDS", "3")
            .env("WEIR_FAULT_MUTANT", mutant.name())
            .output()
            .expect("the program that runs can be run");
        let said = String::from_utf8_lossy(&worlds.stderr);
        let seen = said
            .lines()
            .any(|line| line.starts_with("again: WEIR_SIM_SEED="));
        assert!(
            !worlds.status.success() && seen,
            "{mutant:?} survives: {said}"
        );
    }
}
