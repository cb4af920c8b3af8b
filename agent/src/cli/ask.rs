//! Commands that ask the agent that runs on this machine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use url::Url;
use weir_process::exit::Exit;
use weir_process::http::{self, Reply};
use weir_process::output;

use crate::config::Config;
use crate::status::Report;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Shows what the running agent says of itself.
pub(super) fn status(config: &Config, json: bool) -> anyhow::Result<Exit> {
    let reply = match ask(config, "/status")? {
        Ok(reply) if reply.status.is_success() => reply,
        Ok(reply) => {
            output::note(&format!(
                "the agent answers {}: {}",
                reply.status,
                reply.text().trim_end()
            ));
            return Ok(Exit::Unavailable);
        }
        Err(exit) => return Ok(exit),
    };
    let report: Report = serde_json::from_slice(&reply.body)
        .context("what answers is not a weir-agent of this version: check status.listen")?;
    if json {
        output::json(&report)?;
    } else {
        output::text(&report.to_text())?;
    }
    Ok(Exit::Ok)
}

/// Exit 0 when the running agent is ready, else 1 with the reasons.
pub(super) fn health(config: &Config) -> anyhow::Result<Exit> {
    let Ok(reply) = ask(config, "/readyz")? else {
        return Ok(Exit::Failure);
    };
    if reply.status.is_success() {
        output::line("ready")?;
        return Ok(Exit::Ok);
    }
    output::note(reply.text().trim_end());
    Ok(Exit::Failure)
}

fn ask(config: &Config, path: &str) -> anyhow::Result<Result<Reply, Exit>> {
    let Some(url) = endpoint(config, path) else {
        output::note("status.listen is off: this agent cannot be asked");
        return Ok(Err(Exit::Unavailable));
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match runtime.block_on(http::get(&url, TIMEOUT)) {
        Ok(reply) => Ok(Ok(reply)),
        Err(error) => {
            output::note(&format!("weir-agent: {error}"));
            Ok(Err(Exit::Unavailable))
        }
    }
}

/// Where the running agent serves `path`; None when it serves nothing.
pub(crate) fn endpoint(config: &Config, path: &str) -> Option<Url> {
    let listen = config.status_listen?;
    let url = format!("http://{}{path}", reachable(real(config, listen)));
    Some(Url::parse(&url).expect("an address and a path of ours are a URL"))
}

/// Where an agent with a free port really listens, which stands in its data directory.
fn real(config: &Config, listen: SocketAddr) -> SocketAddr {
    if listen.port() != 0 {
        return listen;
    }
    let path = config.spool.data_dir.join("endpoints.json");
    let written = std::fs::read(path)
        .ok()
        .and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
    let address = written.and_then(|endpoints| endpoints["status"].as_str()?.parse().ok());
    address.unwrap_or(listen)
}

/// An address that listens everywhere is asked on this machine.
fn reachable(listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), listen.port())
    } else {
        listen
    }
}
