//! Getting the next record: from ingest if it handed it over, from the journal otherwise.

use std::sync::Arc;

use weir_journal::{Item, Journal, ReadError, Reader};

use super::prepare::{self, Content};
use super::{Arrival, FoldConfig, Shared};

/// Readings folded before the loop looks around.
const HELPING_ROWS: u64 = 256 << 10;

/// Records folded before the loop looks around.
const HELPING_RECORDS: usize = 4096;

/// How a helping ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pulled {
    /// There may be more right away.
    More,
    /// Nothing more is durable, the buffer is full, or a flush is due.
    Done,
    /// The journal cannot be read.
    Failed(String),
}

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

    /// Folds one helping of durable records.
    pub(super) fn pull(&mut self) -> Pulled {
        let durable = self.journal.progress().borrow().durable_through;
        let began = self.shared.state().counts.rows;
        for _ in 0..HELPING_RECORDS {
            let (next, rows) = {
                let state = self.shared.state();
                let waits_for_flush = !state.frozen.is_empty();
                let enough = state.current.row_count >= self.flush_rows && !waits_for_flush;
                if state.is_full(self.max_buffer_bytes) || enough {
                    return Pulled::Done;
                }
                (state.position + 1, state.counts.rows)
            };
            if next > durable {
                return Pulled::Done;
            }
            if rows - began >= HELPING_ROWS {
                return Pulled::More;
            }
            match self.one(next) {
                Ok(true) => {}
                Ok(false) => return Pulled::Done,
                Err(error) => return Pulled::Failed(error.to_string()),
            }
        }
        Pulled::More
    }

    /// Folds record `next`; answers false when it cannot be had now.
    fn one(&mut self, next: u64) -> Result<bool, ReadError> {
        match self.shared.intake.take(next) {
            Some(arrival) => {
                self.fold(arrival);
                Ok(true)
            }
            None => self.read(next),
        }
    }

    fn read(&mut self, next: u64) -> Result<bool, ReadError> {
        let mut reader = match self.reader.take() {
            Some((at, reader)) if at == next => reader,
            _ => self.journal.reader(next),
        };
        loop {
            match reader.next()? {
                Some(Item::Record { number, kind, body }) => {
                    self.reader = Some((number + 1, reader));
                    self.take_in(number, kind, body);
                    return Ok(true);
                }
                Some(Item::Hole { from, through }) => {
                    self.reader = Some((through + 1, reader));
                    self.shared.state().apply_hole(from.max(next), through);
                    return Ok(true);
                }
                Some(Item::Preamble { .. }) => {}
                None => return Ok(false),
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
