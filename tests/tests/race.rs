//! Models of what threads hand to each other, every interleaving of them up to a bound, run by a plain `cargo test`.
//!
//! The programs' own files are included by path; they name their primitives through a `sync` module beside them, and here
//! that module is loom's. Each model has a control: a twin with a fault that loom must find, in a process of its own
//! because a lost wake-up ends it. One file per model.

#![allow(
    clippy::duplicate_mod,
    reason = "a control includes the same file over a broken primitive"
)]

/// The primitives the included files find beside them.
mod sync {
    #![allow(unused_imports, reason = "each included file uses its part")]

    pub(crate) use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
}

/// The group commit's queue, as it is.
#[path = "../../journal/src/handover.rs"]
#[allow(
    dead_code,
    reason = "the models use what appenders and the writer call"
)]
mod handover;

/// The agent's queue between sampling and batching, as it is.
#[path = "../../agent/src/queue.rs"]
#[allow(
    dead_code,
    reason = "the models use what samplers and the batcher call"
)]
mod queue;

#[path = "race/control.rs"]
mod control;
#[path = "race/forgetful.rs"]
mod forgetful;
#[path = "race/group_commit.rs"]
mod group_commit;
#[path = "race/model.rs"]
mod model;
#[path = "race/overflow_queue.rs"]
mod overflow_queue;
