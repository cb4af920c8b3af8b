//! The primitives under the hand-over queue, named in one place so that the loom models can put loom's there.

pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
