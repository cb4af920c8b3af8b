//! Work that blocks or computes for long: beside the runtime's threads, behind them, or in place.
//!
//! In a program it goes to tokio's blocking threads. What nobody waits for ([`behind`]) goes to threads of lower priority, so
//! that on a busy machine it is this work that takes longer and not an acknowledgement. A simulation has one thread and no other may
//! touch its clock or its order of events: there [`in_place`] makes every such call on that thread
//! run at once, between two polls.

use std::any::Any;
use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// Added to the priority of the program: at 5 a thread gets a quarter of a processor that others want as well.
const NICE: i32 = 5;

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

/// From now on [`run`] and [`behind`] on this thread run their work at once. For simulations.
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
        return at_once(work);
    }
    finished(tokio::task::spawn_blocking(work)).await
}

/// As [`run`], on a thread that gives way to those of the runtime. Once asked for it is done, also when the
/// runtime ends, unless the program does. A paused clock of a test does not wait for it, as it does for [`run`].
///
/// # Errors
/// When the work panics.
pub async fn behind<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, WorkError> {
    if IN_PLACE.get() {
        return at_once(work);
    }
    finished(threads_behind().spawn_blocking(work)).await
}

fn at_once<T>(work: impl FnOnce() -> T) -> Result<T, WorkError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| panicked(&*panic))
}

async fn finished<T>(work: JoinHandle<T>) -> Result<T, WorkError> {
    work.await.map_err(|error| match error.try_into_panic() {
        Ok(panic) => panicked(&*panic),
        Err(_) => WorkError::Ended,
    })
}

/// Threads for what may wait, shared by the whole program: a runtime, never ended, of which nothing but its blocking threads
/// is used.
fn threads_behind() -> &'static Runtime {
    static THREADS: OnceLock<Runtime> = OnceLock::new();
    THREADS.get_or_init(|| {
        Builder::new_current_thread()
            .thread_name("behind")
            .on_thread_start(|| {
                // Of the calling thread on Linux, of the whole program elsewhere. Where it is not allowed, the thread is as
                // the others are.
                if cfg!(target_os = "linux") {
                    let _ = rustix::process::nice(NICE);
                }
            })
            .build()
            .expect("a runtime that drives nothing needs nothing of the system")
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

    /// Mutation: threads that are started without it have the priority of the test.
    #[tokio::test]
    async fn what_may_wait_has_a_lower_priority_than_the_rest() {
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let before = run(priority).await.unwrap();
        assert_eq!(behind(priority).await.unwrap(), (before + NICE).min(19));
        assert_eq!(run(priority).await.unwrap(), before);
        let staying = in_place();
        assert_eq!(behind(priority).await.unwrap(), before);
        drop(staying);
    }

    /// Red when work in place is not caught.
    #[tokio::test]
    async fn a_panic_is_an_error_with_its_text_in_both_places() {
        fn fails() {
            panic!("at {}", 7);
        }
        let away = run(fails).await.unwrap_err();
        let behind = behind(fails).await.unwrap_err();
        let staying = in_place();
        let here = run(fails).await.unwrap_err();
        drop(staying);
        for error in [away, behind, here] {
            assert_eq!(error.to_string(), "panicked: at 7");
        }
    }
}
