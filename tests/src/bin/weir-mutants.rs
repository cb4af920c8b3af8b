//! `weir-mutants`: breaks the code on purpose, one way at a time, and tells which test saw it.
//!
//! In: the mutations of `weir_fault::Mutant`, which an environment variable selects while the tests run, so that they
//! are built once. Out: a table of each mutation with the unit test and with the simulated world that turned red; status 1
//! where one survived a test that is to see it. What turns red must be green without the mutation.
//!
//! | argument | default | what |
//! |---|---|---|
//! | `--only NAME` | all | this mutation alone |
//! | `--seeds N` | 128 | simulated worlds, from 1 on; the first that is red ends the search |

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use weir_fault::Mutant;

/// What runs longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(300);
/// Worlds of one process: a mutation is often seen in the first few.
const WORLDS: u64 = 8;
const WORLD_TEST: &str = "every_reading_is_accounted_for_in_every_world";

/// The test that sees a mutation close to where it is: its target, and (a part of) its name.
fn unit(mutant: Mutant) -> (&'static str, &'static str) {
    match mutant {
        Mutant::NoSync => ("crash", "power_loss_between_any_two_operations"),
        Mutant::NoChecksum => ("damage", "any_flipped_byte_costs_its_record"),
        Mutant::AckBeforeSync => ("weir-sink", "nothing_is_acknowledged_before_the_journal"),
        Mutant::ReleaseBeforeAck => ("weir-agent", "a_kill_between_store_and_ack_stores_once"),
        Mutant::SkipWithoutCount => ("weir-agent", "what_drop_oldest_gave_up_arrives_as_a_skip"),
        Mutant::DefinitionsLost => ("weir-agent", "a_sink_that_lost_everything_gets_what_is"),
        Mutant::ResumeBehindFlight => ("weir-agent", "a_batch_that_ends_the_call_is_found"),
        Mutant::NoDedupe => ("weir-sink", "a_duplicate_is_counted_and_not_stored"),
        Mutant::WatermarkOffByOne => ("weir-sink", "rows_in_files_and_fresh_are_what_was_sent"),
        Mutant::ReplayFromWrongPosition => ("weir-sink", "a_replay_gives_the_same_times"),
        Mutant::CommitWithoutFile => ("weir-sink", "a_stop_during_a_failed_flush_commits"),
        Mutant::NoStoreSync => ("weir-sink", "a_crash_takes_what_was_being_put"),
    }
}

/// Why no simulated world can show a mutation, where that is so: its unit tests have to.
fn unseen(mutant: Mutant) -> Option<&'static str> {
    match mutant {
        Mutant::NoDedupe | Mutant::WatermarkOffByOne => {
            Some("agents begin where the Welcome says, none sends again what the sink has")
        }
        Mutant::DefinitionsLost => {
            Some("no world loses the first records of a stream before the sink has them")
        }
        _ => None,
    }
}

/// One built test program.
struct Program {
    path: PathBuf,
    /// The directory of its package, where cargo runs it.
    directory: PathBuf,
}

/// What a program said of itself.
enum Outcome {
    Green,
    /// What was red, and why.
    Red(String),
    /// It is not to be seen here.
    Beyond(&'static str),
}

/// What became of one mutation.
struct Row {
    mutant: Mutant,
    unit: Outcome,
    world: Outcome,
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

struct Arguments {
    only: Option<Mutant>,
    seeds: u64,
}

fn arguments() -> Result<Arguments, String> {
    let mut read = Arguments {
        only: None,
        seeds: 128,
    };
    let mut words = std::env::args().skip(1);
    while let Some(name) = words.next() {
        let value = words.next().ok_or(format!("{name} needs a value"))?;
        match name.as_str() {
            "--only" => {
                let mutant = Mutant::named(&value);
                read.only = Some(mutant.ok_or(format!("--only {value}: no such mutation"))?);
            }
            "--seeds" => {
                let number = value.parse();
                read.seeds = number.map_err(|_| format!("--seeds {value}: not a number"))?;
            }
            _ => return Err(format!("unknown argument {name}")),
        }
    }
    Ok(read)
}

fn main() -> ExitCode {
    let done = arguments().and_then(|arguments| {
        let programs = build()?;
        controls(&programs)?;
        Ok(try_all(&programs, &arguments))
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            say(&fault);
            ExitCode::FAILURE
        }
    }
}

/// The test programs by the name of their target.
fn build() -> Result<BTreeMap<String, Program>, String> {
    // The whole workspace, as every other target of make: another choice of packages is another
    // choice of features, and compiles everything again.
    let words = "test --workspace --lib --test simulation --test crash --test damage --no-run \
                 --message-format json";
    let mut cargo = Command::new("cargo")
        .args(words.split(' '))
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    let output = cargo.stdout.take().expect("its output is piped");
    let mut programs = BTreeMap::new();
    let messages = serde_json::Deserializer::from_reader(BufReader::new(output)).into_iter();
    for message in messages {
        let message: serde_json::Value = message.map_err(|error| error.to_string())?;
        let (Some(path), Some(name), Some(manifest)) = (
            message["executable"].as_str(),
            message["target"]["name"].as_str(),
            message["manifest_path"].as_str(),
        ) else {
            continue;
        };
        let mut directory = PathBuf::from(manifest);
        directory.pop();
        let path = PathBuf::from(path);
        programs.insert(name.replace('_', "-"), Program { path, directory });
    }
    let ended = cargo.wait().map_err(|error| error.to_string())?;
    if ended.success() {
        Ok(programs)
    } else {
        Err("the tests do not build".to_owned())
    }
}

/// Without a mutation everything is green: otherwise red says nothing.
fn controls(programs: &BTreeMap<String, Program>) -> Result<(), String> {
    let mut parts: Vec<_> = Mutant::ALL.iter().map(|mutant| unit(*mutant)).collect();
    parts.sort_unstable();
    parts.dedup();
    for (target, part) in parts {
        if let Outcome::Red(what) = run(find(programs, target)?, None, &[part], &[]) {
            return Err(format!("{target} is red without a mutation: {what}"));
        }
    }
    find(programs, "simulation").map(|_| ())
}

fn find<'a>(programs: &'a BTreeMap<String, Program>, name: &str) -> Result<&'a Program, String> {
    let found = programs.get(name);
    found.ok_or_else(|| format!("cargo built no tests of {name}"))
}

/// Tries each, as many at a time as there are cores; whether all were seen.
fn try_all(programs: &BTreeMap<String, Program>, arguments: &Arguments) -> bool {
    let all = Mutant::ALL.iter().copied();
    let chosen = all.filter(|one| arguments.only.is_none_or(|only| only == *one));
    let waiting: Mutex<VecDeque<Mutant>> = Mutex::new(chosen.collect());
    let survives = AtomicBool::new(false);
    let hands = std::thread::available_parallelism().map_or(1, usize::from);
    say(&format!("{:<28}seen by", "mutation"));
    std::thread::scope(|scope| {
        for _ in 0..hands {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().expect("no holder panics").pop_front();
                    let Some(mutant) = next else { return };
                    if !tell(&try_one(programs, mutant, arguments.seeds)) {
                        survives.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let seen = !survives.into_inner();
    say(if seen {
        "every mutation was seen"
    } else {
        "a mutation survives: its checks are to be improved, or it is in the wrong place"
    });
    seen
}

fn try_one(programs: &BTreeMap<String, Program>, mutant: Mutant, seeds: u64) -> Row {
    let (target, part) = unit(mutant);
    let unit = run(&programs[target], Some(mutant), &[part], &[]);
    let unit = match unit {
        Outcome::Red(what) => Outcome::Red(format!("{target}: {what}")),
        other => other,
    };
    let world = match unseen(mutant) {
        Some(why) => Outcome::Beyond(why),
        None => worlds(&programs["simulation"], mutant, seeds),
    };
    Row {
        mutant,
        unit,
        world,
    }
}

/// Worlds from seed 1 on until one is red that is green without the mutation.
fn worlds(simulation: &Program, mutant: Mutant, seeds: u64) -> Outcome {
    let mut seed = 1;
    while seed <= seeds {
        let count = WORLDS.min(seeds + 1 - seed);
        match live(simulation, Some(mutant), seed, count) {
            Outcome::Green | Outcome::Beyond(_) => seed += count,
            Outcome::Red(what) => {
                let red = seed_of(&what).map_or(seed, |(red, _)| red);
                match live(simulation, None, red, 1) {
                    Outcome::Green => return Outcome::Red(what),
                    _ => say(&format!("seed {red} is red without a mutation too")),
                }
                seed = red + 1;
            }
        }
    }
    Outcome::Green
}

/// So many worlds.
fn live(simulation: &Program, mutant: Option<Mutant>, from: u64, count: u64) -> Outcome {
    let (from, count) = (from.to_string(), count.to_string());
    let variables = [("WEIR_SIM_FROM", &*from), ("WEIR_SIM_SEEDS", &*count)];
    let words = ["--exact", WORLD_TEST, "--nocapture"];
    run(simulation, mutant, &words, &variables)
}

/// The seed that a line names as red, and why.
fn seed_of(line: &str) -> Option<(u64, &str)> {
    let (number, why) = line.strip_prefix("seed ")?.split_once(": ")?;
    Some((number.parse().ok()?, why))
}

/// Runs tests of a program to their end.
fn run(
    program: &Program,
    mutant: Option<Mutant>,
    words: &[&str],
    variables: &[(&str, &str)],
) -> Outcome {
    let mut command = Command::new(&program.path);
    command
        .args(words)
        .envs(variables.iter().copied())
        .env("CARGO_MANIFEST_DIR", &program.directory)
        .current_dir(&program.directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    match mutant {
        Some(mutant) => command.env("WEIR_FAULT_MUTANT", mutant.name()),
        None => command.env_remove("WEIR_FAULT_MUTANT"),
    };
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Outcome::Red(format!("cannot be started: {error}")),
    };
    let readers = [
        child.stdout.take().map(drain),
        child.stderr.take().map(drain),
    ];
    let until = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(50)),
            Ok(None) | Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
        }
    };
    let said = readers
        .into_iter()
        .flatten()
        .filter_map(|reader| reader.join().ok());
    let said: String = said.collect();
    match status {
        Some(_) if said.contains("running 0 tests") => {
            Outcome::Red("there is no such test".to_owned())
        }
        Some(status) if status.success() => Outcome::Green,
        Some(status) => Outcome::Red(reason(&said).unwrap_or_else(|| status.to_string())),
        None => Outcome::Red(format!("did not end within {PATIENCE:?}")),
    }
}

fn drain(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// What the tests' own words give as the reason: a world's, or the names of the tests that failed.
fn reason(said: &str) -> Option<String> {
    let world = said.lines().find(|line| seed_of(line).is_some());
    if let Some(world) = world {
        let panic = said
            .lines()
            .skip_while(|line| !line.contains("panicked at"));
        let panic = panic.take(2).collect::<Vec<_>>().join(" ");
        let panicked = world.ends_with("a panic, see above");
        return Some(if panicked {
            format!("{world} {panic}")
        } else {
            world.to_owned()
        });
    }
    let failed = said.lines().filter_map(|line| {
        let (name, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
        (result == "FAILED").then_some(name)
    });
    let failed: Vec<&str> = failed.collect();
    let first = failed.first()?;
    Some(match failed.len() {
        1 => (*first).to_owned(),
        more => format!("{first} and {} more", more - 1),
    })
}

/// Prints what became of one; whether both saw it that are to.
fn tell(row: &Row) -> bool {
    const WIDTH: usize = 150;
    let mut lines = String::new();
    let mut seen = true;
    let mut name = row.mutant.name();
    for (kind, outcome) in [("a unit test", &row.unit), ("the simulation", &row.world)] {
        let text = match outcome {
            Outcome::Red(what) => what.chars().take(WIDTH).collect(),
            Outcome::Beyond(why) => format!("not by {kind}: {why}"),
            Outcome::Green => {
                seen = false;
                format!("SURVIVES {kind}")
            }
        };
        lines += &format!("{name:<28}{text}\n");
        name = "";
    }
    say(lines.trim_end());
    seen
}
