//! What the sender remembers of one stream across reconnects.

use std::collections::BTreeSet;

use super::feed::swallows_definitions;
use super::window::Window;
use crate::ledger::{Fate, Piece};
use crate::spool::Stream;

/// How often one batch alone must end the call before it is held to be the cause.
const STRIKES: u32 = 2;

/// Whether the sink may lack definitions that were in what it does not have, and up to which sequence that
/// lay: only definitions sent behind it make up for it.
#[derive(Debug, Default)]
pub(crate) struct Due(Option<u64>);

impl Due {
    pub(crate) fn is_due(&self) -> bool {
        self.0.is_some()
    }

    /// They may have been in what the sink lacks through `sequence`.
    pub(crate) fn after(&mut self, sequence: u64) {
        self.0 = self.0.max(Some(sequence));
    }

    /// The sink has a Skip, or what it stands for.
    pub(crate) fn settled(&mut self, piece: &Piece) {
        if let Fate::Dropped(reason) = piece.fate
            && swallows_definitions(reason)
        {
            self.after(piece.through);
        }
    }

    /// All of them went out in front of the batch `at`, which the sink has.
    fn made_up_for(&mut self, at: u64) {
        self.0 = self.0.filter(|since| *since >= at);
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) stream_id: [u8; 16],
    pub(crate) window: Window,
    /// Batches in the dead-letter store whose Skip is not acknowledged: looked up at every Welcome.
    pub(crate) set_aside: BTreeSet<u64>,
    pub(crate) definitions_due: Due,
    /// Whether anything was acknowledged since the last failure.
    pub(crate) moved: bool,
    suspect: Option<(u64, u32)>,
}

/// What is remembered of streams that a lane has left for another for a while.
#[derive(Debug, Default)]
pub(crate) struct Left(Vec<Delivery>);

impl Left {
    /// Puts away what is known of a stream, and lets go of those that are not among `held` any more.
    pub(crate) fn keep(&mut self, delivery: Delivery, held: &[[u8; 16]]) {
        self.0.push(delivery);
        self.0.retain(|left| held.contains(&left.stream_id));
    }

    /// What is known of this one.
    pub(crate) fn take(&mut self, stream_id: [u8; 16]) -> Option<Delivery> {
        let at = self.0.iter().position(|left| left.stream_id == stream_id)?;
        Some(self.0.swap_remove(at))
    }
}

impl Delivery {
    /// At the beginning: for a stream of an earlier run, what the sink was told is not known.
    pub(crate) fn new(stream: &Stream) -> Delivery {
        Delivery {
            stream_id: stream.id,
            window: Window::default(),
            set_aside: BTreeSet::new(),
            definitions_due: Due((!stream.is_live()).then_some(0)),
            moved: false,
            suspect: None,
        }
    }

    /// Everything through this piece is settled. `defined_at`: the first batch after definitions.
    pub(crate) fn acked(&mut self, piece: &Piece, defined_at: Option<u64>) {
        let sequence = piece.through;
        self.moved = true;
        self.definitions_due.settled(piece);
        self.set_aside = self.set_aside.split_off(&(sequence + 1));
        if let Some(defined_at) = defined_at.filter(|defined_at| *defined_at <= sequence) {
            self.definitions_due.made_up_for(defined_at);
        }
        if self.suspect.is_some_and(|(suspect, _)| suspect <= sequence) {
            self.suspect = None;
        }
    }

    /// The call ended in a way that one of the batches outstanding may have caused. From now on one
    /// batch at a time; names the batch that did it alone, twice.
    pub(crate) fn suspect(&mut self) -> Option<u64> {
        let front = self.window.front()?.from;
        let back = self.window.back()?.through;
        self.window.single_step_through(back);
        if front != back {
            return None;
        }
        let strikes = match self.suspect {
            Some((suspect, strikes)) if suspect == front => strikes + 1,
            _ => 1,
        };
        self.suspect = Some((front, strikes));
        (strikes >= STRIKES).then_some(front)
    }
}

#[cfg(test)]
mod tests {
    use weir_proto::v1::DropReason;

    use super::*;

    fn piece(from: u64, through: u64, fate: Fate) -> Piece {
        Piece {
            from,
            through,
            readings_before: from - 1,
            readings: through + 1 - from,
            fate,
        }
    }

    fn hole(from: u64, through: u64) -> Piece {
        piece(from, through, Fate::Dropped(DropReason::SpoolOldest))
    }

    fn batch(sequence: u64) -> Piece {
        piece(sequence, sequence, Fate::Stored { crc: 1 })
    }

    /// Of a live stream, whose definitions the sink was sent.
    fn live() -> Delivery {
        Delivery {
            stream_id: [1; 16],
            window: Window::default(),
            set_aside: BTreeSet::new(),
            definitions_due: Due::default(),
            moved: false,
            suspect: None,
        }
    }

    /// Mutation: a lane that forgets what it leaves sends the next batch without what defines its series.
    #[test]
    fn what_a_lane_leaves_it_knows_when_it_comes_back() {
        let held = [[1; 16], [2; 16]];
        let mut delivery = live();
        delivery.acked(&hole(1, 1), None);
        let mut left = Left::default();
        left.keep(delivery, &held);
        assert!(left.take([2; 16]).is_none());
        let back = left.take([1; 16]).expect("it was kept");
        assert!(back.definitions_due.is_due());
        assert!(left.take([1; 16]).is_none());
        left.keep(back, &held[1..]);
        assert!(left.take([1; 16]).is_none(), "its stream is gone");
    }

    /// Mutations: a Skip that is acknowledged asks for nothing; definitions sent before a hole make up for it.
    #[test]
    fn definitions_are_due_after_a_hole_until_some_were_sent_behind_it() {
        let mut delivery = live();
        delivery.acked(&piece(1, 1, Fate::Dropped(DropReason::SpoolNewest)), None);
        assert!(!delivery.definitions_due.is_due());
        delivery.acked(&hole(2, 5), None);
        assert!(delivery.definitions_due.is_due());
        delivery.acked(&batch(6), Some(6));
        assert!(!delivery.definitions_due.is_due());
        delivery.acked(&hole(7, 8), Some(6));
        delivery.acked(&batch(9), Some(6));
        assert!(delivery.definitions_due.is_due());
        delivery.acked(&batch(10), Some(10));
        assert!(!delivery.definitions_due.is_due());
    }
}
