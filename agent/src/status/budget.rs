//! What the report says of what is used up.

use serde::{Deserialize, Serialize};

use super::Sources;
use super::report::whole_seconds;
use super::spool::Spool;
use crate::budget::Use;

/// What is used up, and what of it is limited.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Budget {
    /// Seconds until the spool is full at the growth of the last minute; null while what waits does not grow.
    spool_full_seconds: Option<f64>,
    /// Blocks of 4096 bytes written to the disk, and one per sync.
    flash: Used,
    /// Bytes to and from the sink, without TCP and IP.
    wire: Used,
    /// How long a reading may wait for its batch to leave, now.
    batch_age_seconds: f64,
    /// How long a batch may wait for its commit, now.
    commit_interval_seconds: f64,
    /// How often a budget changed one of these.
    changes: u64,
    /// What `loss_bound_seconds` may become where a budget lengthens the waits.
    longest_loss_bound_seconds: f64,
}

/// One thing that is used up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Used {
    /// Since the start.
    bytes: u64,
    /// What the last ten minutes at most would make in a day; null while nobody knows.
    bytes_per_day: Option<f64>,
    /// Null for no limit.
    limit_bytes_per_day: Option<u64>,
    /// Even the longest waits do not keep it within its limit.
    exceeded: bool,
}

impl Budget {
    /// As things are now.
    pub(super) fn of(sources: &Sources) -> Self {
        let seen = *sources.budget.borrow();
        Self {
            spool_full_seconds: seen.spool_full_seconds,
            flash: used(&seen.flash),
            wire: used(&seen.wire),
            batch_age_seconds: sources.age.get().as_secs_f64(),
            commit_interval_seconds: sources.spool.commit_interval().as_secs_f64(),
            changes: seen.changes,
            longest_loss_bound_seconds: sources.config.longest_loss_bound().as_secs_f64(),
        }
    }

    /// Readings of so many seconds can be lost now: also while a full disk makes batches wait longer.
    pub(super) fn loss_bound_seconds(&self, spool: &Spool) -> f64 {
        let commit = self.commit_interval_seconds;
        self.batch_age_seconds + commit + spool.beyond(commit)
    }

    /// When the spool is full, as the end of a sentence.
    pub(super) fn until_full(&self) -> String {
        match self.spool_full_seconds {
            None => "not filling up".to_owned(),
            Some(0.0) => "full".to_owned(),
            Some(seconds) => format!("full in {}", whole_seconds(seconds)),
        }
    }

    /// What can be lost now, as the end of a sentence.
    pub(super) fn loss(&self, spool: &Spool) -> String {
        let Self {
            batch_age_seconds: age,
            commit_interval_seconds: commit,
            ..
        } = self;
        let bound = (self.loss_bound_seconds(spool) * 1000.0).round() / 1000.0;
        format!(
            "at most {bound} s of readings, if this machine died now: batches wait {age} s, commits {commit} s{}",
            spool.held_up().unwrap_or_default()
        )
    }

    /// What goes to the disk, for people.
    pub(super) fn flash(&self) -> String {
        self.flash.to_text("written")
    }

    /// What goes over the wire, for people.
    pub(super) fn wire(&self) -> String {
        self.wire.to_text("sent and received")
    }
}

impl Used {
    fn to_text(&self, done: &str) -> String {
        let mut text = format!("{} {done}", size(self.bytes));
        match self.bytes_per_day {
            Some(per_day) => text += &format!(", {} a day", size(per_day as u64)),
            None => text += ", a day unknown yet",
        }
        if let Some(limit) = self.limit_bytes_per_day {
            text += &format!(" of {} allowed", size(limit));
        }
        if self.exceeded {
            text += ": exceeded, and no longer wait helps";
        }
        text
    }
}

fn used(seen: &Use) -> Used {
    Used {
        bytes: seen.bytes,
        bytes_per_day: seen.per_day,
        limit_bytes_per_day: (seen.limit > 0).then_some(seen.limit),
        exceeded: seen.exceeded,
    }
}

/// Bytes as people write them, in powers of a thousand like the limits of most tariffs and data sheets.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return match unit {
                "B" => format!("{bytes} B"),
                _ => format!("{value:.1} {unit}"),
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}
