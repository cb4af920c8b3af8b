//! What the statements of one owner may hold of the engine's memory: a pool of each owner's own inside the one of all.
//!
//! In: reservations, as operators and kept answers make them. Each counts twice, in the owner's pool and in that of all, and is
//! refused where either is full; which of them it was stands in the error. An owner's pool is there while anything of it is held.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{
    GreedyMemoryPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};

use crate::error::{ErrorKind, QueryError};

/// What an error begins with where it was the owner's own pool that is full; its size in bytes follows.
const OWN_IS_FULL: &str = "the owner's share is used up: ";

/// The memory of all, and who has how much of it.
#[derive(Debug)]
pub(super) struct Shares {
    all: Arc<dyn MemoryPool>,
    owner_bytes: usize,
    owners: Mutex<HashMap<Arc<str>, Weak<Share>>>,
}

/// One owner's part.
#[derive(Debug)]
pub(super) struct Share {
    own: GreedyMemoryPool,
    owner_bytes: usize,
    /// How often it was this pool that was full.
    refusals: AtomicU64,
    all: Arc<dyn MemoryPool>,
}

impl Shares {
    pub(super) fn new(bytes: usize, owner_bytes: usize) -> Self {
        Self {
            all: Arc::new(GreedyMemoryPool::new(bytes)),
            owner_bytes: owner_bytes.min(bytes),
            owners: Mutex::default(),
        }
    }

    /// The pool that all have together.
    pub(super) fn all(&self) -> &Arc<dyn MemoryPool> {
        &self.all
    }

    /// The pool of this owner.
    pub(super) fn of(&self, owner: &Arc<str>) -> Arc<Share> {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = owners.get(owner).and_then(Weak::upgrade) {
            return share;
        }
        owners.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Share {
            own: GreedyMemoryPool::new(self.owner_bytes),
            owner_bytes: self.owner_bytes,
            refusals: AtomicU64::new(0),
            all: Arc::clone(&self.all),
        });
        owners.insert(Arc::clone(owner), Arc::downgrade(&share));
        share
    }
}

/// The size of the owner's pool, if it is that one which this error says is full.
pub(crate) fn of_owner(text: &str) -> Option<usize> {
    let from = text.find(OWN_IS_FULL)? + OWN_IS_FULL.len();
    let digits = text[from..].split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

impl Share {
    /// Changes whenever it was this pool that was full, and not that of all.
    pub(super) fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Why a statement ended that began at so many refusals. An operator that gives up because it may not write to the disk
    /// says so in words of its own, and not whose memory was used up.
    pub(super) fn blamed(&self, refusals: u64, error: QueryError) -> QueryError {
        match error.kind() {
            ErrorKind::Memory if self.refusals() != refusals => {
                QueryError::owners_memory(self.owner_bytes)
            }
            _ => error,
        }
    }
}

impl MemoryPool for Share {
    fn name(&self) -> &str {
        "share"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.all.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.all.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.own.grow(reservation, additional);
        self.all.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.own.shrink(reservation, shrink);
        self.all.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let own = self.own.try_grow(reservation, additional);
        own.map_err(|error| match self.all.memory_limit() {
            // Where one may have all, it is all that is used up.
            MemoryLimit::Finite(all) if all <= self.owner_bytes => error,
            _ => {
                self.refusals.fetch_add(1, Ordering::Relaxed);
                DataFusionError::ResourcesExhausted(format!("{OWN_IS_FULL}{}", self.owner_bytes))
            }
        })?;
        let all = self.all.try_grow(reservation, additional);
        all.inspect_err(|_| self.own.shrink(reservation, additional))
    }

    fn reserved(&self) -> usize {
        self.own.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.owner_bytes)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} of {}", self.own, self.all)
    }
}
