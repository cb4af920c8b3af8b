//! A large request gives way: the work it makes for the runtime's threads is cut into turns, and others have theirs between.
//!
//! Taking a request in is computing, all of it: 160,000 readings take more than a millisecond, and ten thousand records of ten
//! some twenty. A thread that did it at a stretch would serve nobody else meanwhile, so whoever has done [`TURN`] goes to the
//! end of the line. A request that is done within one does not give way at all and waits for nobody.
//!
//! No more large requests are taken at once than the runtime has threads, as if none gave way: the others wait as they
//! came, encoded, because decoded they take many times the room.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is done between two turns of others, in readings as [`weir_proto::codec::effort`] counts them: a tenth of a
/// millisecond.
pub(super) const TURN: u64 = 16 << 10;

/// Who may take a large request now.
pub(super) struct Turns(Arc<Semaphore>);

/// The right to take a request, until it is dropped. A small one needs none.
#[must_use = "who drops it lets another large request in"]
#[derive(Debug)]
pub struct Turn {
    _held: Option<OwnedSemaphorePermit>,
}

impl Default for Turns {
    /// As many as this runtime has threads, one where there is none.
    fn default() -> Self {
        let threads = Handle::try_current().map_or(1, |handle| handle.metrics().num_workers());
        Self(Arc::new(Semaphore::new(threads)))
    }
}

impl Turns {
    /// For a request that costs `effort`; a large one waits until one of the others is done.
    pub(super) async fn take(&self, effort: u64) -> Turn {
        if effort <= TURN {
            return Turn { _held: None };
        }
        // It is never closed.
        let held = Arc::clone(&self.0).acquire_owned().await.ok();
        Turn { _held: held }
    }
}

/// What was done since others last had a turn.
#[derive(Debug, Default)]
pub(super) struct Done(u64);

impl Done {
    /// So much will be done now.
    pub(super) fn add(&mut self, effort: u64) {
        self.0 += effort;
    }

    /// Lets others have a turn, where this one has done its own.
    pub(super) async fn give_way(&mut self) {
        if self.0 >= TURN {
            self.0 = 0;
            tokio::task::yield_now().await;
        }
    }
}
