//! Objects in memory, for simulations: what was put before a crash is there after it, what was being
//! put is not. Readers through `object_store` get the objects as they are when they ask for it.
//!
//! Clones share the objects, which outlive the sink that used them. A put whose caller is dropped
//! while it is slow leaves its temporary name behind, as a directory would until the crash. What goes
//! wrong is ordered by [`Memory::set_faults`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use weir_fault::{Mutant, Point, mutant, point};

use super::{Backend, StoreError};

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    inner: Arc<Mutex<Inner>>,
}

/// What is to go wrong from now on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Nothing is answered but with an error.
    pub away: bool,
    /// So many of the next puts fail half way.
    pub broken_puts: u32,
    /// How long every call takes.
    pub latency: Duration,
}

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<String, Bytes>,
    /// Names that a crash takes away.
    unsynced: BTreeSet<String>,
    faults: Faults,
}

impl Memory {
    /// Empty, and nothing goes wrong.
    pub fn new() -> Self {
        Self::default()
    }

    /// Power loss: what was not made durable is gone.
    pub fn crash(&self) {
        let mut inner = self.inner();
        for path in std::mem::take(&mut inner.unsynced) {
            inner.objects.remove(&path);
        }
    }

    /// What is to go wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.inner().faults = faults;
    }

    /// Every object there is, half-written ones included.
    pub fn paths(&self) -> Vec<String> {
        self.inner().objects.keys().cloned().collect()
    }

    /// A panic while it is held leaves it whole: each change is one call on a map.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn reach(&self, verb: &'static str, path: &str) -> Result<(), StoreError> {
        let Faults { away, latency, .. } = self.inner().faults;
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        if away {
            return Err(failed(verb, path, io::Error::other("the store is away")));
        }
        Ok(())
    }

    fn write_part(&self, part: &str, bytes: &Bytes) -> Result<(), StoreError> {
        let mut inner = self.inner();
        inner.unsynced.insert(part.to_owned());
        if inner.faults.broken_puts > 0 {
            inner.faults.broken_puts -= 1;
            let half = bytes.slice(..bytes.len() / 2);
            inner.objects.insert(part.to_owned(), half);
            let full = io::Error::from(io::ErrorKind::StorageFull);
            return Err(failed("write", part, full));
        }
        inner.objects.insert(part.to_owned(), bytes.clone());
        Ok(())
    }

    /// Gives what was written its name, durably.
    fn publish(&self, part: &str, path: &str, bytes: Bytes) {
        let mut inner = self.inner();
        inner.objects.remove(part);
        inner.unsynced.remove(part);
        inner.objects.insert(path.to_owned(), bytes);
        if mutant(Mutant::NoStoreSync) {
            inner.unsynced.insert(path.to_owned());
        } else {
            inner.unsynced.remove(path);
        }
    }
}

fn failed(verb: &'static str, path: &str, source: io::Error) -> StoreError {
    let path = path.to_owned();
    StoreError::Io { verb, path, source }
}

#[async_trait]
impl Backend for Memory {
    fn objects(&self) -> Arc<dyn ObjectStore> {
        let copy = InMemory::new();
        for (path, bytes) in &self.inner().objects {
            let path = ObjectPath::from(path.as_str());
            let put = copy.put(&path, bytes.clone().into());
            // It takes a lock and waits for nothing: polled once, it is done.
            let done = pin!(put).poll(&mut Context::from_waker(Waker::noop()));
            debug_assert!(matches!(done, Poll::Ready(Ok(_))));
        }
        Arc::new(copy)
    }

    async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        let part = format!("{path}.part");
        self.reach("write", path).await?;
        self.write_part(&part, &bytes)?;
        point(Point::StorePart);
        self.reach("write", path).await?;
        self.publish(&part, path, bytes);
        Ok(())
    }

    async fn get(&self, path: &str) -> Result<Bytes, StoreError> {
        self.reach("read", path).await?;
        let found = self.inner().objects.get(path).cloned();
        found.ok_or_else(|| failed("read", path, io::ErrorKind::NotFound.into()))
    }

    async fn size(&self, path: &str) -> Result<Option<u64>, StoreError> {
        self.reach("look at", path).await?;
        Ok(self
            .inner()
            .objects
            .get(path)
            .map(|bytes| bytes.len() as u64))
    }

    async fn delete(&self, path: &str) -> Result<(), StoreError> {
        self.reach("delete", path).await?;
        let mut inner = self.inner();
        for name in [format!("{path}.part"), path.to_owned()] {
            inner.objects.remove(&name);
            inner.unsynced.remove(&name);
        }
        Ok(())
    }

    async fn list(&self) -> Result<Vec<String>, StoreError> {
        self.reach("list", "samples").await?;
        let paths = self.paths().into_iter();
        Ok(paths.filter(|path| path.starts_with("samples/")).collect())
    }
}
