//! The books of a stream: what the sink has of it, what is durable, and what of that is noted in its state file.

use weir_proto::limits::MAX_BATCH_READINGS;

use super::directory::hex;
use super::stream::{Ledger, Stream};
use super::{SpoolError, dropping};
use crate::ledger::{Account, Books, Dropped, Piece, Settled, StreamView};

/// Readings that were dropped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost {
    pub(super) readings: u64,
    /// The Skip that says so.
    pub(super) told_at: Option<u64>,
}

impl Lost {
    fn is_told(self, durable_through: u64) -> bool {
        self.told_at
            .is_some_and(|told_at| told_at <= durable_through)
    }
}

impl Stream {
    /// Books what the sink acknowledged.
    pub(crate) fn settle(&self, piece: &Piece, bytes: u64) -> Settled {
        let mut ledger = self.lock();
        ledger.releasable_bytes += bytes;
        ledger.state.account.settle(piece)
    }

    /// Takes the sink's books over: see [`Account::adopt`].
    pub(crate) fn adopt(&self, at: (u64, u32), readings: u64, dropped: Dropped) {
        self.lock().state.account.adopt(at, readings, dropped);
    }

    /// Notes, now and then, how far the stream is durable: what is missing behind that at the next start
    /// was lost, and is counted.
    pub(crate) fn note_progress(&self) -> Result<(), SpoolError> {
        let mut ledger = self.lock();
        self.refresh(&mut ledger);
        if ledger.durable_through == ledger.state.known_through {
            return Ok(());
        }
        self.checkpoint_locked(&mut ledger)
    }

    /// Notes how many readings were dropped and are in no record, for a kill before there is room for one. The state has
    /// its place on the disk already.
    pub(crate) fn note_lost(&self, readings: u64) -> Result<(), SpoolError> {
        let mut ledger = self.lock();
        if ledger.lost.map_or(0, |lost| lost.readings) == readings {
            return Ok(());
        }
        ledger.state.ends_lost = false;
        ledger.lost = (readings > 0).then_some(Lost {
            readings,
            told_at: None,
        });
        self.checkpoint_locked(&mut ledger)
    }

    /// Makes the books durable: what was acknowledged, and the count at the end of the stream.
    pub(crate) fn checkpoint(&self) -> Result<(), SpoolError> {
        self.checkpoint_locked(&mut self.lock())
    }

    pub(super) fn checkpoint_locked(&self, ledger: &mut Ledger) -> Result<(), SpoolError> {
        self.refresh(ledger);
        if let Some(lost) = ledger.lost {
            ledger.lost = (!lost.is_told(ledger.durable_through)).then_some(lost);
            ledger.state.ends_lost = ledger.lost.is_some();
        }
        let lost = ledger.lost.map(|lost| lost.readings);
        ledger.state.known_through = ledger.durable_through + u64::from(lost.is_some());
        ledger.state.known_readings = ledger.durable_readings + lost.unwrap_or(0);
        let Ledger { file, state, .. } = ledger;
        file.write(state)
            .map_err(|source| self.io("write the state of", source))
    }

    /// Notes, durably, that a sink is about to hear of this stream.
    pub(crate) fn announce(&self) -> Result<(), SpoolError> {
        let mut ledger = self.lock();
        if ledger.state.announced {
            return Ok(());
        }
        ledger.state.announced = true;
        self.checkpoint_locked(&mut ledger)
    }

    /// Moves readings from refused to replayed, durably: they are in that stream now.
    pub(crate) fn book_replay(&self, into: [u8; 16], readings: u64) -> Result<(), SpoolError> {
        let mut ledger = self.lock();
        ledger.state.replayed += readings;
        ledger.state.replayed_into = into;
        self.checkpoint_locked(&mut ledger)
    }

    /// Takes that back, if it was booked: the stream with this id, in hex, never became whole.
    pub(crate) fn unbook_replay(&self, into: &str, readings: u64) -> Result<(), SpoolError> {
        let mut ledger = self.lock();
        if hex(&ledger.state.replayed_into) != into {
            return Ok(());
        }
        ledger.state.replayed = ledger.state.replayed.saturating_sub(readings);
        ledger.state.replayed_into = [0; 16];
        self.checkpoint_locked(&mut ledger)
    }

    /// Notes, durably, that this is a copy that is not whole yet: the next start removes it. `origin` is the
    /// stream it takes the place of, if any.
    pub(crate) fn begin_copy(&self, origin: Option<[u8; 16]>) -> Result<(), SpoolError> {
        let mut ledger = self.lock();
        ledger.state.partial = true;
        ledger.state.copied_from = origin;
        self.checkpoint_locked(&mut ledger)
    }

    /// Notes, durably, that the copy is whole: from here on the next start removes the other.
    pub(crate) fn end_copy(&self) -> Result<(), SpoolError> {
        let mut ledger = self.lock();
        ledger.state.partial = false;
        self.checkpoint_locked(&mut ledger)
    }

    /// The stream this one was copied from.
    pub(crate) fn copied_from(&self) -> Option<[u8; 16]> {
        self.lock().state.copied_from
    }

    /// Counts what the end of an earlier run had and cannot be read, once a sink says how much that was: it has
    /// `readings` of the stream through a sequence there. More than fits those batches is not believed.
    pub(crate) fn count_end(&self, through: u64, readings: u64) {
        let mut ledger = self.lock();
        let counted_through = ledger.durable_through - ledger.uncounted;
        if !(counted_through + 1..=ledger.durable_through).contains(&through) {
            return;
        }
        let batches = through - counted_through;
        let most = batches.saturating_mul(MAX_BATCH_READINGS as u64);
        let beyond = readings.saturating_sub(ledger.durable_readings);
        if beyond > 0 && beyond <= most {
            ledger.durable_readings = readings;
            ledger.appended_readings = readings;
            ledger.uncounted -= batches;
        }
    }

    /// What the sink acknowledged so far.
    pub(crate) fn account(&self) -> Account {
        self.lock().state.account.clone()
    }

    /// The stream's line of the ledger. Looks the oldest unacknowledged reading up on disk unless
    /// the caller knows its time.
    pub(crate) fn view(&self, oldest_unacked_ns: Option<i64>) -> StreamView {
        let mut ledger = self.lock();
        self.refresh(&mut ledger);
        let oldest_unacked_ns =
            oldest_unacked_ns.unwrap_or_else(|| self.oldest_unacked(&mut ledger));
        let given_up = self.is_given_up();
        let Ledger {
            dropping,
            state,
            durable_readings,
            ..
        } = &mut *ledger;
        let dropping = dropping::sum(dropping, state, given_up, *durable_readings);
        let books = Books {
            dropping,
            stream_id: self.id,
            live: self.is_live(),
            account: ledger.state.account.clone(),
            replayed: ledger.state.replayed,
            produced: ledger.durable_readings,
            oldest_unacked_ns,
            bytes: self.bytes(),
        };
        books.view()
    }

    /// Moves what the writer has committed from waiting to durable.
    pub(super) fn refresh(&self, ledger: &mut Ledger) {
        let committed = self.journal.progress().borrow().durable_through;
        while let Some((sequence, readings, _)) = ledger.waiting.front().copied() {
            if sequence > committed {
                break;
            }
            ledger.durable_through = sequence;
            ledger.durable_readings = readings;
            ledger.waiting.pop_front();
        }
    }
}
