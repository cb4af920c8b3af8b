//! A checked batch becomes rows and latest values; its times are moved first, where they are.

use weir_fault::{Trap, trap};
use weir_proto::batch::Readings;

use super::clocks::Verdict;
use super::rows::Quality;
use super::state::State;
use crate::model::SERIES_LIMIT;

/// Where readings came from, and what their times are worth.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    /// Number of the stream.
    pub(crate) stream: u32,
    /// Of the batch.
    pub(crate) sequence: u64,
    /// By the sink's clock.
    pub(crate) received_ns: i64,
    /// For every time of the batch.
    pub(crate) verdict: Verdict,
}

impl State {
    /// Appends checked readings; answers their rows.
    pub(super) fn readings(&mut self, mut readings: Readings, origin: Origin) -> u64 {
        shift(&mut readings, origin.verdict.shift_ns);
        let (rows, unwanted) = self.columns(readings, origin);
        self.drop_readings(origin.stream, SERIES_LIMIT, unwanted);
        self.streams[origin.stream as usize].ledger.stored += rows;
        self.counts.rows += rows;
        match origin.verdict.quality {
            Quality::Ok => {}
            Quality::Rebased => self.counts.rebased += rows,
            Quality::Suspect => self.counts.suspect += rows,
            Quality::Unknown => self.counts.unknown += rows,
        }
        rows
    }

    /// Answers the rows, and the readings of series beyond a limit.
    fn columns(&mut self, mut readings: Readings, origin: Origin) -> (u64, u64) {
        let refs = &self.streams[origin.stream as usize].refs;
        let (mut rows, mut unwanted) = (0, 0);
        let mut some = Vec::new();
        // Columns of one block share their times.
        let mut sorted = (std::ptr::null(), true);
        readings.take(|column| {
            let target = refs.get(column.series).expect("checked before");
            if sorted.0 != column.times.as_ptr() {
                sorted = (column.times.as_ptr(), column.times.is_sorted());
            }
            let ascending = sorted.1;
            let times = match column.present {
                None => column.times,
                Some(present) => {
                    some.clear();
                    let there = column
                        .times
                        .iter()
                        .zip(present)
                        .filter(|(_, there)| **there);
                    some.extend(there.map(|(time, _)| *time));
                    &some[..]
                }
            };
            if target.unwanted {
                unwanted += times.len();
                return;
            }
            rows += times.len();
            self.latest
                .offer(target.series, times, &column.values, ascending, origin);
            self.current
                .push(target.series, times, column.values, ascending, origin);
            trap(Trap::FoldRow, &self.series.key(target.series).device);
        });
        (rows as u64, unwanted as u64)
    }
}

/// Moves every time of a batch.
pub(super) fn shift(readings: &mut Readings, by_ns: i64) {
    if by_ns != 0 {
        for time in readings.times_mut() {
            *time = time.saturating_add(by_ns);
        }
    }
}
