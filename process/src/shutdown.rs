//! What runs, and how it stops: a token says stop, a list of names says who is still at it, one deadline bounds it.
//!
//! Every task of a program is spawned here under a name. [`Shutdown::stop`] (or SIGTERM, or SIGINT) cancels the token;
//! [`Shutdown::finish`] waits until all names are gone and answers those that were late. A task that panics stops the
//! program: half a program that looks alive is worse than one that is restarted. A second signal ends it at once.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{Key, Kind};

/// The keys by which an operator steers the stop, to be put into a program's table.
pub const KEYS: [Key; 1] = [Key::new(
    "shutdown.grace",
    Kind::Duration,
    "20s",
    "how long a stop may take to deliver and store what is held; keep it below the grace period of the service manager",
)];

/// The running parts of one program. Cloning gives another handle to the same.
#[derive(Clone, Debug)]
pub struct Shutdown {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    token: CancellationToken,
    state: Mutex<State>,
    /// How many names there are.
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    names: BTreeMap<u64, String>,
    panicked: Vec<String>,
}

/// Takes its name off the list when the task ends, in whatever way.
struct Running {
    id: u64,
    inner: Arc<Inner>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// Nothing runs yet.
    pub fn new() -> Self {
        Self {
            inner: Arc::new(Inner {
                token: CancellationToken::new(),
                state: Mutex::new(State::default()),
                count: watch::Sender::new(0),
            }),
        }
    }

    /// Cancelled as soon as the program is to stop.
    pub fn token(&self) -> CancellationToken {
        self.inner.token.clone()
    }

    /// Asks everything to stop. Returns at once.
    pub fn stop(&self) {
        self.inner.token.cancel();
    }

    /// Runs a task under a name that [`Shutdown::finish`] waits for.
    pub fn spawn<F>(&self, name: impl Into<String>, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let running = self.enter(name.into());
        tokio::spawn(async move {
            let _running = running;
            future.await
        })
    }

    /// Runs a thread under a name that [`Shutdown::finish`] waits for.
    ///
    /// # Errors
    /// When the system cannot start another thread.
    pub fn thread<T: Send + 'static>(
        &self,
        name: impl Into<String>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<std::thread::JoinHandle<T>> {
        let name = name.into();
        let running = self.enter(name.clone());
        std::thread::Builder::new().name(name).spawn(move || {
            let _running = running;
            work()
        })
    }

    /// Stops on SIGTERM and SIGINT; a second one ends the process at once with 128 plus its number.
    ///
    /// # Errors
    /// When the system does not let the program handle signals.
    pub fn on_signal(&self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let token = self.token();
        tokio::spawn(async move {
            loop {
                let (name, number) = tokio::select! {
                    _ = terminate.recv() => ("SIGTERM", 15),
                    _ = interrupt.recv() => ("SIGINT", 2),
                };
                if token.is_cancelled() {
                    tracing::warn!(
                        signal = name,
                        "stopping at once: what is not delivered stays stored"
                    );
                    std::process::exit(128 + number);
                }
                tracing::info!(signal = name, "stopping");
                token.cancel();
            }
        });
        Ok(())
    }

    /// Stops, waits for every name at most until `deadline` from now, and answers the names that are still there.
    pub async fn finish(&self, deadline: Duration) -> Vec<String> {
        self.stop();
        let mut count = self.inner.count.subscribe();
        // Either all are gone or time is up; the list says which.
        let _ = tokio::time::timeout(deadline, count.wait_for(|count| *count == 0)).await;
        self.running()
    }

    /// The names of what runs now, in the order in which it was started.
    pub fn running(&self) -> Vec<String> {
        self.inner.lock().names.values().cloned().collect()
    }

    /// The names of what has panicked.
    pub fn panicked(&self) -> Vec<String> {
        self.inner.lock().panicked.clone()
    }

    fn enter(&self, name: String) -> Running {
        let mut state = self.inner.lock();
        let id = state.next;
        state.next += 1;
        state.names.insert(id, name);
        self.inner.count.send_replace(state.names.len());
        drop(state);
        Running {
            id,
            inner: Arc::clone(&self.inner),
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The list is whole after every statement, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.inner.lock();
        let name = state.names.remove(&self.id).unwrap_or_default();
        self.inner.count.send_replace(state.names.len());
        if !std::thread::panicking() {
            return;
        }
        state.panicked.push(name.clone());
        drop(state);
        tracing::error!(task = %name, "a task panicked: stopping");
        self.inner.token.cancel();
    }
}

#[cfg(test)]
mod tests;
