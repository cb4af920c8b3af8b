//! `spool verify`: what `spool/verify.rs` finds, as text or JSON.

use clap::ArgMatches;
use weir_process::exit::Exit;
use weir_process::output;

use super::Place;
use crate::spool::verify::{Verdict, judge};

pub(super) fn verify(place: &Place, matches: &ArgMatches) -> anyhow::Result<Exit> {
    let Some(streams) = place.chosen(matches.get_one("stream")) else {
        return Ok(Exit::Usage);
    };
    let mut verdicts = Vec::new();
    for held in streams {
        verdicts.push(judge(&place.storage, held)?);
    }
    let whole = verdicts.iter().all(|verdict| verdict.faults.is_empty());
    if matches.get_flag("json") {
        output::json(&verdicts)?;
    } else {
        for verdict in &verdicts {
            output::text(&to_text(verdict))?;
        }
        output::line(if whole {
            "everything can be read"
        } else {
            "damage was found"
        })?;
    }
    Ok(if whole { Exit::Ok } else { Exit::Failure })
}

fn to_text(verdict: &Verdict) -> String {
    let mut text = format!(
        "stream {}: {} records and {} readings are whole",
        verdict.stream_id, verdict.records, verdict.readings
    );
    if verdict.lost_readings > 0 {
        text.push_str(&format!(", {} readings are lost", verdict.lost_readings));
    }
    text.push('\n');
    for fault in &verdict.faults {
        text.push_str(&format!("  {fault}\n"));
    }
    if verdict.tail_bytes > 0 {
        let bytes = verdict.tail_bytes;
        text.push_str(&format!(
            "  {bytes} bytes at the end are no whole record: one being written, or one that never was committed\n"
        ));
    }
    text
}
