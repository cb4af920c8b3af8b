//! The synchronisation types of `queue`, in one place, so that a model checker can put its own in their stead: the race
//! tests include `queue.rs` by path beside a `sync` module of their own.

pub(crate) use std::sync::{Arc, Mutex, MutexGuard};
