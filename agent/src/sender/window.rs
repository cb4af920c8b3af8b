//! What is on the wire and not acknowledged yet.
//!
//! In: what was sent, what was acknowledged, the sink's window in bytes. Out: whether more may be
//! sent, and the pieces an acknowledgement settles. Promises: one batch may always be outstanding,
//! whatever the window says; a Skip takes no room; pieces are contiguous and settle in order.

use std::collections::VecDeque;

use crate::ledger::{Fate, Piece};

#[cfg(test)]
mod tests;

/// One sent record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sent {
    piece: Piece,
    bytes: u64,
    first_ns: i64,
}

/// The unacknowledged part of one stream. Survives a reconnect, so that a Welcome can settle what
/// the sink had already stored.
#[derive(Debug, Default)]
pub(crate) struct Window {
    limit_bytes: u64,
    /// One batch at a time: set while the cause of a failure is looked for.
    single_through: u64,
    sent: VecDeque<Sent>,
    outstanding_bytes: u64,
}

impl Window {
    /// Takes the sink's latest limit.
    pub(crate) fn set_limit(&mut self, limit_bytes: u64) {
        self.limit_bytes = limit_bytes;
    }

    /// The sink's latest limit.
    pub(crate) fn limit(&self) -> u64 {
        self.limit_bytes
    }

    /// From now on one batch at a time, until everything through `sequence` is acknowledged.
    pub(crate) fn single_step_through(&mut self, sequence: u64) {
        self.single_through = self.single_through.max(sequence);
    }

    /// Whether batches go one at a time.
    pub(crate) fn is_single_step(&self, next: u64) -> bool {
        next <= self.single_through
    }

    /// Whether a batch of `bytes` with this sequence may be sent now.
    pub(crate) fn admits(&self, sequence: u64, bytes: u64) -> bool {
        if self.outstanding_bytes == 0 {
            return true;
        }
        !self.is_single_step(sequence) && self.outstanding_bytes + bytes <= self.limit_bytes
    }

    /// Notes what was sent; for a Skip, `bytes` and the first reading's time are 0.
    pub(crate) fn push(&mut self, piece: Piece, bytes: u64, first_ns: i64) {
        self.outstanding_bytes += bytes;
        let sent = Sent {
            piece,
            bytes,
            first_ns,
        };
        self.sent.push_back(sent);
    }

    /// Observed time of the oldest reading outstanding; 0 when none is.
    pub(crate) fn oldest_ns(&self) -> i64 {
        let times = self.sent.iter().map(|sent| sent.first_ns);
        times.into_iter().find(|ns| *ns != 0).unwrap_or(0)
    }

    /// Takes the next piece that `durable_through` covers, oldest first, with its bytes.
    pub(crate) fn pop_through(&mut self, durable_through: u64) -> Option<(Piece, u64)> {
        let front = self.sent.front()?;
        if front.piece.through > durable_through {
            return None;
        }
        let sent = self.sent.pop_front()?;
        self.outstanding_bytes -= sent.bytes;
        Some((sent.piece, sent.bytes))
    }

    /// Forgets everything sent from `sequence` on: the sink discards it.
    pub(crate) fn forget_from(&mut self, sequence: u64) {
        while let Some(back) = self.sent.back() {
            if back.piece.through < sequence {
                break;
            }
            self.outstanding_bytes -= back.bytes;
            self.sent.pop_back();
        }
    }

    /// Whether a batch with this sequence was sent and is not acknowledged.
    pub(crate) fn has_batch(&self, sequence: u64) -> bool {
        let is_it =
            |piece: &Piece| piece.from == sequence && matches!(piece.fate, Fate::Stored { .. });
        self.sent.iter().any(|sent| is_it(&sent.piece))
    }

    /// The oldest unacknowledged piece.
    pub(crate) fn front(&self) -> Option<&Piece> {
        self.sent.front().map(|sent| &sent.piece)
    }

    /// The newest unacknowledged piece.
    pub(crate) fn back(&self) -> Option<&Piece> {
        self.sent.back().map(|sent| &sent.piece)
    }

    /// Whether nothing is outstanding.
    pub(crate) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Payload bytes outstanding.
    pub(crate) fn outstanding_bytes(&self) -> u64 {
        self.outstanding_bytes
    }
}
