//! What the sender remembers of one stream across reconnects.

use std::collections::BTreeSet;

use super::window::Window;
use crate::spool::Stream;

/// How often one batch alone must end the call before it is held to be the cause.
const STRIKES: u32 = 2;

/// See the module.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) stream_id: [u8; 16],
    pub(crate) window: Window,
    /// Batches in the dead-letter store whose Skip is not acknowledged.
    pub(crate) set_aside: BTreeSet<u64>,
    /// The sink may lack definitions that were in what it does not have.
    pub(crate) definitions_due: bool,
    /// Whether anything was acknowledged since the last failure.
    pub(crate) moved: bool,
    suspect: Option<(u64, u32)>,
}

impl Delivery {
    /// At the beginning: for a stream of an earlier run, what the sink was told is not known.
    pub(crate) fn new(stream: &Stream) -> Delivery {
        Delivery {
            stream_id: stream.id,
            window: Window::default(),
            set_aside: BTreeSet::new(),
            definitions_due: !stream.is_live(),
            moved: false,
            suspect: None,
        }
    }

    /// Everything through `sequence` is settled. `defined_at`: the first batch after definitions.
    pub(crate) fn acked(&mut self, sequence: u64, defined_at: Option<u64>) {
        self.moved = true;
        self.set_aside = self.set_aside.split_off(&(sequence + 1));
        if defined_at.is_some_and(|defined_at| defined_at <= sequence) {
            self.definitions_due = false;
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
