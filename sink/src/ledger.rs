//! The ledger: per stream, `produced = stored + spooled + dropped + unexplained`, exact.
//!
//! Two views of one stream are put together: ingest's, which is ahead (journaled, durable), and
//! the fold's, which counted rows. What lies between is `pending_fold`.
//!
//! | figure | from |
//! |---|---|
//! | `produced` | the larger of the most the agent ever reported and the readings through the watermark |
//! | `stored` | rows the fold took, in files or in memory, and `pending_fold` |
//! | `pending_fold` | readings that are durable in the journal and not folded yet |
//! | `spooled` | `produced` less the readings through the watermark |
//! | `dropped` | closed by skips, by reason; what the fold set aside (`fold_error`); and instead of `spooled` what a lost spool held, or a closed stream does not (`spool_lost`) |
//! | `unexplained` | readings through the fold's watermark that are neither stored nor dropped |
//!
//! Rows of a data file whose loss an operator has accepted stay in `stored` of their streams, as those that
//! expired do: the file is gone, so nobody can tell whose they were. They stand beside the streams, by file and
//! to the reading, as dropped(file_lost).
//!
//! `missed_ticks` stands beside the equation: an upper bound of readings that never were.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_proto::v1;

use crate::catalog::StreamLedger;
use crate::ingest::{Mark, StreamView};
use crate::model::{SPOOL_LOST, StreamKey, drop_reason_name};

#[cfg(test)]
mod tests;

/// One stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Whose it is.
    pub tenant: String,
    /// Who sends it.
    pub agent: String,
    /// 32 hex digits.
    pub stream_id: String,
    /// Readings the agent made durable or counted as dropped.
    pub produced: u64,
    /// Readings stored, `pending_fold` included.
    pub stored: u64,
    /// Readings the agent still holds.
    pub spooled: u64,
    /// Readings that will never be stored, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Positive: lost; negative: stored twice.
    pub unexplained: i64,
    /// The last sequence that is durable here.
    pub durable_through: u64,
    /// Age of the oldest reading the agent still holds, by the sink's clock; 0 when it holds none.
    pub oldest_unacked_age_seconds: f64,
    /// Readings that are durable in the journal and not folded yet.
    pub pending_fold: u64,
    /// Age of the agent's last report; nothing when there was none.
    pub report_age_seconds: Option<f64>,
    /// Nothing follows in this stream.
    pub closed: bool,
    /// Ticks of the agent's sensors that never became readings: an upper bound.
    pub missed_ticks: u64,
}

/// Sums over lines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Lines.
    pub streams: u64,
    /// See [`Line`].
    pub produced: u64,
    /// See [`Line`].
    pub stored: u64,
    /// See [`Line`].
    pub spooled: u64,
    /// Over all reasons.
    pub dropped: u64,
    /// Signed sum.
    pub unexplained: i64,
    /// Lines where it is not zero: two errors must not hide each other.
    pub unexplained_streams: u64,
    /// See [`Line`].
    pub pending_fold: u64,
    /// Readings of files whose loss was accepted; in `stored` as well.
    #[serde(default)]
    pub file_lost: u64,
}

/// What `GET /v1/files` answers: files that cannot be read as they were written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// Missing or damaged; queries that need one of them are refused.
    pub damaged: Vec<DamagedFile>,
    /// Those whose loss was accepted.
    pub lost: Vec<FileLost>,
}

/// A file that is missing or damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedFile {
    /// As errors name it.
    pub file: String,
    /// Readings it should hold.
    pub readings: u64,
    /// What is wrong with it.
    pub why: String,
}

/// A file whose loss was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLost {
    /// As errors named it.
    pub file: String,
    /// Whose readings.
    pub tenant: String,
    /// How many it held: dropped(file_lost).
    pub readings: u64,
    /// When, in Unix nanoseconds.
    pub accepted_at_ns: i64,
}

/// What `POST /v1/ledger/settle` answers: the streams that were given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUp {
    /// One object per stream.
    pub streams: Vec<GivenUpStream>,
}

/// A stream whose rest counts as lost from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUpStream {
    /// Who sent it.
    pub agent: String,
    /// 32 hex digits.
    pub stream_id: String,
    /// Readings that are `dropped(spool_lost)` now.
    pub readings: u64,
}

/// What `GET /v1/ledger` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// One object per stream.
    pub streams: Vec<Line>,
    /// Their sums.
    pub totals: Totals,
    /// Readings that are gone with a file, by file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub file_lost: Vec<FileLost>,
    /// Rows counted in the files, where asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<Vec<Audit>>,
}

/// Rows of one tenant, counted from both ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Whose rows.
    pub tenant: String,
    /// What the streams say was written to files.
    pub stored: u64,
    /// What the files hold.
    pub in_files: u64,
    /// What retention removed.
    pub expired: u64,
    /// What was in files whose loss was accepted.
    #[serde(default)]
    pub lost: u64,
    /// Rows that should be in files and are not, or are there twice.
    pub unexplained: i64,
    /// Files that are missing, unreadable or changed, or hold another count than the catalog says.
    pub faults: Vec<String>,
}

impl Line {
    /// Readings its agent held when the spool was lost; in `dropped` as well.
    pub fn spool_lost(&self) -> u64 {
        self.dropped.get(SPOOL_LOST).copied().unwrap_or(0)
    }

    /// Over all reasons.
    pub fn dropped_total(&self) -> u64 {
        self.dropped
            .values()
            .fold(0, |sum, n| sum.saturating_add(*n))
    }
}

impl Ledger {
    /// Lines and their sums.
    pub fn new(streams: Vec<Line>) -> Self {
        // What agents report is theirs to say: sums of it stop at the end of their type.
        let mut totals = Totals::default();
        for line in &streams {
            totals.streams += 1;
            totals.produced = totals.produced.saturating_add(line.produced);
            totals.stored = totals.stored.saturating_add(line.stored);
            totals.spooled = totals.spooled.saturating_add(line.spooled);
            totals.dropped = totals.dropped.saturating_add(line.dropped_total());
            totals.unexplained = totals.unexplained.saturating_add(line.unexplained);
            totals.unexplained_streams += u64::from(line.unexplained != 0);
            totals.pending_fold = totals.pending_fold.saturating_add(line.pending_fold);
        }
        Self {
            streams,
            totals,
            file_lost: Vec::new(),
            audit: None,
        }
    }

    /// With what is gone with files.
    pub fn without(mut self, lost: Vec<FileLost>) -> Self {
        let readings = lost.iter().map(|one| one.readings);
        self.totals.file_lost = readings.fold(0, u64::saturating_add);
        self.file_lost = lost;
        self
    }
}

/// Puts both views together. `folded` must have been taken before `streams`, so that ingest is
/// the one that is ahead.
pub fn lines(folded: Vec<StreamLedger>, streams: &[StreamView], now_ns: i64) -> Vec<Line> {
    let key = |ledger: &StreamLedger| StreamKey {
        tenant: Arc::clone(&ledger.tenant),
        id: ledger.stream_id,
    };
    let mut folded: HashMap<StreamKey, StreamLedger> = folded
        .into_iter()
        .map(|ledger| (key(&ledger), ledger))
        .collect();
    let mut lines: Vec<Line> = streams
        .iter()
        .map(|view| line(view, folded.remove(&view.key), now_ns))
        .collect();
    lines.sort_unstable_by(|a, b| name(a).cmp(&name(b)));
    lines
}

fn name(line: &Line) -> [&str; 3] {
    [&line.tenant, &line.agent, &line.stream_id]
}

fn line(view: &StreamView, folded: Option<StreamLedger>, now_ns: i64) -> Line {
    let tenant = view.key.tenant.to_string();
    // Whose it is stays so, whoever delivers it now.
    let agent = match &folded {
        Some(folded) => folded.agent.to_string(),
        None => view.seen.agent.clone(),
    };
    let folded = folded.unwrap_or_else(|| {
        StreamLedger::new(
            tenant.as_str().into(),
            agent.as_str().into(),
            view.key.id,
            0,
        )
    });
    // A record can be folded a moment before ingest notes its own append.
    let ingest_is_behind = folded.watermark > view.durable.sequence;
    let mut dropped = folded.dropped.clone();
    if !ingest_is_behind {
        for (name, count) in dropped_by_name(&view.durable) {
            dropped.insert(name.to_owned(), count);
        }
    }
    dropped.retain(|_, count| *count > 0);
    let total = |dropped: &BTreeMap<String, u64>| {
        dropped
            .values()
            .fold(0_u64, |sum, n| sum.saturating_add(*n))
    };
    let through = if ingest_is_behind {
        folded.readings_through
    } else {
        view.durable.readings_through
    };
    let newly_dropped = total(&dropped).saturating_sub(folded.dropped_total());
    let pending_fold = through
        .saturating_sub(folded.readings_through)
        .saturating_sub(newly_dropped);
    let report = view.seen.report;
    let reported = report.map_or(0, |(report, _)| report.produced);
    let produced = reported.max(through);
    let mut spooled = produced - through;
    // Of a stream that is closed the agent holds nothing, whatever it once reported.
    let is_lost = folded.lost_at_ns != 0 || view.closed;
    if is_lost && spooled > 0 {
        dropped.insert(SPOOL_LOST.to_owned(), std::mem::take(&mut spooled));
    }
    Line {
        tenant,
        agent,
        stream_id: view.key.id.to_string(),
        produced,
        stored: folded.stored.saturating_add(pending_fold),
        spooled,
        dropped,
        unexplained: folded.unexplained(),
        durable_through: view.durable.sequence.max(folded.watermark),
        oldest_unacked_age_seconds: match report {
            Some((report, _)) if spooled > 0 => unacked_age(&report, view, now_ns),
            _ => 0.0,
        },
        pending_fold,
        report_age_seconds: report.map(|(_, at_ns)| seconds(now_ns.saturating_sub(at_ns))),
        closed: view.closed,
        missed_ticks: report.map_or(0, |(report, _)| report.missed_ticks),
    }
}

fn dropped_by_name(mark: &Mark) -> impl Iterator<Item = (&'static str, u64)> {
    mark.dropped.iter().zip(0_i32..).map(|(count, number)| {
        let reason = v1::DropReason::try_from(number).unwrap_or_default();
        (drop_reason_name(reason), *count)
    })
}

/// The agent's observed time, moved to the sink's clock.
fn unacked_age(report: &v1::Report, view: &StreamView, now_ns: i64) -> f64 {
    if report.oldest_unacked_ns == 0 {
        return 0.0;
    }
    let observed = report
        .oldest_unacked_ns
        .saturating_add(view.seen.clock_offset_ns);
    seconds(now_ns.saturating_sub(observed))
}

/// To the millisecond; a clock that was set back does not make an age negative.
fn seconds(ns: i64) -> f64 {
    (ns.max(0) / 1_000_000) as f64 / 1000.0
}
