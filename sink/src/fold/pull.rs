//! Getting the next record: from ingest if it handed it over, from the journal otherwise.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use weir_journal::{Item, Journal, ReadError, Reader};

use super::caution::panic_text;
use super::prepare::Content;
use super::state::State;
use super::{Arrival, FoldConfig, Parcel, Shared, prepare};
use crate::envelope::Envelope;
use crate::model::StreamKey;

/// Readings folded before the loop looks around.
const HELPING_ROWS: u64 = 256 << 10;

/// Records folded before the loop looks around.
const HELPING_RECORDS: u64 = 4096;

/// How a helping ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pulled {
    /// There may be more right away.
    More,
    /// Nothing more is durable, the buffer is full, or a flush is due.
    Done,
    /// The journal cannot be read: why.
    Failed(String),
    /// Folding this record panicked: what was fresh is gone from the state.
    Panicked(u64, String),
    /// The next record wants what this stream has defined.
    Missing(StreamKey),
}

/// Why a record was not folded.
enum Trouble {
    Read(ReadError),
    Panic(u64, String),
    Missing(StreamKey),
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

pub(super) struct Puller {
    journal: Journal,
    shared: Arc<Shared>,
    /// A reader and the number it will give next.
    reader: Option<(u64, Reader)>,
    /// What was taken from the intake and is not folded yet.
    parcel: Option<Parcel>,
    flush_rows: usize,
    max_buffer_bytes: usize,
}

/// Rows folded before those who want a look at the state get it.
const AT_ONCE_ROWS: u64 = 16 << 10;

/// Where a helping began, and how far it may go.
#[derive(Clone, Copy)]
struct Helping {
    rows: u64,
    records: u64,
    durable: u64,
}

impl Puller {
    pub(super) fn new(journal: Journal, shared: Arc<Shared>, config: &FoldConfig) -> Self {
        Self {
            journal,
            shared,
            reader: None,
            parcel: None,
            flush_rows: config.flush_rows,
            max_buffer_bytes: config.max_buffer_bytes,
        }
    }

    /// Folds one helping of durable records.
    pub(super) fn pull(&mut self) -> Pulled {
        let durable = self.journal.progress().borrow().durable_through;
        let counts = self.shared.state().counts;
        let helping = Helping {
            rows: counts.rows,
            records: counts.records,
            durable,
        };
        loop {
            let next = {
                let state = self.shared.state();
                if let Some(pulled) = self.pause(&state, helping) {
                    return pulled;
                }
                state.position + 1
            };
            match self.some(next, helping) {
                Ok(true) => {}
                Ok(false) => return Pulled::Done,
                Err(Trouble::Read(error)) => {
                    return Pulled::Failed(format!("cannot read the journal: {error}"));
                }
                Err(Trouble::Panic(number, error)) => return Pulled::Panicked(number, error),
                Err(Trouble::Missing(stream)) => return Pulled::Missing(stream),
            }
        }
    }

    /// Why the next record is not folded now, if it is not.
    fn pause(&self, state: &State, helping: Helping) -> Option<Pulled> {
        let waits_for_flush = !state.frozen.is_empty();
        let enough = match state.caution.is_alone(state.position) {
            true => waits_for_flush || !state.current.is_empty(),
            false => state.current.row_count >= self.flush_rows && !waits_for_flush,
        };
        if state.is_full(self.max_buffer_bytes) || enough || state.position >= helping.durable {
            return Some(Pulled::Done);
        }
        let helped = state.counts.rows - helping.rows >= HELPING_ROWS
            || state.counts.records - helping.records >= HELPING_RECORDS;
        helped.then_some(Pulled::More)
    }

    /// Folds record `next` and those that came with it; answers false when it cannot be had now.
    fn some(&mut self, next: u64, helping: Helping) -> Result<bool, Trouble> {
        let kept = self.parcel.take().filter(|kept| kept.number() == next);
        match kept.or_else(|| self.shared.intake.take(next)) {
            Some(parcel) => {
                self.parcel = self.fold_parcel(parcel, helping)?;
                Ok(true)
            }
            None => self.read(next),
        }
    }

    /// Folds what it may of a parcel, the first record at least; answers the rest.
    fn fold_parcel(&self, mut parcel: Parcel, helping: Helping) -> Result<Option<Parcel>, Trouble> {
        if !parcel.is_decoded() {
            // Decoding is not for those who hold the state.
            let Some((number, envelope, decoded)) = parcel.next() else {
                return Ok(None);
            };
            self.fold(Arrival {
                number,
                envelope: envelope.clone(),
                decoded,
            })?;
            return Ok((parcel.end() > parcel.number()).then_some(parcel));
        }
        let mut state = self.shared.state();
        let mut since = state.counts.rows;
        loop {
            let Some((number, envelope, decoded)) = parcel.next() else {
                return Ok(None);
            };
            let content = prepare::content(envelope, decoded, 0);
            if state.counts.rows - since >= AT_ONCE_ROWS {
                drop(state);
                state = self.shared.state();
                since = state.counts.rows;
            }
            apply(&mut state, number, envelope, content)?;
            if !parcel.is_decoded() || self.pause(&state, helping).is_some() {
                return Ok((parcel.end() > parcel.number()).then_some(parcel));
            }
        }
    }

    fn read(&mut self, next: u64) -> Result<bool, Trouble> {
        let mut reader = match self.reader.take() {
            Some((at, reader)) if at == next => reader,
            _ => self.journal.reader(next),
        };
        loop {
            match reader.next()? {
                Some(Item::Record { number, kind, body }) => {
                    self.reader = Some((number + 1, reader));
                    self.take_in(number, kind, body)?;
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

    fn take_in(&self, number: u64, kind: u8, body: bytes::Bytes) -> Result<(), Trouble> {
        match prepare::arrival(number, kind, body.clone()) {
            Ok(arrival) => self.fold(arrival)?,
            Err(error) => self.shared.state().apply_unreadable(number, body, error),
        }
        Ok(())
    }

    fn fold(&self, arrival: Arrival) -> Result<(), Trouble> {
        let Arrival {
            number,
            envelope,
            decoded,
        } = arrival;
        let known_through = self.shared.state().watermark(&envelope);
        let content = prepare::content(&envelope, decoded, known_through);
        apply(&mut self.shared.state(), number, &envelope, content)
    }
}

/// [`State::apply`], after which the state may be looked at in any case.
fn apply(
    state: &mut State,
    number: u64,
    envelope: &Envelope,
    content: Content,
) -> Result<(), Trouble> {
    // It is read from the journal once more when that is there.
    if let Some(stream) = state.missing(envelope, &content) {
        return Err(Trouble::Missing(stream));
    }
    state.underway = None;
    let applied = catch_unwind(AssertUnwindSafe(|| state.apply(number, envelope, content)));
    applied.map_err(|panic| {
        state.abandon();
        Trouble::Panic(number, panic_text(&*panic))
    })
}
