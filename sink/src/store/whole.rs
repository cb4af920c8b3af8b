//! Reading an object of the catalog whole, and only if it is what was written.
//!
//! Parquet pages carry no checksum of ours, so a byte that a disk has changed would be read as
//! data. In: what the catalog says of a file. Out: its bytes, or what is wrong with them. A file
//! from before there were checksums is taken as it is.

use std::fs;

use bytes::Bytes;

use super::{Store, StoreError, blocking};
use crate::catalog::DataFile;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// Missing, or the disk does not give it.
    #[error(transparent)]
    Unread(#[from] StoreError),
    /// Other bytes than were written.
    #[error("{0}: checksum differs")]
    Changed(String),
}

impl Store {
    /// The object of `file`, checked.
    pub(crate) async fn whole(&self, file: &DataFile) -> Result<Bytes, Unusable> {
        let full = self.root.join(&file.path);
        let read = move || {
            let bytes = fs::read(full).map(Bytes::from)?;
            Ok((crc32c::crc32c(&bytes), bytes))
        };
        let (crc, bytes) = blocking("read", file.path.clone(), read).await?;
        if file.crc.is_some_and(|written| written != crc) {
            return Err(Unusable::Changed(file.path.clone()));
        }
        Ok(bytes)
    }
}
