//! Records that end in a program error, every time: found, set aside with exact counts, so that what
//! comes after them is folded and the sink does not stand still for ever.
//!
//! A record that panics while it is folded is known by its number. A flush that panics, or whose file
//! cannot be made, is known by its records only. In both cases the fold begins anew at the catalog's
//! position, from the journal, which still has everything:
//!
//! | what failed | from there on |
//! |---|---|
//! | record `n` | is set aside when it comes again |
//! | a flush of the records through `n` | each of them is written to a file of its own first, for nothing; one that cannot be is set aside |
//! | the same again: all can be written, but not together | they are flushed one by one |
//!
//! Until it is back where it was, queries miss the rows that are folded again; the ledger has them as
//! pending.
//!
//! Nothing of this is remembered over a restart, and need not be: what led to it is still in the
//! journal and leads to it again, or is behind the committed position.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use weir_proto::batch::Readings;

use super::buffers::Buffers;
use super::prepare::Content;
use super::readings::{Origin, shift};
use super::rows::SeriesRows;
use super::state::State;
use crate::catalog::StreamLedger;
use crate::writer::{self, Provenance};

/// What must be taken with care.
#[derive(Debug, Default, Clone)]
pub(crate) struct Caution {
    /// What folding these records ended in.
    poison: BTreeMap<u64, String>,
    /// Each record through this one is tried by itself.
    tried_through: u64,
    /// Each record through this one is flushed by itself.
    alone_through: u64,
}

/// Where the stream of a batch stood before it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Underway {
    stream: u32,
    watermark: u64,
    last_crc: u32,
    readings_through: u64,
    stored: u64,
}

impl Underway {
    pub(super) fn new(stream: u32, ledger: &StreamLedger) -> Self {
        Self {
            stream,
            watermark: ledger.watermark,
            last_crc: ledger.last_crc,
            readings_through: ledger.readings_through,
            stored: ledger.stored,
        }
    }
}

impl Caution {
    /// Folding this record panicked. False when it did so although it was set aside: nothing more can be done.
    pub(super) fn poison(&mut self, number: u64, error: String) -> bool {
        self.poison.insert(number, error).is_none()
    }

    /// A flush of the records through `through` cannot be done. False when each was flushed by itself.
    pub(super) fn refuse_flush(&mut self, through: u64) -> bool {
        let goes_on = self.alone_through < through;
        if self.tried_through >= through {
            self.alone_through = through;
        }
        self.tried_through = self.tried_through.max(through);
        goes_on
    }

    /// Whether the record after `position` goes into a flush without others.
    pub(super) fn is_alone(&self, position: u64) -> bool {
        position < self.alone_through
    }

    /// What is left of a record that is known to end in an error: counts, and what later ones refer to.
    pub(super) fn defused(&self, number: u64, content: Content) -> Content {
        let Some(error) = self.poison.get(&number) else {
            return content;
        };
        match content {
            Content::Batch {
                header, defined, ..
            } => Content::Batch {
                header,
                defined,
                readings: Err(error.clone()),
            },
            _ => Content::Unreadable(error.clone()),
        }
    }
}

impl State {
    /// Until the fold begins anew nobody sees a record of which half was taken in: its stream stands as before
    /// it, and no row is shown that is not in a file.
    pub(super) fn abandon(&mut self) {
        self.current = Buffers::default();
        self.version += 1;
        if let Some(before) = self.underway.take() {
            let ledger = &mut self.streams[before.stream as usize].ledger;
            ledger.watermark = before.watermark;
            ledger.last_crc = before.last_crc;
            ledger.readings_through = before.readings_through;
            ledger.stored = before.stored;
        }
    }

    /// Writes a checked batch to files that nobody keeps, where that has to be known first.
    pub(super) fn try_out(
        &self,
        number: u64,
        readings: &Readings,
        origin: Origin,
    ) -> Result<(), String> {
        if number > self.caution.tried_through {
            return Ok(());
        }
        let refs = &self.streams[origin.stream as usize].refs;
        let attempt = catch_unwind(AssertUnwindSafe(|| {
            let mut readings = readings.clone();
            shift(&mut readings, origin.verdict.shift_ns);
            let mut buffers = Buffers::default();
            readings.take(|column| {
                let target = refs.get(column.series).expect("checked before");
                if target.unwanted {
                    return;
                }
                let times = match column.present {
                    None => column.times.to_vec(),
                    Some(present) => picked(column.times, present),
                };
                let ascending = times.is_sorted();
                buffers.push(target.series, &times, column.values, ascending, origin);
            });
            let rows = (0u32..).zip(buffers.rows);
            let rows: Vec<SeriesRows> = rows
                .filter(|(_, rows)| !rows.is_empty())
                .map(|(number, rows)| SeriesRows {
                    key: Arc::clone(self.series.key(number)),
                    rows,
                })
                .collect();
            let provenance = Provenance {
                journal_id: self.journal_id,
                from: number - 1,
                through: number,
                streams: Vec::new(),
            };
            let rows: Vec<&SeriesRows> = rows.iter().collect();
            writer::write_by_day(&rows, &provenance, || "trial".to_owned())
        }));
        match attempt {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("cannot be written: {error}")),
            Err(panic) => Err(panic_text(&*panic)),
        }
    }
}

fn picked(times: &[i64], present: &[bool]) -> Vec<i64> {
    let there = times.iter().zip(present).filter(|(_, there)| **there);
    there.map(|(time, _)| *time).collect()
}

pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned());
    format!(
        "panic: {}",
        text.unwrap_or_else(|| "without a message".into())
    )
}
