//! `spool ls`: one line per stream, one per dead letter.

use serde::Serialize;
use weir_process::exit::Exit;
use weir_process::output::{self, Align, Table};

use super::Place;
use crate::dead_letter::Note;
use crate::spool::hex;
use crate::spool::inspect::Lost;

/// The whole answer, as `--json` gives it.
#[derive(Debug, Serialize)]
struct Listing {
    /// Whether an agent has the spool open.
    in_use: bool,
    /// Oldest first.
    streams: Vec<Line>,
    /// Oldest first.
    dead_letters: Vec<Note>,
}

/// One stream.
#[derive(Debug, Serialize)]
struct Line {
    stream_id: String,
    /// `live`: a running agent appends to it; `ended`; `given_up`: its records made room for others, the count is left;
    /// `partial`: a copy that is not whole, removed at the next start.
    state: &'static str,
    /// The first and the last sequence that can be read; 0 when there is none.
    first_sequence: u64,
    last_sequence: u64,
    batches: u64,
    /// In batches that can be read, acknowledged ones that were not given back yet included.
    readings: u64,
    unacked_readings: u64,
    bytes: u64,
    acked_through: u64,
    /// Observed time of the oldest reading not acknowledged, unix nanoseconds; 0 when there is none.
    oldest_unacked_ns: i64,
    holes: Vec<Hole>,
}

/// Sequences that cannot be read and are not acknowledged.
#[derive(Debug, Serialize)]
struct Hole {
    from: u64,
    through: u64,
    /// `None` when nothing is left to tell.
    readings: Option<u64>,
    /// `damaged`, or `spool_oldest`: given up to make room.
    reason: &'static str,
}

pub(super) fn ls(place: &Place, json: bool) -> anyhow::Result<Exit> {
    let in_use = place.is_in_use();
    let mut streams = Vec::new();
    for (index, held) in place.streams.iter().enumerate() {
        let (summary, state, _) = held.survey(&place.storage)?;
        let newest = index + 1 == place.streams.len();
        streams.push(Line {
            stream_id: hex(&held.id),
            state: match () {
                () if state.partial => "partial",
                () if state.given_up => "given_up",
                () if in_use && newest => "live",
                () => "ended",
            },
            first_sequence: summary.first.unwrap_or(0),
            last_sequence: summary.last.max(state.known_through),
            batches: summary.batches,
            readings: summary.readings,
            unacked_readings: summary.unacked,
            bytes: summary.bytes,
            acked_through: state.account.acked_through,
            oldest_unacked_ns: summary.oldest_unacked_ns,
            holes: summary.lost.iter().map(hole).collect(),
        });
    }
    let listing = Listing {
        in_use,
        streams,
        dead_letters: place.letters.list()?,
    };
    if json {
        output::json(&listing)?;
    } else {
        output::text(&listing.to_text())?;
    }
    Ok(Exit::Ok)
}

fn hole(lost: &Lost) -> Hole {
    Hole {
        from: lost.from,
        through: lost.through,
        readings: lost.readings,
        reason: if lost.given_up {
            "spool_oldest"
        } else {
            "damaged"
        },
    }
}

impl Listing {
    fn to_text(&self) -> String {
        use Align::{Left, Right};
        let mut table = Table::new([
            ("stream", Left),
            ("state", Left),
            ("sequences", Right),
            ("readings", Right),
            ("unacked", Right),
            ("bytes", Right),
            ("acked through", Right),
            ("oldest unacked", Left),
            ("holes", Left),
        ]);
        for line in &self.streams {
            table.row([
                line.stream_id.as_str(),
                line.state,
                &format!("{}-{}", line.first_sequence, line.last_sequence),
                &line.readings.to_string(),
                &line.unacked_readings.to_string(),
                &line.bytes.to_string(),
                &line.acked_through.to_string(),
                &time(line.oldest_unacked_ns),
                &line
                    .holes
                    .iter()
                    .map(Hole::to_text)
                    .collect::<Vec<_>>()
                    .join(", "),
            ]);
        }
        let mut text = table.render();
        if self.dead_letters.is_empty() {
            text.push_str("\nno dead letters\n");
            return text;
        }
        let mut table = Table::new([
            ("dead letter", Left),
            ("readings", Right),
            ("bytes", Right),
            ("set aside", Left),
            ("code", Left),
            ("reason", Left),
        ]);
        for note in &self.dead_letters {
            table.row([
                note.name().as_str(),
                &note.readings.to_string(),
                &note.payload_bytes.to_string(),
                &time(note.set_aside_ns),
                &note.code,
                &note.reason,
            ]);
        }
        text.push('\n');
        text.push_str(&table.render());
        text
    }
}

impl Hole {
    fn to_text(&self) -> String {
        let Hole {
            from,
            through,
            reason,
            ..
        } = self;
        match self.readings {
            Some(readings) => format!("{from}-{through} ({readings} readings, {reason})"),
            None => format!("{from}-{through} ({reason})"),
        }
    }
}

/// A moment as people write it; `-` for none.
fn time(ns: i64) -> String {
    super::export::rfc3339(ns)
        .filter(|_| ns != 0)
        .unwrap_or_else(|| "-".to_owned())
}
