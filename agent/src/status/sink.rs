//! Where readings go, as the agent says it of itself: the sink, what the link to it is encrypted with, as whom, and what waits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use weir_process::tls::{Encryption, Facts};

use super::Sources;
use super::report::whole_seconds;
use crate::identity::Shown;
use crate::sender::LinkState;
use crate::sender::waits::Wait;

/// Where readings go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Sink {
    /// Without user and password.
    url: String,
    connected: bool,
    /// `connecting`, `connected`, or why not.
    state: String,
    /// What the last connection was encrypted with; nothing where it was plain.
    #[serde(default)]
    tls: Option<Tls>,
    /// The certificate that this agent shows; nothing where it has none.
    #[serde(default)]
    identity: Option<Identity>,
    /// Streams that another agent delivers, a copy of this machine: this one leaves them alone for now.
    #[serde(default)]
    displaced: u64,
    /// Streams that are left alone for now while others go on, by reason.
    #[serde(default)]
    waiting: Vec<Waiting>,
}

/// The streams that wait for one reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Waiting {
    /// `no_room`, `displaced` or `foreign`.
    reason: String,
    streams: u64,
    /// What was said of one of them.
    said: String,
    /// When the first of them is asked again.
    again_seconds: f64,
}

impl Waiting {
    fn of(waits: &BTreeMap<[u8; 16], Wait>) -> Vec<Self> {
        let now = Instant::now();
        let mut all: Vec<Self> = Vec::new();
        for wait in waits.values() {
            let (reason, again) = (wait.why.name(), (wait.until - now).as_secs_f64());
            match all.iter_mut().find(|known| known.reason == reason) {
                Some(known) => {
                    known.streams += 1;
                    known.again_seconds = known.again_seconds.min(again);
                }
                None => all.push(Self {
                    reason: reason.to_owned(),
                    streams: 1,
                    said: wait.words.clone(),
                    again_seconds: again,
                }),
            }
        }
        all
    }

    fn to_text(&self) -> String {
        let Self { streams, said, .. } = self;
        let wait = if *streams == 1 {
            "1 stream waits".to_owned()
        } else {
            format!("{streams} streams wait")
        };
        let again = whole_seconds(self.again_seconds);
        let what = match self.reason.as_str() {
            "displaced" => {
                return format!(
                    "another agent delivers {streams} of these streams: is a copy of this machine running? asked again in {again}"
                );
            }
            "foreign" => "for a credential that is for the name it was begun under",
            _ => "for room on the disk of this agent",
        };
        format!("{wait} {what}, others go on, asked again in {again}: {said}")
    }
}

impl Sink {
    /// As things are now.
    pub(super) fn of(sources: &Sources) -> Self {
        let link = sources.link.borrow().clone();
        let waiting = Waiting::of(&sources.waits.borrow());
        let displaced = waiting.iter().filter(|wait| wait.reason == "displaced");
        Self {
            url: sources.config.sink_url.to_string(),
            connected: link == LinkState::Connected,
            state: match link {
                LinkState::Connecting => "connecting".to_owned(),
                LinkState::Connected => "connected".to_owned(),
                LinkState::Waiting { reason } => reason,
            },
            tls: sources.encryption.borrow().as_ref().map(Tls::of),
            identity: sources.own.borrow().as_ref().map(Identity::of),
            displaced: displaced.map(|wait| wait.streams).sum(),
            waiting,
        }
    }

    /// For people: what each line is about, and what it says.
    pub(super) fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![("sink", format!("{}, {}", self.url, self.state))];
        lines.extend(self.tls.iter().map(|tls| ("", tls.to_text())));
        let identity = self.identity.iter();
        lines.extend(identity.map(|identity| ("identity", identity.to_text())));
        lines.extend(self.waiting.iter().map(|wait| ("", wait.to_text())));
        lines
    }
}

/// An encrypted connection, and the sink's certificate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Tls {
    /// `TLS 1.2` or `TLS 1.3`.
    version: String,
    issuer: String,
    /// When the sink's certificate ends, RFC 3339.
    not_after: String,
}

impl Tls {
    fn of(seen: &Encryption) -> Self {
        let server = seen.server.as_ref();
        let not_after = |facts: &Facts| humantime::format_rfc3339_seconds(facts.not_after);
        Self {
            version: seen.version.to_owned(),
            issuer: server.map_or_else(String::new, |facts| facts.issuer.clone()),
            not_after: server.map_or_else(String::new, |facts| not_after(facts).to_string()),
        }
    }

    fn to_text(&self) -> String {
        let Self {
            version,
            issuer,
            not_after,
        } = self;
        format!("{version}; the sink's certificate is from {issuer:?} and good until {not_after}")
    }
}

/// As whom the sink knows this agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Identity {
    agent: String,
    /// Where a sink enrolled it.
    tenant: Option<String>,
    /// When its certificate ends, RFC 3339.
    not_after: String,
}

impl Identity {
    fn of(facts: &Facts) -> Self {
        let Shown {
            agent,
            tenant,
            not_after,
        } = Shown::of(facts);
        Self {
            agent,
            tenant,
            not_after,
        }
    }

    fn to_text(&self) -> String {
        let tenant = self.tenant.as_ref();
        let tenant = tenant.map_or_else(String::new, |tenant| format!(" of tenant {tenant}"));
        format!("{}{tenant}, good until {}", self.agent, self.not_after)
    }
}
