//! What the commands on the catalog have in common. They work while the sink runs and while it does not; a running sink takes
//! over what was changed within a second. What they change has its line in the audit log.

use std::time::Duration;

use clap::{Arg, ArgMatches};
use weir_process::exit::Exit;
use weir_process::output;

use crate::catalog::{Catalog, CatalogError, Deed};
use crate::config::Config;
use crate::model::{DEFAULT_TENANT, is_tenant};

/// Nothing that is good for less is of use.
const SHORTEST: Duration = Duration::from_secs(1);

/// Why it was not done: how to exit, and what to say.
pub(super) struct Refused(pub(super) Exit, pub(super) String);

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Self {
        Self(Exit::Io, output::causes(error.as_ref()))
    }
}

impl From<CatalogError> for Refused {
    fn from(error: CatalogError) -> Self {
        Self(Exit::Io, error.to_string())
    }
}

pub(super) fn usage(text: impl Into<String>) -> Refused {
    Refused(Exit::Usage, text.into())
}

/// Does what was typed after `name`, or says why not.
pub(super) fn run(name: &str, doing: impl Future<Output = Result<Exit, Refused>>) -> Exit {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(doing),
        Err(error) => Err(Refused(Exit::Software, format!("cannot start: {error}"))),
    };
    done.unwrap_or_else(|Refused(exit, text)| {
        output::note(&format!("{name}: {text}"));
        exit
    })
}

/// The catalog of this data directory, which must be there.
pub(super) async fn open(config: &Config) -> Result<Catalog, Refused> {
    if !config.catalog_file.exists() {
        return Err(usage(format!(
            "there is no catalog at {}: set WEIR_SINK_DATA_DIR to the sink's directory, and start the sink once before",
            config.catalog_file.display()
        )));
    }
    Ok(crate::run::open_catalog(config).await?)
}

pub(super) fn tenant(help: &'static str) -> Arg {
    Arg::new("tenant")
        .long("tenant")
        .value_name("TENANT")
        .help(help)
}

/// What was typed for an argument that takes text.
pub(super) fn text<'a>(arguments: &'a ArgMatches, name: &str) -> Option<&'a str> {
    arguments.get_one::<String>(name).map(String::as_str)
}

/// The tenant that is named, or the default one.
pub(super) fn whose(arguments: &ArgMatches) -> Result<&str, Refused> {
    let tenant = text(arguments, "tenant").unwrap_or(DEFAULT_TENANT);
    if is_tenant(tenant) {
        return Ok(tenant);
    }
    Err(usage(format!(
        "{tenant:?} cannot be a tenant: write lower case letters, digits and hyphens"
    )))
}

pub(super) fn duration(text: &str) -> Result<Duration, Refused> {
    humantime::parse_duration(text).map_err(|_| {
        usage(format!(
            "{text:?} is not a duration: write it as in 90m or 7d"
        ))
    })
}

/// When what is made now ends, by `--expires`.
pub(super) fn end(expires: &str, now_ns: i64) -> Result<i64, Refused> {
    let lifetime = duration(expires)?;
    if lifetime < SHORTEST {
        return Err(usage(format!(
            "--expires {expires} is over before anybody can use it: write how long it is to be good, as in 24h"
        )));
    }
    let ns = u64::try_from(lifetime.as_nanos()).unwrap_or(u64::MAX);
    Ok(now_ns.saturating_add_unsigned(ns))
}

/// UTC, to the second.
pub(super) fn time(ns: i64) -> String {
    let since = Duration::from_nanos(u64::try_from(ns).unwrap_or(0));
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
}

/// Why a token is good for nothing any more, if it is not.
pub(super) fn over(
    revoked_at_ns: Option<i64>,
    expires_at_ns: Option<i64>,
    now_ns: i64,
) -> Option<&'static str> {
    match expires_at_ns {
        _ if revoked_at_ns.is_some() => Some("revoked"),
        Some(at) if at <= now_ns => Some("expired"),
        _ => None,
    }
}

/// The token with the id that was typed. `command` shows which there are.
pub(super) fn named<'a, T>(
    tokens: &'a [T],
    is_it: impl Fn(&T) -> bool,
    command: &str,
) -> Result<&'a T, Refused> {
    tokens.iter().find(|token| is_it(token)).ok_or_else(|| {
        let text = format!("there is no such token: `weir-sink {command} list` shows their ids");
        Refused(Exit::Data, text)
    })
}

/// Done by whoever can write the catalog.
pub(super) fn deed((tenant, action): (&str, &str), object: String, now_ns: i64) -> Deed {
    Deed {
        at_ns: now_ns,
        tenant: tenant.to_owned(),
        who: "command line".to_owned(),
        action: action.to_owned(),
        object,
        outcome: "ok".to_owned(),
        address: String::new(),
    }
}
