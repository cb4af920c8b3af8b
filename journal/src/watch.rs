//! A value that many follow: each is told that it changed, in the order in which they began to wait.
//!
//! Like `tokio::sync::watch`, whose followers wake in an order that is drawn by lot: here the same history wakes the same
//! tasks in the same order, which a seeded simulation stands on.

use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::Notify;

/// Changes the value. Dropped, it ends the waiting of all who follow.
#[derive(Debug)]
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// Follows the value.
#[derive(Debug)]
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// The last change it took note of.
    seen: u64,
}

/// Nobody changes the value any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody changes the value any more")]
pub struct Ended;

/// The value, which does not change as long as this is held: not across an await.
#[derive(Debug)]
pub struct Ref<'a, T>(RwLockReadGuard<'a, State<T>>);

#[derive(Debug)]
struct Shared<T> {
    state: RwLock<State<T>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<T> {
    value: T,
    changes: u64,
    ended: bool,
}

impl<T> Sender<T> {
    /// Begins with this value.
    pub fn new(value: T) -> Sender<T> {
        let state = State {
            value,
            changes: 0,
            ended: false,
        };
        Sender {
            shared: Arc::new(Shared {
                state: RwLock::new(state),
                changed: Notify::new(),
            }),
        }
    }

    /// Follows from here on.
    pub fn subscribe(&self) -> Receiver<T> {
        Receiver {
            seen: self.shared.read().changes,
            shared: Arc::clone(&self.shared),
        }
    }

    /// Changes the value and tells everybody.
    pub fn send_modify(&self, change: impl FnOnce(&mut T)) {
        self.send_if_modified(|value| {
            change(value);
            true
        });
    }

    /// Tells everybody if `change` says that it changed the value; answers what it said.
    pub fn send_if_modified(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        let changed = {
            let mut state = self.shared.write();
            let changed = change(&mut state.value);
            state.changes += u64::from(changed);
            changed
        };
        if changed {
            self.shared.changed.notify_waiters();
        }
        changed
    }

    /// The value now.
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.shared.read())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.write().ended = true;
        self.shared.changed.notify_waiters();
    }
}

impl<T> Receiver<T> {
    /// The value now.
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.shared.read())
    }

    /// The value now, which it takes note of.
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let state = self.shared.read();
        self.seen = state.changes;
        Ref(state)
    }

    /// Takes note of the value as it is.
    pub fn mark_unchanged(&mut self) {
        self.seen = self.shared.read().changes;
    }

    /// Whether there is a change it has not taken note of.
    pub fn has_changed(&self) -> Result<bool, Ended> {
        let state = self.shared.read();
        match state.ended {
            true => Err(Ended),
            false => Ok(state.changes != self.seen),
        }
    }

    /// Waits for a change it has not taken note of, and does.
    pub async fn changed(&mut self) -> Result<(), Ended> {
        loop {
            let changed = self.shared.changed.notified();
            {
                // Whoever changes it from here on wakes `changed`, which counts from its making.
                let state = self.shared.read();
                if state.changes != self.seen {
                    self.seen = state.changes;
                    return Ok(());
                }
                if state.ended {
                    return Err(Ended);
                }
            }
            changed.await;
        }
    }

    /// Waits until the value is so; by the time it is looked at, it may have changed again.
    pub async fn wait_for(
        &mut self,
        mut is_so: impl FnMut(&T) -> bool,
    ) -> Result<Ref<'_, T>, Ended> {
        while !is_so(&self.borrow_and_update()) {
            self.changed().await?;
        }
        Ok(self.borrow())
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        Receiver {
            shared: Arc::clone(&self.shared),
            seen: self.seen,
        }
    }
}

impl<T> std::ops::Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> Shared<T> {
    fn read(&self) -> RwLockReadGuard<'_, State<T>> {
        self.state.read().unwrap_or_else(|held| held.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<T>> {
        self.state.write().unwrap_or_else(|held| held.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::Sender;

    /// Red with `tokio::sync::watch`.
    #[tokio::test]
    async fn followers_wake_in_the_order_in_which_they_wait() {
        let sender = Sender::new(0);
        let (order, mut woken) = tokio::sync::mpsc::unbounded_channel();
        for place in 0..32 {
            let (mut receiver, order) = (sender.subscribe(), order.clone());
            tokio::spawn(async move {
                while receiver.changed().await.is_ok() {
                    order.send((*receiver.borrow(), place)).unwrap();
                }
            });
        }
        for round in 1..=3 {
            tokio::task::yield_now().await;
            sender.send_modify(|value| *value = round);
            for place in 0..32 {
                assert_eq!(woken.recv().await, Some((round, place)));
            }
        }
        drop((sender, order));
        assert_eq!(woken.recv().await, None, "all have ended");
    }

    /// Red when what changed between a look and the wait is missed.
    #[tokio::test]
    async fn a_change_before_the_wait_is_seen() {
        let sender = Sender::new(1);
        let mut receiver = sender.subscribe();
        sender.send_modify(|value| *value = 2);
        receiver.changed().await.unwrap();
        assert!(!sender.send_if_modified(|_| false));
        assert_eq!(*receiver.wait_for(|value| *value == 2).await.unwrap(), 2);
        drop(sender);
        receiver.changed().await.unwrap_err();
        assert_eq!(*receiver.borrow(), 2);
    }
}
