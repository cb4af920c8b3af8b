//! `weir-sink certs`: a private CA and a server certificate, made and renewed.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use weir_process::exit::Exit;
use weir_process::output;

use super::printed;
use crate::certs::{Certs, CertsError, Made, Names, local_names};

/// What clap parses.
pub(super) fn command() -> Command {
    Command::new("certs")
        .about("make certificates for TLS")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("init")
                .about("make a private CA and a certificate for this sink")
                .long_about(
                    "Make a private CA, good for ten years, and a certificate for this sink that it signs, good for \
                     a year. Nothing is overwritten: what is missing is made.",
                )
                .args([
                    name("what agents connect to: a host name or an IP address; this machine's own and loopback's when none is given"),
                    out(),
                ]),
        )
        .subcommand(
            Command::new("renew-server")
                .about("sign this sink's certificate for another year")
                .long_about(
                    "Sign this sink's certificate for another year, for the names it has and those given beside, with \
                     the key it has. A sink that runs takes it within seconds; connections go on.",
                )
                .args([name("one more name or address"), out()]),
        )
        .subcommands(super::enrolment::certificates())
}

fn name(help: &'static str) -> Arg {
    Arg::new("name")
        .long("name")
        .value_name("NAME")
        .action(ArgAction::Append)
        .help(help)
}

fn out() -> Arg {
    Arg::new("out")
        .long("out")
        .value_name("DIR")
        .value_parser(value_parser!(PathBuf))
        .help("the directory of the files; tls/ in the data directory when not given")
}

/// Does what the command line says.
pub(super) fn run(arguments: &ArgMatches, data_dir: &Path) -> Exit {
    let (command, arguments) = arguments.subcommand().expect("clap asks for a command");
    let directory = arguments.get_one::<PathBuf>("out").cloned();
    let directory = directory.unwrap_or_else(|| data_dir.join("tls"));
    let certs = Certs::at(std::path::absolute(&directory).unwrap_or(directory));
    let given: Vec<&String> = arguments.get_many("name").into_iter().flatten().collect();
    match make(command, &certs, &given) {
        Ok(made) => printed(output::text(&told(command, &certs, &made))),
        Err(error @ CertsError::Name(_)) => {
            output::note(&error.to_string());
            Exit::Usage
        }
        Err(error) => {
            output::note(&error.to_string());
            Exit::CannotCreate
        }
    }
}

fn make(command: &str, certs: &Certs, given: &[&String]) -> Result<Made, CertsError> {
    let names = Names::parse(given)?;
    match command {
        "renew-server" => certs.renew(&names),
        _ if given.is_empty() => certs.init(&local_names()),
        // The tools on the sink's own machine may use loopback.
        _ => certs.init(&names.and(&Names::parse(&["localhost", "127.0.0.1", "::1"])?)),
    }
}

fn told(command: &str, certs: &Certs, made: &Made) -> String {
    let list = |paths: &[PathBuf]| {
        let shown = paths.iter().map(|path| format!("  {}", path.display()));
        shown.collect::<Vec<_>>().join("\n")
    };
    let until = humantime::format_rfc3339_seconds(made.not_after);
    let mut text = format!(
        "written:\n{}\nthe sink's certificate is for {} and good until {until}\nthe CA's fingerprint is {}\n",
        list(&made.written),
        made.names.join(", "),
        made.ca
    );
    if command == "renew-server" {
        text.push_str("a sink that runs with it takes it within seconds\n");
        return text;
    }
    let shown = |path: &Path| path.display().to_string();
    text.push_str(&format!(
        "\nfor the sink:\n  WEIR_SINK_TLS_CERT={}\n  WEIR_SINK_TLS_KEY={}\n  WEIR_SINK_TLS_CA={}\n  WEIR_SINK_TLS_CA_KEY={}\n\n\
         for each agent, with a copy of {} beside it:\n  WEIR_AGENT_SINK_URL=https://{}:4317\n  WEIR_AGENT_TLS_CA=ca.crt\n\n\
         keep ca.key where nobody else can read it: who has it can be any agent, and the sink\n",
        shown(&certs.server()),
        shown(&certs.server_key()),
        shown(&certs.ca()),
        shown(&certs.ca_key()),
        shown(&certs.ca()),
        made.names.first().map_or("localhost", String::as_str),
    ));
    text
}
