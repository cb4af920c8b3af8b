//! Reading an object of the catalog whole, and only if it is what was written.
//!
//! Parquet pages carry no checksum of ours, so a byte that a disk has changed would be read as
//! data. In: what the catalog says of a file. Out: its bytes, or what is wrong with them. A file
//! from before there were checksums is taken as it is.

use std::io;

use bytes::Bytes;
use weir_process::work;

use super::{Store, StoreError};
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
    /// The object of `file`, checked; what came of it is noted.
    pub(crate) async fn whole(&self, file: &DataFile) -> Result<Bytes, Unusable> {
        let read = self.read_whole(file).await;
        match &read {
            Ok(_) => self.damaged().good(file),
            Err(why) => self.damaged().note(file, why.to_string()),
        }
        read
    }

    /// The same without a note.
    pub(crate) async fn read_whole(&self, file: &DataFile) -> Result<Bytes, Unusable> {
        let bytes = self.get(&file.path).await?;
        let Some(written) = file.crc else {
            return Ok(bytes);
        };
        let summed = bytes.clone();
        let crc = work::run(move || crc32c::crc32c(&summed)).await;
        let unread = |e| StoreError::Io {
            verb: "read",
            path: file.path.clone(),
            source: io::Error::other(e),
        };
        if crc.map_err(unread)? != written {
            return Err(Unusable::Changed(file.path.clone()));
        }
        Ok(bytes)
    }
}
