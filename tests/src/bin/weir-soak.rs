//! `weir-soak`: three agents and a sink under random kills, stops and cuts for a long time.
//!
//! | argument | default | what |
//! |---|---|---|
//! | `--minutes N` | 30 | how long faults are made |
//! | `--seed N` | 1 | what they follow from |
//! | `--programs DIR` | beside this program | where `weir-agent` and `weir-sink` are; copied before the start |
//!
//! Exits with 0 when everything was delivered once, every ledger closes, and memory and disk are
//! flat; otherwise it names what is not and keeps the directory.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use weir_tests::programs;
use weir_tests::soak::{self, Plan, Report};

/// One line for the person who watches. A closed pipe is no reason to stop.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

struct Arguments {
    minutes: f64,
    seed: u64,
    programs: Option<PathBuf>,
}

fn arguments() -> Result<Arguments, String> {
    let mut read = Arguments {
        minutes: 30.0,
        seed: 1,
        programs: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(name) = words.next() {
        let value = words.next().ok_or(format!("{name} needs a value"))?;
        let wrong = |_| format!("{name} {value}: not a number");
        match name.as_str() {
            "--minutes" => read.minutes = value.parse().map_err(|_| wrong(()))?,
            "--seed" => read.seed = value.parse().map_err(|_| wrong(()))?,
            "--programs" => read.programs = Some(value.into()),
            _ => return Err(format!("unknown argument {name}")),
        }
    }
    if !(read.minutes > 0.0 && read.minutes < 100_000.0) {
        return Err("--minutes is out of range".to_owned());
    }
    Ok(read)
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(fault) => {
            say(&format!(
                "{fault}: there are --minutes, --seed and --programs"
            ));
            return ExitCode::from(64);
        }
    };
    let place = match tempfile::Builder::new().prefix("weir-soak-").tempdir() {
        Ok(place) => place,
        Err(error) => {
            say(&format!("cannot make a temporary directory: {error}"));
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = programs::copy(arguments.programs.as_deref(), place.path()) {
        say(&format!("cannot copy {error}: build both programs first"));
        return ExitCode::FAILURE;
    }
    let plan = Plan {
        length: Duration::from_secs_f64(arguments.minutes * 60.0),
        seed: arguments.seed,
        between: (Duration::from_secs(3), Duration::from_secs(25)),
    };
    say(&format!(
        "soak of {} minutes, seed {}, below {}",
        arguments.minutes,
        arguments.seed,
        place.path().display()
    ));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs only a few descriptors");
    let report = runtime.block_on(soak::run(place.path(), plan, say));
    tell(&report);
    if report.faults.is_empty() {
        return ExitCode::SUCCESS;
    }
    say(&format!("kept: {}", place.keep().display()));
    ExitCode::FAILURE
}

fn tell(report: &Report) {
    say("                          second quarter    last quarter");
    for (name, second, last) in report.samples.quarters() {
        say(&format!("{name:<24}{second:>16.1}{last:>16.1}"));
    }
    say(&format!(
        "{} readings stored; {} kills, {} stops, {} cuts of a link",
        report.stored, report.kills, report.stops, report.cuts
    ));
    for fault in &report.faults {
        say(&format!("FAULT: {fault}"));
    }
    if report.faults.is_empty() {
        say("everything delivered once, every ledger closes, memory and disk as they should be");
    }
}
