//! What the report says of the spool: how full it is, what waits in it, and what is not in it yet.

use serde::{Deserialize, Serialize};

use super::Sources;
use super::report::whole_seconds;
use crate::ledger::View;
use crate::sender::Drain;
use crate::spool::Cause;

/// What is on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Spool {
    path: String,
    bytes: u64,
    max_bytes: u64,
    /// What there is no room on: `disk`, or `limit` for `spool.max_bytes`; null while there is room.
    #[serde(default)]
    full: Option<String>,
    /// Readings that are batched and not on the disk yet.
    #[serde(default)]
    uncommitted_readings: u64,
    /// For how long the oldest of them have waited for that; 0 where none do.
    #[serde(default)]
    uncommitted_seconds: f64,
}

/// What waits for the sink, and until when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Backlog {
    /// Committed and not acknowledged, over all streams.
    readings: u64,
    /// What they take on disk, nearly.
    bytes: u64,
    /// By how much they became fewer in the last 30 s; negative while they become more.
    drain_readings_per_second: f64,
    /// At that rate; null while they do not become fewer.
    drain_seconds: Option<f64>,
}

impl Spool {
    /// As things are now.
    pub(super) fn of(sources: &Sources, view: &View) -> Self {
        let (uncommitted_readings, since) = sources.spool.in_memory();
        let full = sources.spool.pressure().map(|cause| match cause {
            Cause::Disk => "disk",
            Cause::Limit => "limit",
        });
        Self {
            path: sources.config.spool.data_dir.display().to_string(),
            bytes: view.spool_bytes,
            max_bytes: view.spool_max_bytes,
            full: full.map(str::to_owned),
            uncommitted_readings,
            uncommitted_seconds: since.map_or(0.0, |since| since.elapsed().as_secs_f64()),
        }
    }

    /// For people; `otherwise` says when it is full, where it is not.
    pub(super) fn to_text(&self, otherwise: String) -> String {
        let full = match self.full.as_deref() {
            None => otherwise,
            Some("disk") => "the disk is full".to_owned(),
            Some(_) => "full".to_owned(),
        };
        let Self {
            path,
            bytes,
            max_bytes,
            ..
        } = self;
        format!("{path}, {bytes} of {max_bytes} bytes, {full}")
    }

    /// By how much what is batched has waited longer for its commit than commits take now; a disk may take its time.
    pub(super) fn beyond(&self, commit_seconds: f64) -> f64 {
        const A_SYNC: f64 = 1.0;
        let beyond = self.uncommitted_seconds - commit_seconds;
        if beyond > A_SYNC { beyond } else { 0.0 }
    }

    /// What is in memory because there is no room, as the end of a sentence.
    pub(super) fn held_up(&self) -> Option<String> {
        let is_held_up = self.full.is_some() && self.uncommitted_readings > 0;
        is_held_up.then(|| {
            format!(
                "; {} readings have waited in memory for {:.1} s: there is no room for them",
                self.uncommitted_readings, self.uncommitted_seconds
            )
        })
    }
}

impl Backlog {
    /// As the sender sees it.
    pub(super) fn of(drain: &Drain) -> Self {
        Self {
            readings: drain.readings,
            bytes: drain.bytes,
            drain_readings_per_second: drain.readings_per_second,
            drain_seconds: drain.seconds,
        }
    }

    /// For people.
    pub(super) fn to_text(&self) -> String {
        let Self {
            readings, bytes, ..
        } = self;
        let until = match self.drain_seconds {
            _ if *readings == 0 => "nothing waits".to_owned(),
            Some(0.0) => "on their way".to_owned(),
            Some(seconds) => format!(
                "{:.0} fewer each second, gone in {}",
                self.drain_readings_per_second,
                whole_seconds(seconds)
            ),
            None => "not becoming fewer".to_owned(),
        };
        format!("{readings} readings, {bytes} bytes: {until}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(full: Option<&str>, readings: u64, seconds: f64) -> Spool {
        Spool {
            path: "data".to_owned(),
            bytes: 5,
            max_bytes: 10,
            full: full.map(str::to_owned),
            uncommitted_readings: readings,
            uncommitted_seconds: seconds,
        }
    }

    /// Mutations: a full disk that is "not filling up"; a bound that stays what it is while batches wait in memory.
    #[test]
    fn a_full_disk_is_called_so_and_what_waits_in_memory_counts() {
        let fine = held(None, 10, 0.3);
        assert_eq!(
            fine.to_text("not filling up".to_owned()),
            "data, 5 of 10 bytes, not filling up"
        );
        assert_eq!((fine.beyond(1.0), fine.held_up()), (0.0, None));
        let full = held(Some("disk"), 80, 15.0);
        assert_eq!(
            full.to_text("not filling up".to_owned()),
            "data, 5 of 10 bytes, the disk is full"
        );
        assert_eq!(full.beyond(1.0), 14.0);
        assert!(
            full.held_up()
                .is_some_and(|text| text.contains("80 readings"))
        );
    }

    #[test]
    fn an_empty_backlog_is_not_on_its_way() {
        let backlog = |readings, seconds| {
            let drain = Drain {
                readings,
                seconds,
                ..Drain::default()
            };
            Backlog::of(&drain).to_text()
        };
        assert!(backlog(0, Some(0.0)).ends_with("nothing waits"));
        assert!(backlog(3, Some(0.0)).ends_with("on their way"));
        assert!(backlog(3, None).ends_with("not becoming fewer"));
    }
}
