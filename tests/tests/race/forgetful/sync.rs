//! Primitives as the hand-over wants them, with one fault: between giving up the lock and listening for the signal there
//! is a moment in which the signal is not heard.

use std::ops::{Deref, DerefMut};
use std::sync::LockResult;
use std::time::Duration;

/// A lock whose guard knows where it came from.
pub(crate) struct Mutex<T> {
    inner: loom::sync::Mutex<T>,
}

pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    held: loom::sync::MutexGuard<'a, T>,
}

/// A condition whose wait is not one step.
pub(crate) struct Condvar {
    gate: loom::sync::Mutex<()>,
    inner: loom::sync::Condvar,
}

pub(crate) struct Timeout;

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Mutex<T> {
        Mutex {
            inner: loom::sync::Mutex::new(value),
        }
    }

    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        let held = self.inner.lock().expect("no model panics here");
        Ok(MutexGuard { mutex: self, held })
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.held
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.held
    }
}

impl Condvar {
    pub(crate) fn new() -> Condvar {
        Condvar {
            gate: loom::sync::Mutex::new(()),
            inner: loom::sync::Condvar::new(),
        }
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let mutex = guard.mutex;
        drop(guard);
        let gate = self.gate.lock().expect("no model panics here");
        drop(self.inner.wait(gate));
        mutex.lock()
    }

    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        _timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, Timeout)> {
        let guard = self.wait(guard).expect("no model panics here");
        Ok((guard, Timeout))
    }

    pub(crate) fn notify_one(&self) {
        self.inner.notify_one();
    }
}

impl Timeout {
    pub(crate) fn timed_out(&self) -> bool {
        false
    }
}
