//! The command line of `weir-agent`.
//!
//! | command | what it does | exit |
//! |---|---|---|
//! | `run` | samples, keeps and delivers until SIGTERM | 0 after a clean stop |
//! | `validate` | checks the configuration, opens the files of TLS, and says what can be lost | 64 with every fault, one per line |
//! | `config` | shows every setting, its value and where that came from | 64 as above |
//! | `status` | asks the running agent what it does | 69 when none answers |
//! | `spool` | lists, checks and exports what is on disk: see `cli/spool.rs` | 1 when something is damaged |
//! | `doctor` | checks everything an agent needs and says what to do | 1 when something fails, 64 when a setting does |
//! | `health` | asks the running agent whether it is ready, for a container's health check | 1 when it is not |
//!
//! Every setting is a flag too, made from the same table as the environment variables. Whether the way to the sink may be
//! in the clear is checked by those that go it: `run`, `doctor`, and `validate`.

mod ask;
mod doctor;
mod spool;

pub(crate) use ask::endpoint;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command};
use weir_process::config::{Faults, Reader};
use weir_process::env::{Environment, file_flag, load_dotenv};
use weir_process::exit::{Exit, after_clap};
use weir_process::logging;
use weir_process::metrics::version_with_commit;
use weir_process::output::{self, Align, Table};
use weir_process::version;

use crate::assembly::StartError;
use crate::config::{Config, Purpose, TABLE};
use crate::run;
use crate::sampler;

/// The whole program: reads the command line and the environment, and does what they say. To be called first in a plain
/// `main`, because it reads `.env` before any thread exists.
pub fn main() -> ExitCode {
    let exit = match start() {
        Ok(exit) => exit,
        Err(error) => {
            output::note(&format!("weir-agent: {}", told(&error)));
            exit_of(&error)
        }
    };
    exit.into()
}

fn start() -> anyhow::Result<Exit> {
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return Ok(after_clap(&error)),
    };
    load_dotenv(&matches)?;
    let environment = Environment::current();
    let (name, own) = matches.subcommand().expect("clap asks for a subcommand");
    let purpose = match name {
        "run" | "doctor" => Purpose::Deliver,
        "validate" => Purpose::Validate,
        _ => Purpose::Ask,
    };
    let reader = Reader::from_args(&TABLE, own, &environment);
    let config = Config::read_for(purpose, reader, &environment);
    if name == "doctor" {
        return doctor::run(config, own);
    }
    let config = config?;
    match name {
        "validate" => validate(&config)?,
        "config" => show(&config, own)?,
        "status" => return ask::status(&config, own.get_flag("json")),
        "health" => return ask::health(&config),
        "spool" => return spool::run(&config, own),
        _ => return run_agent(config),
    }
    Ok(Exit::Ok)
}

/// What clap parses.
pub(crate) fn command() -> Command {
    let json = Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .help("answer as JSON");
    let env = Arg::new("env")
        .long("env")
        .action(ArgAction::SetTrue)
        .help("list every variable at its default, as .env.example does");
    Command::new("weir-agent")
        .about("Samples sensors, keeps readings through outages, and streams them to a sink.")
        .after_help("Nothing has to be set: `weir-agent run` samples this host each second. `--help` lists every setting.")
        .version(version_with_commit(env!("CARGO_PKG_VERSION")))
        .long_version(version::long(env!("CARGO_PKG_VERSION")))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(file_flag())
        .args(TABLE.args())
        .subcommand(Command::new("run").about("Sample, keep and deliver until told to stop"))
        .subcommand(Command::new("validate").about("Check the configuration and report every fault"))
        .subcommand(
            Command::new("config").about("Show every setting and where it comes from").arg(json.clone()).arg(env),
        )
        .subcommand(Command::new("status").about("Ask the running agent what it does").arg(json))
        .subcommand(spool::command())
        .subcommand(doctor::command())
        .subcommand(Command::new("health").about("Ask the running agent whether it is ready: exit 0 or 1"))
}

fn validate(config: &Config) -> anyhow::Result<()> {
    let sensors: Vec<String> = config
        .sensors
        .iter()
        .map(|sensor| {
            format!(
                "{} (device {}, every {})",
                sensor.name,
                sensor.device,
                humantime::format_duration(sensor.interval)
            )
        })
        .collect();
    let text = format!(
        "the configuration is valid\n\
         agent    {}\n\
         sink     {}\n\
         data     {}\n\
         sensors  {}\n\
         loss     at most {} of readings are lost when the agent or its machine dies: {}\n",
        config.name,
        config
            .effective
            .get("sink.url")
            .map_or("", |setting| &setting.value),
        config.spool.data_dir.display(),
        sensors.join(", "),
        humantime::format_duration(config.longest_loss_bound()),
        loss_reason(config),
    );
    output::text(&text).context("cannot write the answer")
}

/// Where the bound on what can be lost comes from.
fn loss_reason(config: &Config) -> String {
    let configured = config.loss_bound();
    if config.longest_loss_bound() == configured {
        return "batch.max_age + spool.commit_interval".to_owned();
    }
    format!(
        "{} by batch.max_age + spool.commit_interval, more where a budget lengthens them, each up to budget.max_interval",
        humantime::format_duration(configured)
    )
}

fn show(config: &Config, matches: &ArgMatches) -> anyhow::Result<()> {
    if matches.get_flag("env") {
        return output::text(&TABLE.env_example()).context("cannot write the answer");
    }
    let settings = &config.effective.0;
    if matches.get_flag("json") {
        let settings: serde_json::Map<String, serde_json::Value> = settings
            .iter()
            .map(|setting| {
                let source = setting.source.to_string();
                (
                    setting.name.to_owned(),
                    serde_json::json!({ "value": setting.value, "source": source }),
                )
            })
            .collect();
        return output::json(&settings).context("cannot write the answer");
    }
    let mut table = Table::new([
        ("setting", Align::Left),
        ("value", Align::Left),
        ("from", Align::Left),
    ]);
    for setting in settings {
        table.row([setting.name, &setting.value, &setting.source.to_string()]);
    }
    table.print().context("cannot write the answer")
}

/// One thread does everything but the spool's disk writes.
fn run_agent(config: Config) -> anyhow::Result<Exit> {
    logging::init(&config.logging)?;
    log_panics();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let exit = runtime.block_on(run::run(config))?;
    // A task that is late does not keep the process: it was named, and what it held is on disk.
    runtime.shutdown_background();
    Ok(exit)
}

/// Panics become log lines like any other. A sensor's is reported by its sampler, which does not repeat itself.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        let reason = panic.payload_as_str().unwrap_or("no reason given");
        if sampler::is_reading() {
            tracing::debug!(location, reason, "a sensor panicked");
        } else {
            tracing::error!(location, reason, "a part of the agent panicked");
        }
    }));
}

/// What went wrong and why. Faults of the configuration have a line each.
fn told(error: &anyhow::Error) -> String {
    if let Some(faults) = error.downcast_ref::<Faults>() {
        let count = faults.len();
        let noun = if count == 1 { "fault" } else { "faults" };
        return format!("{count} {noun} in the configuration\n{faults}");
    }
    output::causes(error.as_ref())
}

fn exit_of(error: &anyhow::Error) -> Exit {
    if error.is::<Faults>() || error.is::<weir_process::env::DotenvError>() {
        return Exit::Usage;
    }
    error
        .downcast_ref::<StartError>()
        .map_or(Exit::Failure, StartError::exit)
}
