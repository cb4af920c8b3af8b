//! Whether the way to the sink is encrypted, by whose certificate, and for how long still.

use std::net::SocketAddr;
use std::time::SystemTime;

use tokio::net::TcpStream;
use tokio::time::timeout;
use weir_process::tls::{Client, ClientSettings, Encryption, Facts, Identity, Trust, check_cas};

use super::{PATIENCE, place};
use crate::config::Config;
use crate::doctor::Line;
use crate::identity::{Enrolment, Shown};

/// From so many days before its end on a certificate is something to look at.
const SOON_DAYS: i64 = 14;

/// The way to a sink that has addresses, and accepts connections or not.
pub(super) async fn examine(config: &Config, addresses: &[SocketAddr], connected: bool) -> Line {
    if !is_encrypted(config) {
        return plain(config, addresses);
    }
    if !connected {
        return unreached(config, "nothing accepts a connection");
    }
    encrypted(config, &client(config), addresses).await
}

/// Of a sink that cannot be asked: the file that says whom to trust can be wrong all the same.
pub(super) fn unreached(config: &Config, why: &str) -> Line {
    match &config.sender.tls.trust {
        Trust::File(ca) if is_encrypted(config) => match check_cas(ca) {
            Ok(()) => Line::skip("transport", why),
            Err(error) => Line::fail(
                "transport",
                error.to_string(),
                "WEIR_AGENT_TLS_CA names the file of the sink's CA",
            ),
        },
        _ => Line::skip("transport", why),
    }
}

/// Who the agent says it is, whether or not there is anybody to say it to.
pub(super) fn identity(config: &Config) -> Option<Line> {
    if !is_encrypted(config) {
        return None;
    }
    match &config.sender.enrolment {
        Some(enrolment) if enrolment.is_there() => Some(renewed(&client(config))),
        Some(enrolment) => Some(asked(enrolment)),
        None => own(config),
    }
}

fn is_encrypted(config: &Config) -> bool {
    config.sink_url.scheme() == "https"
}

fn client(config: &Config) -> Client {
    let enrolled = config.sender.enrolment.as_ref();
    let enrolled = enrolled.filter(|enrolment| enrolment.is_there());
    Client::new(ClientSettings {
        identity: match enrolled {
            Some(enrolment) => Some((enrolment.file(), enrolment.file())),
            None => config.sender.tls.identity.clone(),
        },
        ..config.sender.tls.clone()
    })
}

fn plain(config: &Config, addresses: &[SocketAddr]) -> Line {
    if addresses.iter().all(|address| address.ip().is_loopback()) {
        return Line::ok("transport", "plain HTTP, within this machine");
    }
    let found = format!(
        "plain HTTP to {}: readings can be seen and changed on the way",
        place(config)
    );
    let remedy = "turn TLS on at the sink (`weir-sink certs init` there) and write https:// in WEIR_AGENT_SINK_URL, or keep the way private (a VPN, one segment)";
    Line::warn("transport", found, remedy)
}

async fn encrypted(config: &Config, client: &Client, addresses: &[SocketAddr]) -> Line {
    let host = config.sink_url.host_str().unwrap_or_default();
    let shaking = async {
        let wire = TcpStream::connect(addresses)
            .await
            .map_err(|error| error.to_string())?;
        let made = client.connect(wire, host, b"h2").await;
        made.map_err(|error| error.text)
            .map(|made| Encryption::of(made.get_ref().1))
    };
    let made = match timeout(PATIENCE, shaking).await {
        Ok(made) => made,
        Err(_) => Err(format!(
            "no TLS handshake within {} s: does what listens there speak TLS?",
            PATIENCE.as_secs()
        )),
    };
    match made {
        Err(found) => Line::fail(
            "transport",
            found,
            "the sink's log says the same from its side",
        ),
        Ok(Encryption { version, server }) => {
            let Some(facts) = server else {
                return Line::ok("transport", version);
            };
            let text = format!("{version}, certificate {}", described(&facts));
            if days(&facts) < SOON_DAYS {
                let remedy = "renew it at the sink: `weir-sink certs renew-server`";
                return Line::warn("transport", text, remedy);
            }
            Line::ok("transport", text)
        }
    }
}

/// This agent's own certificate, where it has one.
fn own(config: &Config) -> Option<Line> {
    let (cert, key) = config.sender.tls.identity.as_ref()?;
    let remedy = "replace the files of WEIR_AGENT_TLS_CERT and WEIR_AGENT_TLS_KEY: they are read again for the next connection";
    Some(match Identity::read(cert, key) {
        Err(error) => Line::fail("identity", error.to_string(), remedy),
        Ok(Identity { facts, .. }) => {
            let text = format!("this agent's certificate {}", described(&facts));
            match facts.seconds_left(SystemTime::now()) {
                ..0 => Line::fail("identity", text, remedy),
                _ if days(&facts) < SOON_DAYS => Line::warn("identity", text, remedy),
                _ => Line::ok("identity", text),
            }
        }
    })
}

/// The identity of an agent that has enrolled: it renews the certificate by itself, so that days left are no reason to worry.
fn renewed(client: &Client) -> Line {
    let facts = match client.identity() {
        Ok(Some(facts)) => facts,
        Ok(None) => return Line::skip("identity", "there is none"),
        Err(error) => {
            let remedy = "if it is damaged, remove it and set WEIR_AGENT_ENROLL_TOKEN_FILE";
            return Line::fail("identity", error.to_string(), remedy);
        }
    };
    let Shown {
        agent,
        tenant,
        not_after,
    } = Shown::of(&facts);
    let tenant = tenant.unwrap_or_default();
    let text = format!(
        "enrolled as {agent} of tenant {tenant}; its certificate is good until {not_after}"
    );
    if facts.seconds_left(SystemTime::now()) < 0 {
        let remedy = "an agent that runs renews it, for a time after its end too: its log says why it does not; then `weir-sink enroll-token create` makes another token";
        return Line::warn("identity", format!("{text}: it has ended"), remedy);
    }
    Line::ok("identity", text)
}

/// Of one that has not enrolled yet.
fn asked(enrolment: &Enrolment) -> Line {
    match enrolment.token.text() {
        Ok(Some(_)) => Line::ok(
            "identity",
            "not enrolled yet: `run` asks for a certificate with the token that is set",
        ),
        _ => Line::fail(
            "identity",
            "there is no identity and no token to ask for one with",
            "set WEIR_AGENT_ENROLL_TOKEN_FILE to what `weir-sink enroll-token create` shows",
        ),
    }
}

fn days(facts: &Facts) -> i64 {
    facts.seconds_left(SystemTime::now()).div_euclid(86_400)
}

fn described(facts: &Facts) -> String {
    let mut names = [facts.names.clone(), facts.uris.clone()].concat();
    if names.is_empty() {
        names.push(facts.subject.clone());
    }
    let until = humantime::format_rfc3339_seconds(facts.not_after);
    let left = match days(facts) {
        ..0 => "it has expired".to_owned(),
        days => format!("{days} days left"),
    };
    format!(
        "for {} from {:?} until {until} ({left})",
        names.join(", "),
        facts.issuer
    )
}
