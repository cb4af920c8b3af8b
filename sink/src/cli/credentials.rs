//! Tokens and the audit log, straight from the catalog.

use clap::{Arg, ArgMatches, Command};
use weir_process::clock::{Clock as _, SystemClock};
use weir_process::exit::Exit;
use weir_process::output::{self, Align, Table};

use super::catalog::{
    self, Refused, deed, duration, end, named, open, over, tenant, text, time, usage, whose,
};
use super::{flag, printed};
use crate::access::token::{Wanted, make};
use crate::access::{is_pattern, say};
use crate::catalog::{Deeds, Token};
use crate::config::Config;
use crate::http::audit::{AuditLog, MAX_LINES, SINCE, since_ns};
use crate::model::Role;

/// Longest name of a token, in characters.
const MAX_NAME_CHARS: usize = 100;

/// `token` and what is below it.
pub(super) fn token() -> Command {
    let role = Arg::new("role")
        .long("role")
        .value_name("ROLE")
        .required(true)
        .value_parser(Role::ALL.map(Role::name))
        .help("agent: deliver; reader: ask; operator: and settle; admin: and read the audit log");
    let name = Arg::new("name")
        .long("name")
        .value_name("TEXT")
        .help("what it is for, as lists and the audit log show it");
    let pattern = Arg::new("agent-pattern")
        .long("agent-pattern")
        .value_name("PATTERN")
        .help("for the role agent: the names that may use it, as in press-1 or 'press-*'");
    let expires = Arg::new("expires")
        .long("expires")
        .value_name("DURATION")
        .help("when it ends by itself, as in 90d; never when not given");
    Command::new("token")
        .about("make, list and revoke tokens of agents, people and machines")
        .subcommand_required(true)
        .subcommand(
            Command::new("create")
                .about("make a token and show it, once")
                .long_about(
                    "Make a token and show it, once: the token alone on standard output, what it is on standard \
                     error. The sink keeps a hash of it. Agents take it by WEIR_AGENT_SINK_TOKEN_FILE, other \
                     programs send it as `authorization: Bearer TOKEN`.",
                )
                .args([role, name, pattern, expires, tenant("whose data it is for")]),
        )
        .subcommand(
            Command::new("list")
                .about("list tokens, without their secrets")
                .arg(flag("json", "print them as JSON"))
                .arg(tenant("only those of this tenant")),
        )
        .subcommand(
            Command::new("revoke")
                .about("end a token: calls that run with it end within a second")
                .arg(
                    Arg::new("id")
                        .value_name("ID")
                        .required(true)
                        .help("the 12 digits that the list shows"),
                ),
        )
}

/// `audit`.
pub(super) fn audit() -> Command {
    Command::new("audit")
        .about("show the audit log: who changed what, and who was turned away")
        .arg(
            Arg::new("since")
                .long("since")
                .value_name("DURATION")
                .default_value(SINCE)
                .help("how far back, as in 90m or 7d"),
        )
        .arg(tenant("only of this tenant"))
        .arg(flag("json", "print it as JSON"))
}

/// Does what was typed.
pub(super) fn run(name: &str, arguments: &ArgMatches, config: &Config) -> Exit {
    catalog::run(name, async {
        match arguments.subcommand() {
            Some(("create", arguments)) => create(arguments, config).await,
            Some(("list", arguments)) => list(arguments, config).await,
            Some((_, arguments)) => revoke(arguments, config).await,
            None => show_audit(arguments, config).await,
        }
    })
}

async fn create(arguments: &ArgMatches, config: &Config) -> Result<Exit, Refused> {
    let now_ns = SystemClock.wall_ns();
    let wanted = wanted(arguments, now_ns)?;
    let catalog = open(config).await?;
    let (token, secret) = make(&wanted, now_ns)
        .map_err(|error| Refused(Exit::Io, format!("cannot draw a token: {error}")))?;
    let object = format!("{} {} {}", token.id, token.role.name(), token.name);
    let deed = deed((&token.tenant, "token.create"), object, now_ns);
    catalog.add_token(&token, &deed).await?;
    catalog.close().await;
    say(&deed);
    output::note(&format!(
        "token {} for the role {} in tenant {}: shown this once, keep it like a password",
        token.id,
        token.role.name(),
        token.tenant
    ));
    Ok(printed(output::line(secret.expose())))
}

fn wanted(arguments: &ArgMatches, now_ns: i64) -> Result<Wanted, Refused> {
    let text = |name: &str| text(arguments, name);
    let role = text("role").and_then(Role::named);
    let role = role.expect("clap knows all roles");
    let name = match (role, text("agent-pattern"), text("name")) {
        (Role::Agent, Some(pattern), None) if is_pattern(pattern) => pattern,
        (Role::Agent, Some(pattern), None) => {
            return Err(usage(format!("{pattern:?} can match no name of an agent")));
        }
        (Role::Agent, ..) => {
            return Err(usage(
                "an agent's token needs --agent-pattern in place of --name: the names that may use it",
            ));
        }
        (_, Some(_), _) => return Err(usage("--agent-pattern is for the role agent alone")),
        (_, None, name) => name.unwrap_or("unnamed"),
    };
    if name.chars().count() > MAX_NAME_CHARS.max(256) || name.chars().any(char::is_control) {
        return Err(usage("the name is too long, or has control characters"));
    }
    let expires = text("expires").map(|expires| end(expires, now_ns));
    Ok(Wanted {
        role,
        tenant: whose(arguments)?.into(),
        name: name.into(),
        expires_at_ns: expires.transpose()?,
    })
}

async fn list(arguments: &ArgMatches, config: &Config) -> Result<Exit, Refused> {
    let catalog = open(config).await?;
    let mut tokens = catalog.tokens().await?;
    if let Some(tenant) = arguments.get_one::<String>("tenant") {
        tokens.retain(|token| *token.tenant == **tenant);
    }
    let now_ns = SystemClock.wall_ns();
    if arguments.get_flag("json") {
        let rows = tokens.iter().map(|token| {
            serde_json::json!({
                "id": token.id,
                "role": token.role.name(),
                "tenant": &*token.tenant,
                "name": &*token.name,
                "created": time(token.created_at_ns),
                "expires": token.expires_at_ns.map(time),
                "revoked": token.revoked_at_ns.map(time),
                "state": state(token, now_ns),
            })
        });
        return Ok(printed(output::json(&rows.collect::<Vec<_>>())));
    }
    let columns = ["id", "role", "tenant", "for", "made", "ends", "state"];
    let mut table = Table::new(columns.map(|name| (name, Align::Left)));
    for token in &tokens {
        let ends = token.expires_at_ns.map(time);
        table.row([
            token.id.clone(),
            token.role.name().to_owned(),
            token.tenant.to_string(),
            output::printable(&token.name),
            time(token.created_at_ns),
            ends.unwrap_or_default(),
            state(token, now_ns).to_owned(),
        ]);
    }
    Ok(printed(table.print()))
}

fn state(token: &Token, now_ns: i64) -> &'static str {
    over(token.revoked_at_ns, token.expires_at_ns, now_ns).unwrap_or("valid")
}

async fn revoke(arguments: &ArgMatches, config: &Config) -> Result<Exit, Refused> {
    let id = arguments.get_one::<String>("id").expect("clap asks for it");
    let catalog = open(config).await?;
    let tokens = catalog.tokens().await?;
    let token = named(&tokens, |token| token.id == *id, "token")?;
    let object = format!("{} {} {}", token.id, token.role.name(), token.name);
    let now_ns = SystemClock.wall_ns();
    let deed = deed((&token.tenant, "token.revoke"), object, now_ns);
    let changed = catalog.revoke_token(id, &deed).await?;
    catalog.close().await;
    if !changed {
        return Ok(printed(output::line(&format!(
            "token {id} was revoked before"
        ))));
    }
    say(&deed);
    Ok(printed(output::line(&format!(
        "token {id} is revoked: a running sink ends its calls within a second"
    ))))
}

async fn show_audit(arguments: &ArgMatches, config: &Config) -> Result<Exit, Refused> {
    let since = arguments.get_one::<String>("since");
    let since = duration(since.map_or(SINCE, String::as_str))?;
    let catalog = open(config).await?;
    let wanted = Deeds {
        since_ns: since_ns(SystemClock.wall_ns(), since),
        tenant: arguments.get_one::<String>("tenant").cloned(),
        limit: MAX_LINES,
    };
    let lines = catalog.deeds(&wanted).await?;
    if lines.len() == MAX_LINES as usize {
        output::note("there are more lines: ask for a shorter time with --since");
    }
    if arguments.get_flag("json") {
        return Ok(printed(output::json(&AuditLog { lines })));
    }
    let columns = [
        "time", "tenant", "who", "action", "object", "outcome", "from",
    ];
    let mut table = Table::new(columns.map(|name| (name, Align::Left)));
    for deed in &lines {
        let texts = [
            &deed.tenant,
            &deed.who,
            &deed.action,
            &deed.object,
            &deed.outcome,
            &deed.address,
        ];
        let texts = texts.into_iter().map(|text| output::printable(text));
        table.row(std::iter::once(time(deed.at_ns)).chain(texts));
    }
    Ok(printed(table.print()))
}
