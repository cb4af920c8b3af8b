//! A checked batch becomes rows and latest values; its times are moved first, where they are.

use weir_proto::batch::Block;

use super::clocks::Verdict;
use super::rows::Quality;
use super::state::State;

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
    /// Appends checked blocks; answers their rows.
    pub(super) fn readings(&mut self, blocks: Vec<Block>, origin: Origin) -> u64 {
        let rows = blocks
            .into_iter()
            .map(|block| self.block(block, origin))
            .sum::<u64>();
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

    fn block(&mut self, mut block: Block, origin: Origin) -> u64 {
        if origin.verdict.shift_ns != 0 {
            for time in &mut block.times {
                *time = time.saturating_add(origin.verdict.shift_ns);
            }
        }
        let ascending = block.times.is_sorted();
        let mut rows = 0;
        let mut some = Vec::new();
        for column in block.columns {
            let series = self.streams[origin.stream as usize].refs[&column.series];
            let times = match &column.present {
                None => &block.times,
                Some(present) => {
                    some.clear();
                    let there = block.times.iter().zip(present).filter(|(_, there)| **there);
                    some.extend(there.map(|(time, _)| *time));
                    &some
                }
            };
            rows += times.len();
            self.latest
                .offer(series, times, &column.values, ascending, origin);
            self.current
                .push(series, times, column.values, ascending, origin);
        }
        rows as u64
    }
}
