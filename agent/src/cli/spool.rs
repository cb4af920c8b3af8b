//! `weir-agent spool`: what the spool holds, whether it is whole, and its readings as text.
//!
//! | command | what it does | exit |
//! |---|---|---|
//! | `ls` | streams, oldest first, and dead letters | 0 |
//! | `verify` | reads every checksum and every payload | 1 when anything is damaged |
//! | `export` | writes readings as CSV or JSON | 1 when some could not be read |
//! | `replay` | puts dead letters back into the spool | 1 when some could not be put back, 69 when the agent does not answer |
//!
//! All but `replay` read without a lock and change nothing, so that they can be used beside a running
//! agent; what it has written and not yet synced is then shown too. `replay` asks the running agent,
//! by a file in its data directory, or does it itself when none runs. A directory without a spool and
//! a stream that is not there are exit 64.

mod export;
mod ls;
mod replay;
mod verify;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use weir_journal::{Disk, Storage};
use weir_process::exit::Exit;
use weir_process::output;

use crate::config::Config;
use crate::dead_letter::DeadLetters;
use crate::spool::hex;
use crate::spool::inspect::{self, Held};

/// What is looked at.
struct Place {
    data_dir: PathBuf,
    storage: Arc<dyn Storage>,
    streams: Vec<Held>,
    letters: DeadLetters,
}

/// What clap parses.
pub(super) fn command() -> Command {
    let json = Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .help("answer as JSON");
    let stream = Arg::new("stream")
        .long("stream")
        .value_name("ID")
        .help("only this stream: its id, or as much of its beginning as names one");
    Command::new("spool")
        .about("Look into the spool, beside a running agent or without one")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("ls")
                .about("List streams, oldest first, and dead letters")
                .arg(json.clone()),
        )
        .subcommand(
            Command::new("verify")
                .about("Read every checksum and every payload: exit 1 when anything is damaged")
                .arg(json)
                .arg(stream.clone()),
        )
        .subcommand(
            Command::new("replay")
                .about("Put dead letters back into the spool, to be delivered again")
                .arg(
                    Arg::new("letter")
                        .value_name("LETTER")
                        .num_args(1..)
                        .conflicts_with("all")
                        .help("names as `spool ls` shows them"),
                )
                .arg(
                    Arg::new("all")
                        .long("all")
                        .action(ArgAction::SetTrue)
                        .help("every dead letter"),
                ),
        )
        .subcommand(export_command(stream))
}

fn export_command(stream: Arg) -> Command {
    let sequence = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("SEQUENCE")
            .value_parser(value_parser!(u64))
            .help(help)
    };
    Command::new("export")
        .about("Write readings as CSV or JSON")
        .arg(
            Arg::new("format")
                .long("format")
                .value_parser(["csv", "json"])
                .default_value("csv")
                .help("csv, or json: one object per line"),
        )
        .arg(stream)
        .arg(
            Arg::new("dead-letters")
                .long("dead-letters")
                .action(ArgAction::SetTrue)
                .help("the readings of dead letters instead of those in the streams"),
        )
        .arg(sequence("from", "leave out sequences before this one"))
        .arg(sequence("through", "leave out sequences after this one"))
        .arg(
            Arg::new("output")
                .long("output")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("write to a new file instead of standard output"),
        )
}

/// Does what the command line says.
pub(super) fn run(config: &Config, matches: &ArgMatches) -> anyhow::Result<Exit> {
    let (name, own) = matches.subcommand().expect("clap asks for a subcommand");
    let place = match Place::of(&config.spool.data_dir) {
        Ok(place) => place,
        Err(error) => {
            let spool = config.spool.data_dir.join("spool");
            let spool = spool.display();
            output::note(&format!(
                "weir-agent: no spool can be read at {spool}: {error}: name the agent's data directory with --data-dir or WEIR_AGENT_DATA_DIR"
            ));
            return Ok(Exit::Usage);
        }
    };
    match name {
        "ls" => ls::ls(&place, own.get_flag("json")),
        "verify" => verify::verify(&place, own),
        "replay" => replay::replay(&place, config, own),
        _ => export::export(&place, own),
    }
}

impl Place {
    fn of(data_dir: &Path) -> io::Result<Place> {
        let storage: Arc<dyn Storage> = Arc::new(Disk);
        let streams = inspect::streams(storage.as_ref(), &data_dir.join("spool"))?;
        Ok(Place {
            data_dir: data_dir.to_owned(),
            storage,
            streams,
            letters: DeadLetters::new(data_dir),
        })
    }

    /// The streams asked for: all, or the one whose id begins so. `None`, and a word to the operator,
    /// when there is no such stream or more than one.
    fn chosen(&self, wanted: Option<&String>) -> Option<Vec<&Held>> {
        let Some(wanted) = wanted else {
            return Some(self.streams.iter().collect());
        };
        let wanted = wanted.to_ascii_lowercase();
        let named = |stream: &&Held| hex(&stream.id).starts_with(&wanted);
        let found: Vec<&Held> = self.streams.iter().filter(named).collect();
        if found.len() == 1 {
            return Some(found);
        }
        let held: Vec<String> = self.streams.iter().map(|stream| hex(&stream.id)).collect();
        let held = if held.is_empty() {
            "no stream".to_owned()
        } else {
            held.join(", ")
        };
        let count = if found.is_empty() {
            "no"
        } else {
            "more than one"
        };
        output::note(&format!(
            "weir-agent: {count} stream begins with {wanted}: the spool in {} holds {held}",
            self.data_dir.display()
        ));
        None
    }

    /// Whether an agent has the spool open now.
    fn is_in_use(&self) -> bool {
        let lock = std::fs::File::open(self.data_dir.join("spool").join("lock"));
        lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(std::fs::TryLockError::WouldBlock)))
    }
}
