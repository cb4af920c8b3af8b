//! Getting the next record: from ingest if it handed it over, from the journal otherwise.

use std::sync::Arc;

use weir_journal::{Item, Journal, Reader};

use super::prepare::{self, Content};
use super::{Arrival, FoldConfig, Shared};

/// Readings folded before the loop looks around.
const HELPING_ROWS: u64 = 256 << 10;

/// Records folded before the loop looks around.
const HELPING_RECORDS: usize = 4096;

pub(super) struct Puller {
    journal: Journal,
    shared: Arc<Shared>,
    /// A reader and the number it will give next.
    reader: Option<(u64, Reader)>,
    flush_rows: usize,
    max_buffer_bytes: usize,
}

impl Puller {
    pub(super) fn new(journal: Journal, shared: Arc<Shared>, config: &FoldConfig) -> Self {
        Self {
            journal,
            shared,
            reader: None,
            flush_rows: config.flush_rows,
            max_buffer_bytes: config.max_buffer_bytes,
        }
    }

    /// Folds durable records until there are none, the buffer is full or a flush is due.
    /// Answers whether there may be more to fold right away.
    pub(super) fn pull(&mut self) -> bool {
        let durable = self.journal.progress().borrow().durable_through;
        let began = self.shared.state().counts.rows;
        for _ in 0..HELPING_RECORDS {
            let (next, rows) = {
                let state = self.shared.state();
                let waits_for_flush = !state.frozen.is_empty();
                let enough = state.current.row_count >= self.flush_rows && !waits_for_flush;
                if state.is_full(self.max_buffer_bytes) || enough {
                    return false;
                }
                (state.position + 1, state.counts.rows)
            };
            if next > durable {
                return false;
            }
            if rows - began >= HELPING_ROWS {
                return true;
            }
            if !self.one(next) {
                return false;
            }
        }
        true
    }

    /// Folds record `next`; answers false when it cannot be had now.
    fn one(&mut self, next: u64) -> bool {
        match self.shared.intake.take(next) {
            Some(arrival) => self.fold(arrival),
            None => return self.read(next),
        }
        true
    }

    fn read(&mut self, next: u64) -> bool {
        let mut reader = match self.reader.take() {
            Some((at, reader)) if at == next => reader,
            _ => self.journal.reader(next),
        };
        loop {
            match reader.next() {
                Ok(Some(Item::Record { number, kind, body })) => {
                    self.reader = Some((number + 1, reader));
                    self.take_in(number, kind, body);
                    return true;
                }
                Ok(Some(Item::Hole { from, through })) => {
                    self.reader = Some((through + 1, reader));
                    self.shared.state().apply_hole(from.max(next), through);
                    return true;
                }
                Ok(Some(Item::Preamble { .. })) => {}
                Ok(None) => return false,
                Err(error) => {
                    tracing::error!(number = next, %error, "cannot read the journal");
                    return false;
                }
            }
        }
    }

    fn take_in(&self, number: u64, kind: u8, body: bytes::Bytes) {
        match prepare::arrival(number, kind, body.clone()) {
            Ok(arrival) => self.fold(arrival),
            Err(error) => self.shared.state().apply_unreadable(number, body, error),
        }
    }

    fn fold(&self, mut arrival: Arrival) {
        let known_through = self.shared.state().watermark(&arrival.envelope);
        let content: Content = prepare::content(&mut arrival, known_through);
        self.shared
            .state()
            .apply(arrival.number, &arrival.envelope, content);
    }
}
