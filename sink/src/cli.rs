//! What an operator types.
//!
//! | command | what it does |
//! |---|---|
//! | `run` | runs the sink |
//! | `validate` | checks the settings and the files of TLS, all faults in one report, exit 64 |
//! | `config` | shows the settings in effect; `--env` as lines for `.env.example` |
//! | `sql "..."` | asks a running sink; `--format table`, `json` or `csv` |
//! | `ledger` | shows a running sink's ledger; exit 1 when anything is unexplained |
//! | `files` | names data files that are missing or damaged; `files accept-loss FILE` gives one up |
//! | `health` | asks whether a running sink is ready |
//! | `token create`, `list`, `revoke` | makes, lists and ends tokens, in the catalog |
//! | `enroll-token create`, `list`, `revoke` | tokens that agents turn into certificates |
//! | `certs list`, `revoke` | certificates of agents |
//! | `audit` | shows who changed what, and who was turned away |
//! | `certs init`, `renew-server` | makes a private CA and this sink's certificate |
//! | `version` | says what this program was built from, as `--version` does; `--packages` lists the packages in it |
//! | `recover` | counts journal records that can no longer be had as lost, so that the sink starts |
//!
//! Settings can be given to every command; where to listen is checked by `run` and `validate` alone. Those that ask find the sink by `--url`, else by the
//! `endpoints.json` in its data directory, else by `http.listen`. They show the token of `--token-file`, else that of
//! `token`, else, to the sink of this data directory, the one that it left there for its own machine.

mod ask;
mod catalog;
mod certs;
mod credentials;
mod door;
mod enrolment;
mod show;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use weir_process::config::{Effective, Faults, Reader};
use weir_process::env::{self, Environment};
use weir_process::exit::{Exit, after_clap};
use weir_process::logging;
use weir_process::metrics::version_with_commit;
use weir_process::output::{self, Align, Table};
use weir_process::version;

use crate::config::{Again, Config, Purpose, TABLE, out_of_time};

/// The program. Call it from a plain `fn main`: it changes the environment before any thread exists.
pub fn main() -> Exit {
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return after_clap(&error),
    };
    let started = Environment::current();
    let loaded = match env::load_dotenv(&matches) {
        Ok(loaded) => loaded,
        Err(error) => {
            output::note(&error.to_string());
            return Exit::Usage;
        }
    };
    dispatch(&matches, (started, loaded), &Environment::current())
}

fn command() -> Command {
    let version = version_with_commit(env!("CARGO_PKG_VERSION"));
    let format = Arg::new("format")
        .long("format")
        .value_name("FORMAT")
        .value_parser(["table", "json", "csv"])
        .default_value("table")
        .help("how the answer is printed");
    Command::new("weir-sink")
        .about("makes readings durable, stores them as columns and answers SQL")
        .version(version)
        .long_version(version::long(env!("CARGO_PKG_VERSION")))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(env::file_flag())
        .args(TABLE.args())
        .subcommand(Command::new("run").about("run the sink"))
        .subcommand(Command::new("validate").about("check the settings and the files of TLS"))
        .subcommand(
            Command::new("config")
                .about("show the settings in effect")
                .arg(flag(
                    "env",
                    "as lines for .env.example, each at its default",
                )),
        )
        .subcommand(
            Command::new("sql")
                .about("ask a running sink")
                .arg(Arg::new("query").required(true).help("one statement"))
                .arg(format)
                .args(door()),
        )
        .subcommand(ledger())
        .subcommand(files())
        .subcommand(
            Command::new("health")
                .about("ask whether a running sink is ready")
                .args(door()),
        )
        .subcommand(credentials::token())
        .subcommand(credentials::audit())
        .subcommand(enrolment::command())
        .subcommand(certs::command())
        .subcommand(
            Command::new("version")
                .about("say what this program was built from")
                .arg(flag(
                    "packages",
                    "name and version of each package that Cargo.lock names",
                )),
        )
        .subcommand(Command::new("recover").about(
            "count journal records that can no longer be had as lost, so that the sink starts",
        ))
}

/// Where the sink is asked, as whom, and how it is known.
fn door() -> [Arg; 4] {
    [
        Arg::new("url")
            .long("url")
            .value_name("URL")
            .help("where the sink answers, as in https://sink:4318"),
        Arg::new("ca")
            .long("ca")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("a PEM file with the CA that signed its certificate; those this system trusts when not given"),
        Arg::new("token-file")
            .long("token-file")
            .value_name("FILE")
            .help("a file with the token to show"),
        Arg::new("tenant")
            .long("tenant")
            .value_name("TENANT")
            .help("whose data, on the sink's own machine: other callers have one tenant"),
    ]
}

fn agent() -> Arg {
    Arg::new("agent")
        .long("agent")
        .value_name("NAME")
        .help("only this agent")
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::SetTrue)
        .help(help)
}

fn ledger() -> Command {
    Command::new("ledger")
                .about("show a running sink's ledger: produced = stored + spooled + dropped")
                .arg(flag("json", "print the answer as it is"))
                .arg(flag("open", "leave out streams that have ended"))
                .arg(flag(
                    "audit",
                    "also read every file: its checksum, its rows",
                ))
                .arg(agent())
                .args(door())
                .subcommand(
                    Command::new("settle")
                        .about("count what a deleted spool or a dead agent still held as lost")
                        .long_about(
                            "Count what a deleted spool or a dead agent still held as dropped, \
                             spool_lost. Without --agent and --stream: of all streams that their \
                             agents do not list any more. A connected stream is left alone, and one \
                             that reappears takes its readings back.",
                        )
                        .arg(agent())
                        .arg(
                            Arg::new("stream")
                                .long("stream")
                                .value_name("ID")
                                .help("only this stream: its id, or the 8 digits that the ledger shows"),
                        )
                        .args(door()),
                )
}

fn files() -> Command {
    Command::new("files")
        .about("name data files of a running sink that are missing or damaged")
        .arg(flag("json", "print the answer as it is"))
        .args(door())
        .subcommand(
            Command::new("accept-loss")
                .about("let queries go on without a file that is lost")
                .long_about(
                    "Let queries go on without a data file that is missing or damaged and of which there is no \
                     backup. What it held is counted as dropped, file_lost; its object is deleted if it is still \
                     there. A file that is what was written is left alone.",
                )
                .arg(
                    Arg::new("file")
                        .value_name("FILE")
                        .required(true)
                        .help("the file as errors and `weir-sink files` name it"),
                )
                .args(door()),
        )
}

/// `started`: the variables without those of a file, and the file.
fn dispatch(
    matches: &ArgMatches,
    started: (Environment, Option<PathBuf>),
    environment: &Environment,
) -> Exit {
    let (name, arguments) = matches.subcommand().expect("clap asks for a command");
    if name == "config" && arguments.get_flag("env") {
        return printed(output::text(&TABLE.env_example()));
    }
    if name == "version" {
        return printed(if arguments.get_flag("packages") {
            output::text(version::PACKAGES)
        } else {
            output::line(&version::long(env!("CARGO_PKG_VERSION")))
        });
    }
    let mut reader = Reader::from_args(&TABLE, matches, environment);
    let makes = |name| matches!(name, Some("init" | "renew-server"));
    if name == "certs" && makes(arguments.subcommand_name()) {
        // Settings that ask for what it makes are no reason not to make it.
        return certs::run(arguments, &reader.path("data_dir"));
    }
    let purpose = match name {
        "run" | "validate" => Purpose::Start,
        _ => Purpose::Ask,
    };
    let (config, effective) = match Config::read_for(purpose, reader, environment) {
        Ok(read) => read,
        Err(faults) => return faulty(&faults),
    };
    match name {
        "run" => start(config, Again::new(matches.clone(), started, effective)),
        "validate" => validate(&config),
        "config" => show(&effective),
        "recover" => recover(&config),
        "certs" | "enroll-token" => enrolment::run(name, arguments, &config),
        "token" | "audit" => credentials::run(name, arguments, &config),
        _ => ask::run(name, arguments, &config),
    }
}

fn start(config: Config, again: Again) -> Exit {
    if let Err(error) = logging::init(&config.logging) {
        output::note(&error.to_string());
        return Exit::Usage;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return Exit::Software;
        }
    };
    let exit = runtime
        .block_on(crate::run::run(config, again))
        .unwrap_or_else(|error| {
            let causes = output::causes(error.as_ref());
            tracing::error!("cannot start: {causes}");
            Exit::CannotCreate
        });
    // What is late was named, and must not hold up the end.
    runtime.shutdown_background();
    exit
}

fn recover(config: &Config) -> Exit {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let recovered = runtime
        .map_err(anyhow::Error::new)
        .and_then(|runtime| runtime.block_on(crate::run::recover(config)));
    match recovered {
        Ok(Some((from, through))) => printed(output::line(&format!(
            "journal records {from} to {through} are counted as lost; their readings stay unexplained in the ledger"
        ))),
        Ok(None) => printed(output::line("nothing is missing")),
        Err(error) => {
            let causes = output::causes(error.as_ref());
            output::note(&format!("cannot recover: {causes}"));
            Exit::Failure
        }
    }
}

/// What it says of files is what `run` says: it serves a certificate whose time is over, too.
fn validate(config: &Config) -> Exit {
    if let Some(error) = config.tls.as_ref().and_then(out_of_time) {
        output::note(&format!(
            "WEIR_SINK_TLS_CERT: {error}; a sink serves it, and clients refuse it"
        ));
    }
    printed(output::line("settings are valid"))
}

fn faulty(faults: &Faults) -> Exit {
    output::note(&faults.to_string());
    Exit::Usage
}

fn show(effective: &Effective) -> Exit {
    let mut table = Table::new([
        ("setting", Align::Left),
        ("value", Align::Left),
        ("from", Align::Left),
    ]);
    for setting in &effective.0 {
        table.row([
            setting.variable.as_str(),
            &setting.value,
            &setting.source.to_string(),
        ]);
    }
    printed(table.print())
}

fn printed(result: io::Result<()>) -> Exit {
    match result {
        Ok(()) => Exit::Ok,
        Err(error) => {
            output::note(&format!("cannot print: {error}"));
            Exit::Io
        }
    }
}
