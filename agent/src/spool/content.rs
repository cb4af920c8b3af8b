//! A record of the spool taken apart: what it counts, and what it is.

use bytes::Bytes;
use weir_proto::{record, v1};

/// A record that has a place in the count of its stream.
#[derive(Debug)]
pub(crate) enum Content {
    Batch(v1::BatchHeader, v1::Batch),
    Skip(v1::Skip),
    /// What a segment begins with; of no count.
    Definitions(Vec<v1::Series>),
}

impl Content {
    /// Readings of the stream before it, and its own.
    pub(crate) fn counts(&self) -> Option<(u64, u64)> {
        match self {
            Content::Batch(header, _) => Some((header.readings_before, header.readings)),
            Content::Skip(skip) => Some((skip.readings_before, skip.readings)),
            Content::Definitions(_) => None,
        }
    }
}

/// Takes an encoded record apart; payloads are shared, not copied. `None` where it is nothing that the spool writes.
pub(crate) fn content(body: Bytes) -> Option<Content> {
    match record::decode(body).ok()?.record? {
        v1::record::Record::Batch(mut batch) => {
            let header = batch.header.take().unwrap_or_default();
            Some(Content::Batch(header, batch))
        }
        v1::record::Record::Skip(skip) => Some(Content::Skip(skip)),
        v1::record::Record::Definitions(definitions) => {
            Some(Content::Definitions(definitions.series))
        }
        v1::record::Record::Close(_) => None,
    }
}
