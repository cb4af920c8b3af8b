//! Work that blocks or computes for long: beside the runtime's threads, or in place.
//!
//! In a program it goes to tokio's blocking threads. A simulation has one thread and no other may
//! touch its clock or its order of events: there [`in_place`] makes every such call on that thread
//! run at once, between two polls.

use std::any::Any;
use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static IN_PLACE: Cell<bool> = const { Cell::new(false) };
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The work panicked.
    #[error("panicked: {0}")]
    Panicked(String),
    /// The runtime ended first.
    #[error("the runtime has ended")]
    Ended,
}

/// Ends [`in_place`] when dropped.
#[must_use = "work runs in place for as long as this lives"]
#[derive(Debug)]
pub struct InPlace {
    before: bool,
    /// Stays on the thread it speaks of.
    here: PhantomData<*const ()>,
}

/// Whether this thread is a simulation's.
pub(crate) fn is_in_place() -> bool {
    IN_PLACE.get()
}

/// From now on [`run`] on this thread runs its work at once. For simulations.
pub fn in_place() -> InPlace {
    InPlace {
        before: IN_PLACE.replace(true),
        here: PhantomData,
    }
}

impl Drop for InPlace {
    fn drop(&mut self) {
        IN_PLACE.set(self.before);
    }
}

/// Runs `work` where it may block, and waits for it. Once begun it runs to its end, also when
/// nobody waits any more.
///
/// # Errors
/// When the work panics, or the runtime ends before it began.
pub async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, WorkError> {
    if IN_PLACE.get() {
        return catch_unwind(AssertUnwindSafe(work)).map_err(|panic| panicked(&*panic));
    }
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| match error.try_into_panic() {
            Ok(panic) => panicked(&*panic),
            Err(_) => WorkError::Ended,
        })
}

fn panicked(panic: &(dyn Any + Send)) -> WorkError {
    let text = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned());
    WorkError::Panicked(text.unwrap_or_else(|| "without a message".into()))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Red when the switch is not looked at.
    #[tokio::test]
    async fn work_leaves_the_thread_unless_told_to_stay() {
        let here = thread::current().id();
        let elsewhere = run(|| thread::current().id()).await.unwrap();
        assert_ne!(elsewhere, here);
        let staying = in_place();
        assert_eq!(run(|| thread::current().id()).await.unwrap(), here);
        drop(staying);
        assert_ne!(run(|| thread::current().id()).await.unwrap(), here);
    }

    /// Red when work in place is not caught.
    #[tokio::test]
    async fn a_panic_is_an_error_with_its_text_in_both_places() {
        fn fails() {
            panic!("at {}", 7);
        }
        let away = run(fails).await.unwrap_err();
        let staying = in_place();
        let here = run(fails).await.unwrap_err();
        drop(staying);
        for error in [away, here] {
            assert_eq!(error.to_string(), "panicked: at 7");
        }
    }
}
