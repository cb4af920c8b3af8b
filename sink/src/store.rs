//! Where the files are: objects under paths, reached through `object_store` for reading.
//!
//! In: finished objects under paths relative to the root. Promise of every [`Backend`]: what
//! [`Backend::put`] answered survives a power loss; a half-written object never has its final name
//! (it ends in `.part`, which no reader of `*.parquet` sees). One suite (`store/tests.rs`) holds
//! each of them to it.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::ObjectStore;

mod damaged;
mod local;
mod memory;
#[cfg(test)]
mod tests;
mod whole;

pub use damaged::{Damage, Damaged};
pub use local::Local;
pub use memory::{Faults, Memory};

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory answered with an error; trying again may help.
    #[error("cannot {verb} {path}: {source}")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: String,
        /// What came of it.
        source: io::Error,
    },
    /// `object_store` answered with an error.
    #[error("store: {0}")]
    Object(#[from] object_store::Error),
}

/// A place for objects.
#[async_trait]
pub trait Backend: Send + Sync + fmt::Debug {
    /// For readers: queries go through this.
    fn objects(&self) -> Arc<dyn ObjectStore>;

    /// Writes one object and makes it durable. Writing the same bytes again is harmless.
    async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError>;

    /// The whole object.
    async fn get(&self, path: &str) -> Result<Bytes, StoreError>;

    /// Size of the object, or nothing when it is not there.
    async fn size(&self, path: &str) -> Result<Option<u64>, StoreError>;

    /// Removes the object and what a broken-off write of it may have left. It is no error when
    /// there is nothing.
    async fn delete(&self, path: &str) -> Result<(), StoreError>;

    /// Paths of all objects below `samples/`, half-written ones included.
    async fn list(&self) -> Result<Vec<String>, StoreError>;
}

/// A handle; clones share what stands behind it. Its methods are those of [`Backend`].
#[derive(Debug, Clone)]
pub struct Store {
    backend: Arc<dyn Backend>,
    damaged: Damaged,
}

impl Store {
    /// The store in this place.
    pub fn new(backend: impl Backend + 'static) -> Self {
        Self {
            backend: Arc::new(backend),
            damaged: Damaged::default(),
        }
    }

    /// Files that are known not to be what was written.
    pub fn damaged(&self) -> &Damaged {
        &self.damaged
    }

    /// The store in a directory, which is made if it is not there.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        Ok(Self::new(Local::open(root)?))
    }
}

impl Deref for Store {
    type Target = dyn Backend;

    fn deref(&self) -> &Self::Target {
        &*self.backend
    }
}
