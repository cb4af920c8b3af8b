//! `spool export`: the readings themselves, as CSV or as one JSON object per line.
//!
//! | field | content |
//! |---|---|
//! | `stream`, `sequence` | which batch |
//! | `acked` | whether the sink has it |
//! | `time`, `time_ns` | when it was read: RFC 3339 (empty before 1970), unix nanoseconds |
//! | `device`, `metric`, `unit`, `kind`, `source`, `attributes` | the series; attributes as a JSON object with sorted keys |
//! | `value`, `text` | the reading; what JSON has no number for is a string: `"NaN"`, `"inf"`, `"-inf"` |

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::ArgMatches;
use serde_json::json;
use weir_process::exit::Exit;
use weir_process::output;
use weir_proto::batch::{self, Block, Values};
use weir_proto::v1;

use super::Place;
use crate::spool::hex;
use crate::spool::inspect::Entry;

const HEADINGS: &str =
    "stream,sequence,acked,time,time_ns,device,metric,unit,kind,source,attributes,value,text\n";

/// Where the lines go, and what could not be written as one.
struct Export {
    out: Box<dyn Write>,
    json: bool,
    readings: u64,
    faults: u64,
}

/// The batch that is written.
struct Origin<'a> {
    stream: &'a str,
    sequence: u64,
    acked: bool,
}

pub(super) fn export(place: &Place, matches: &ArgMatches) -> anyhow::Result<Exit> {
    let json = matches
        .get_one::<String>("format")
        .is_some_and(|format| format == "json");
    let from = matches.get_one("from").copied().unwrap_or(0);
    let through = matches.get_one("through").copied().unwrap_or(u64::MAX);
    let letters = matches.get_flag("dead-letters");
    let wanted = matches.get_one::<String>("stream");
    let streams = match letters {
        true => Vec::new(),
        false => match place.chosen(wanted) {
            Some(streams) => streams,
            None => return Ok(Exit::Usage),
        },
    };
    let mut export = Export {
        out: destination(matches)?,
        json,
        readings: 0,
        faults: 0,
    };
    let written = export.begin().and_then(|()| {
        for held in streams {
            export.stream(place, held, from..=through)?;
        }
        if letters {
            export.letters(place, wanted, from..=through)?;
        }
        export.out.flush()
    });
    match written {
        // The reader has gone: `| head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Ok),
        other => other.context("cannot export")?,
    }
    output::note(&format!("{} readings", export.readings));
    if export.faults > 0 {
        let faults = export.faults;
        output::note(&format!(
            "{faults} places could not be read: `weir-agent spool verify` names them"
        ));
        return Ok(Exit::Failure);
    }
    Ok(Exit::Ok)
}

fn destination(matches: &ArgMatches) -> anyhow::Result<Box<dyn Write>> {
    let Some(path) = matches.get_one::<PathBuf>("output") else {
        return Ok(Box::new(BufWriter::new(io::stdout().lock())));
    };
    let file =
        File::create_new(path).with_context(|| format!("cannot create {}", path.display()))?;
    Ok(Box::new(BufWriter::new(file)))
}

impl Export {
    fn begin(&mut self) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        self.out.write_all(HEADINGS.as_bytes())
    }

    fn stream(
        &mut self,
        place: &Place,
        held: &crate::spool::inspect::Held,
        range: std::ops::RangeInclusive<u64>,
    ) -> io::Result<()> {
        let (_, _, dictionary) = held.survey(&place.storage).map_err(io::Error::other)?;
        let stream = hex(&held.id);
        let mut walk = held.walk(&place.storage).map_err(io::Error::other)?;
        let acked_through = walk.state().account.acked_through;
        while let Some(entry) = walk.next().map_err(io::Error::other)? {
            match entry {
                Entry::Batch { sequence, batch } if range.contains(&sequence) => {
                    let origin = Origin {
                        stream: &stream,
                        sequence,
                        acked: sequence <= acked_through,
                    };
                    self.batch(&origin, &batch, &dictionary)?;
                }
                Entry::Nonsense { .. } => self.faults += 1,
                Entry::Lost(lost) if !lost.given_up => self.faults += 1,
                _ => {}
            }
        }
        Ok(())
    }

    fn letters(
        &mut self,
        place: &Place,
        wanted: Option<&String>,
        range: std::ops::RangeInclusive<u64>,
    ) -> io::Result<()> {
        for note in place.letters.list()? {
            let named = wanted.is_none_or(|wanted| note.stream_id.starts_with(wanted.as_str()));
            if !named || !range.contains(&note.sequence) {
                continue;
            }
            let Some((batch, dictionary)) = place.letters.read(&note)? else {
                self.faults += 1;
                continue;
            };
            let origin = Origin {
                stream: &note.stream_id,
                sequence: note.sequence,
                acked: false,
            };
            self.batch(&origin, &batch, &dictionary)?;
        }
        Ok(())
    }

    fn batch(
        &mut self,
        origin: &Origin<'_>,
        batch: &v1::Batch,
        dictionary: &BTreeMap<u32, v1::Series>,
    ) -> io::Result<()> {
        let header = batch.header.clone().unwrap_or_default();
        let Ok(blocks) = batch::decode(&header, &batch.payload) else {
            self.faults += 1;
            return Ok(());
        };
        for block in &blocks {
            self.block(origin, block, dictionary)?;
        }
        Ok(())
    }

    fn block(
        &mut self,
        origin: &Origin<'_>,
        block: &Block,
        dictionary: &BTreeMap<u32, v1::Series>,
    ) -> io::Result<()> {
        for column in &block.columns {
            let Some(series) = dictionary.get(&column.series) else {
                self.faults += 1;
                continue;
            };
            let series = Words::of(series);
            let present = |index: usize| column.present.as_ref().is_none_or(|is| is[index]);
            let times = block.times.iter().enumerate();
            let times = times.filter(|(index, _)| present(*index));
            for (place, (_, ns)) in times.enumerate() {
                let (number, text) = match &column.values {
                    Values::Numbers(numbers) => (Some(numbers[place]), None),
                    Values::Texts(texts) => (None, Some(texts[place].as_str())),
                };
                self.reading(origin, &series, *ns, (number, text))?;
            }
        }
        Ok(())
    }

    fn reading(
        &mut self,
        origin: &Origin<'_>,
        series: &Words<'_>,
        ns: i64,
        (number, text): (Option<f64>, Option<&str>),
    ) -> io::Result<()> {
        self.readings += 1;
        let time = rfc3339(ns).unwrap_or_default();
        let definition = series.series;
        if self.json {
            let value = number.map(|number| match number.is_finite() {
                true => json!(number),
                false => json!(number.to_string()),
            });
            let line = json!({
                "stream": origin.stream, "sequence": origin.sequence, "acked": origin.acked,
                "time": time, "time_ns": ns,
                "device": definition.device, "metric": definition.metric, "unit": definition.unit,
                "kind": series.kind, "source": definition.source,
                "attributes": series.attributes,
                "value": value, "text": text,
            });
            return writeln!(self.out, "{line}");
        }
        let number = number.map(|number| number.to_string()).unwrap_or_default();
        writeln!(
            self.out,
            "{},{},{},{time},{ns},{},{number},{}",
            origin.stream,
            origin.sequence,
            origin.acked,
            series.cells,
            cell(text.unwrap_or_default())
        )
    }
}

/// A series, ready to be written as often as it has readings.
struct Words<'a> {
    series: &'a v1::Series,
    kind: String,
    attributes: BTreeMap<&'a str, &'a str>,
    /// As CSV.
    cells: String,
}

impl Words<'_> {
    fn of(series: &v1::Series) -> Words<'_> {
        let kind = series.kind().as_str_name().trim_start_matches("KIND_");
        let kind = kind.to_ascii_lowercase();
        let attributes = series.attributes.iter();
        let attributes: BTreeMap<&str, &str> = attributes
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let cells = [
            cell(&series.device),
            cell(&series.metric),
            cell(&series.unit),
            kind.clone(),
            cell(&series.source),
            cell(&json!(attributes).to_string()),
        ];
        Words {
            series,
            cells: cells.join(","),
            kind,
            attributes,
        }
    }
}

/// One CSV cell, by RFC 4180.
fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

/// A moment as RFC 3339 spells it; `None` before 1970, where only a clock that was never set can be.
pub(super) fn rfc3339(ns: i64) -> Option<String> {
    let since = Duration::from_nanos(u64::try_from(ns).ok()?);
    let at = SystemTime::UNIX_EPOCH + since;
    Some(humantime::format_rfc3339_nanos(at).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_with_commas_quotes_or_lines_are_quoted() {
        assert_eq!(cell("plain"), "plain");
        assert_eq!(cell("a,b"), "\"a,b\"");
        assert_eq!(cell("say \"x\"\n"), "\"say \"\"x\"\"\n\"");
    }

    #[test]
    fn moments_before_1970_have_no_rfc3339() {
        let text = rfc3339(1_500_000_000_000_000_001);
        assert_eq!(text.as_deref(), Some("2017-07-14T02:40:00.000000001Z"));
        assert_eq!(rfc3339(-1), None);
        assert!(rfc3339(i64::MAX).is_some());
    }
}
