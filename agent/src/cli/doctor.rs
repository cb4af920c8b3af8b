//! `weir-agent doctor`: prints what `doctor.rs` finds, and writes the support archive.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use weir_process::config::Faults;
use weir_process::exit::Exit;
use weir_process::output;

use crate::config::Config;
use crate::doctor::{self, bundle};

/// What clap parses.
pub(super) fn command() -> Command {
    Command::new("doctor")
        .about("Check settings, sensors, spool, clock and the way to the sink, and say what to do: exit 1 when something fails")
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("answer as JSON"),
        )
        .arg(
            Arg::new("bundle")
                .long("bundle")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("write a support archive (.tar.gz) to a new file: no secrets, no readings"),
        )
}

/// Does what the command line says; faults of the settings are a part of the answer.
pub(super) fn run(config: Result<Config, Faults>, matches: &ArgMatches) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let report = match &config {
        Ok(config) => runtime.block_on(doctor::examine(config)),
        Err(faults) => doctor::of_faults(faults),
    };
    if matches.get_flag("json") {
        output::json(&report)?;
    } else {
        output::text(&report.to_text())?;
    }
    if let Some(path) = matches.get_one::<PathBuf>("bundle") {
        let files = runtime.block_on(bundle::collect(&report, config.as_ref().ok()))?;
        bundle::write(path, &files)
            .with_context(|| format!("cannot write the support archive {}: name a new file in a directory that can be written", path.display()))?;
        output::note(&format!("the support archive is {}", path.display()));
    }
    Ok(match (config.is_ok(), report.is_well()) {
        (true, true) => Exit::Ok,
        (true, false) => Exit::Failure,
        (false, _) => Exit::Usage,
    })
}
