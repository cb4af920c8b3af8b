//! Tokens that become certificates, and the certificates of agents, straight from the catalog.

use clap::{Arg, ArgMatches, Command, value_parser};
use weir_process::clock::{Clock as _, SystemClock};
use weir_process::exit::Exit;
use weir_process::output::{self, Align, Table};

use super::catalog::{
    self, Refused, deed, end, named, open, over, tenant, text, time, usage, whose,
};
use super::{flag, printed};
use crate::access::token::{WantedEnroll, make_enroll};
use crate::access::{is_pattern, say};
use crate::catalog::EnrollToken;
use crate::config::Config;

/// How long an enrol token is good unless somebody says.
const EXPIRES: &str = "24h";

/// `enroll-token` and what is below it.
pub(super) fn command() -> Command {
    let pattern = Arg::new("agent-pattern")
        .long("agent-pattern")
        .value_name("PATTERN")
        .required(true)
        .help("the names that may use it, as in press-1 or 'press-*'");
    let uses = Arg::new("uses")
        .long("uses")
        .value_name("NUMBER")
        .default_value("1")
        .value_parser(value_parser!(u64).range(1..=1_000_000))
        .help("how many agents may enrol with it");
    let expires = Arg::new("expires")
        .long("expires")
        .value_name("DURATION")
        .default_value(EXPIRES)
        .help("when it ends, as in 24h");
    Command::new("enroll-token")
        .about("make, list and revoke tokens that agents turn into certificates")
        .subcommand_required(true)
        .subcommand(
            Command::new("create")
                .about("make a token and show it, once")
                .args([pattern, uses, expires, tenant("whose agents")]),
        )
        .subcommand(
            Command::new("list")
                .about("list them, without their secrets")
                .arg(flag("json", "print them as JSON"))
                .arg(tenant("only those of this tenant")),
        )
        .subcommand(
            Command::new("revoke")
                .about("end a token; certificates that came of it stand")
                .arg(
                    Arg::new("id")
                        .value_name("ID")
                        .required(true)
                        .help("the 12 digits that the list shows"),
                ),
        )
}

/// `certs list` and `certs revoke`.
pub(super) fn certificates() -> [Command; 2] {
    [
        Command::new("list")
            .about("list the certificates of agents that this sink has signed")
            .arg(flag("json", "print them as JSON"))
            .arg(tenant("only those of this tenant")),
        Command::new("revoke")
            .about("end all certificates of an agent: its calls end within a second")
            .arg(
                Arg::new("agent")
                    .value_name("AGENT")
                    .required(true)
                    .help("its name"),
            )
            .arg(tenant("whose agent")),
    ]
}

/// Does what was typed, if it is about certificates of agents.
pub(super) fn run(name: &str, arguments: &ArgMatches, config: &Config) -> Exit {
    let (deeper, arguments) = arguments.subcommand().expect("clap asks for a command");
    catalog::run(name, async {
        match (name, deeper) {
            ("certs", "revoke") => revoke_certificates(arguments, config).await,
            ("certs", _) => list_certificates(arguments, config).await,
            (_, "create") => create(arguments, config).await,
            (_, "revoke") => revoke(arguments, config).await,
            _ => list(arguments, config).await,
        }
    })
}

async fn create(arguments: &ArgMatches, config: &Config) -> Result<Exit, Refused> {
    let now_ns = SystemClock.wall_ns();
    let pattern = text(arguments, "agent-pattern").unwrap_or_default();
    if !is_pattern(pattern) {
        return Err(usage(format!("{pattern:?} can match no name of an agent")));
    }
    let expires = text(arguments, "expires").unwrap_or(EXPIRES);
    let wanted = WantedEnroll {
        tenant: whose(arguments)?.into(),
        pattern: pattern.into(),
        uses: *arguments.get_one("uses").expect("it has a default"),
        expires_at_ns: Some(end(expires, now_ns)?),
    };
    let catalog = open(config).await?;
    let (token, secret) = make_enroll(&wanted, now_ns)
        .map_err(|error| Refused(Exit::Io, format!("cannot draw a token: {error}")))?;
    let deed = deed(
        (&token.tenant, "enroll_token.create"),
        object(&token),
        now_ns,
    );
    catalog.add_enroll_token(&token, &deed).await?;
    catalog.close().await;
    say(&deed);
    output::note(&format!(
        "enrol token {} for {} agents {} of tenant {}: shown this once, keep it like a password",
        token.id, token.uses, token.pattern, token.tenant
    ));
    Ok(printed(output::line(secret.expose())))
}

async fn list(arguments: &ArgMatches, config: &Config) -> Result<Exit, Refused> {
    let catalog = open(config).await?;
    let mut tokens = catalog.enroll_tokens().await?;
    if let Some(tenant) = text(arguments, "tenant") {
        tokens.retain(|token| *token.tenant == *tenant);
    }
    let now_ns = SystemClock.wall_ns();
    if arguments.get_flag("json") {
        let rows = tokens.iter().map(|token| {
            serde_json::json!({
                "id": token.id,
                "tenant": &*token.tenant,
                "agent_pattern": &*token.pattern,
                "uses": token.uses,
                "used": token.used,
                "created": time(token.created_at_ns),
                "expires": token.expires_at_ns.map(time),
                "revoked": token.revoked_at_ns.map(time),
                "state": state(token, now_ns),
            })
        });
        return Ok(printed(output::json(&rows.collect::<Vec<_>>())));
    }
    let columns = ["id", "tenant", "for", "used", "of", "made", "ends", "state"];
    let mut table = Table::new(columns.map(|name| (name, Align::Left)));
    for token in &tokens {
        table.row([
            token.id.clone(),
            token.tenant.to_string(),
            output::printable(&token.pattern),
            token.used.to_string(),
            token.uses.to_string(),
            time(token.created_at_ns),
            token.expires_at_ns.map(time).unwrap_or_default(),
            state(token, now_ns).to_owned(),
        ]);
    }
    Ok(printed(table.print()))
}

fn state(token: &EnrollToken, now_ns: i64) -> &'static str {
    let over = over(token.revoked_at_ns, token.expires_at_ns, now_ns);
    over.unwrap_or(match token.used >= token.uses {
        true => "used up",
        false => "valid",
    })
}

async fn revoke(arguments: &ArgMatches, config: &Config) -> Result<Exit, Refused> {
    let id = text(arguments, "id").expect("clap asks for it");
    let catalog = open(config).await?;
    let tokens = catalog.enroll_tokens().await?;
    let token = named(&tokens, |token| token.id == *id, "enroll-token")?;
    let now_ns = SystemClock.wall_ns();
    let deed = deed(
        (&token.tenant, "enroll_token.revoke"),
        object(token),
        now_ns,
    );
    let changed = catalog.revoke_enroll_token(id, &deed).await?;
    catalog.close().await;
    if !changed {
        return Ok(printed(output::line(&format!(
            "enrol token {id} was revoked before"
        ))));
    }
    say(&deed);
    Ok(printed(output::line(&format!(
        "enrol token {id} is revoked; `weir-sink certs revoke` ends certificates that came of it"
    ))))
}

async fn list_certificates(arguments: &ArgMatches, config: &Config) -> Result<Exit, Refused> {
    let catalog = open(config).await?;
    let mut found = catalog.certificates().await?;
    if let Some(tenant) = text(arguments, "tenant") {
        found.retain(|one| *one.tenant == *tenant);
    }
    let now_ns = SystemClock.wall_ns();
    let state = |one: &crate::catalog::Certificate| match one.revoked_at_ns {
        Some(_) => "revoked",
        None if one.not_after_ns <= now_ns => "ended",
        None => "valid",
    };
    if arguments.get_flag("json") {
        let rows = found.iter().map(|one| {
            serde_json::json!({
                "fingerprint": one.fingerprint,
                "tenant": &*one.tenant,
                "agent": &*one.agent,
                "source": one.source,
                "created": time(one.created_at_ns),
                "not_after": time(one.not_after_ns),
                "revoked": one.revoked_at_ns.map(time),
                "state": state(one),
            })
        });
        return Ok(printed(output::json(&rows.collect::<Vec<_>>())));
    }
    let columns = ["fingerprint", "tenant", "agent", "signed", "ends", "state"];
    let mut table = Table::new(columns.map(|name| (name, Align::Left)));
    for one in &found {
        table.row([
            one.fingerprint[..16].to_owned(),
            one.tenant.to_string(),
            output::printable(&one.agent),
            time(one.created_at_ns),
            time(one.not_after_ns),
            state(one).to_owned(),
        ]);
    }
    Ok(printed(table.print()))
}

async fn revoke_certificates(arguments: &ArgMatches, config: &Config) -> Result<Exit, Refused> {
    let agent = text(arguments, "agent").expect("clap asks for it");
    let tenant = whose(arguments)?;
    let catalog = open(config).await?;
    let (what, now_ns) = (format!("all of {agent}"), SystemClock.wall_ns());
    let deed = deed((tenant, "certificate.revoke"), what, now_ns);
    let ended = catalog.revoke_certificates((tenant, agent), &deed).await?;
    catalog.close().await;
    if ended == 0 {
        let text = format!(
            "no certificate of agent {agent} of tenant {tenant} stands: `weir-sink certs list` shows those there are"
        );
        return Err(Refused(Exit::Data, text));
    }
    say(&deed);
    Ok(printed(output::line(&format!(
        "{ended} certificates of {agent} are revoked: a running sink ends its calls within a second"
    ))))
}

/// How the audit log names it.
fn object(token: &EnrollToken) -> String {
    format!("{} for {}", token.id, token.pattern)
}
