//! What is asked for behind the question mark.

use super::Refusal;
use crate::ingest::{StreamView, Wanted};
use crate::ledger::Line;
use crate::model::{Kind, StreamId};

/// Digits of an id that the ledger's table shows.
const SHOWN_DIGITS: usize = 8;

/// Which streams are to be given up.
pub(super) fn wanted(query: &str, streams: &[StreamView]) -> Result<Wanted, Refusal> {
    let mut wanted = Wanted::default();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "agent" => wanted.agent = Some(value.into_owned()),
            "stream" => {
                wanted.stream = Some(stream_of(&value, streams)?);
            }
            _ => {
                let text = format!("unknown parameter {name}: use agent or stream");
                return Err(Refusal::of(Kind::Invalid, text));
            }
        }
    }
    Ok(wanted)
}

/// The stream with this id, or the only one whose id begins so.
fn stream_of(text: &str, streams: &[StreamView]) -> Result<StreamId, Refusal> {
    let is_prefix = (SHOWN_DIGITS..=32).contains(&text.len());
    if !is_prefix || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let text = "stream must be the id the ledger shows: 8 hex digits at least, 32 at most";
        return Err(Refusal::of(Kind::Invalid, text));
    }
    let text = text.to_lowercase();
    let ids = streams.iter().map(|view| view.key.id);
    let mut found = ids.filter(|id| id.to_string().starts_with(&text));
    match (found.next(), found.next()) {
        (Some(id), None) => Ok(id),
        (None, _) => Err(Refusal::of(
            Kind::NotFound,
            format!("there is no stream whose id begins with {text}"),
        )),
        (Some(_), Some(_)) => Err(Refusal::of(
            Kind::Invalid,
            format!(
                "more than one stream begins with {text}: `weir-sink ledger --json` shows all 32 digits"
            ),
        )),
    }
}

/// Which lines of the ledger are wanted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) agent: Option<String>,
    pub(super) open: bool,
    pub(super) audit: bool,
}

impl Filter {
    pub(super) fn parse(query: &str) -> Result<Self, Refusal> {
        let mut filter = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "agent" => filter.agent = Some(value.into_owned()),
                "open" => filter.open = flag(&name, &value)?,
                "audit" => filter.audit = flag(&name, &value)?,
                _ => {
                    let text = format!("unknown parameter {name}: use agent, open or audit");
                    return Err(Refusal::of(Kind::Invalid, text));
                }
            }
        }
        Ok(filter)
    }

    pub(super) fn lets(&self, line: &Line) -> bool {
        let named = self.agent.as_ref().is_none_or(|agent| line.agent == *agent);
        let is_done = line.closed && line.spooled == 0 && line.unexplained == 0;
        named && !(self.open && is_done)
    }
}

fn flag(name: &str, value: &str) -> Result<bool, Refusal> {
    match value {
        "" | "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Refusal::of(
            Kind::Invalid,
            format!("{name} must be true or false"),
        )),
    }
}
