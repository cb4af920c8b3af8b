//! From the bytes of a journal record to what the fold applies: pure, and the only place
//! where a bad record can fail.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use weir_proto::{batch, v1};

use super::caution::panic_text;
use super::{Arrival, Decoded};
use crate::envelope::{self, Envelope};

/// A record as the fold takes it.
#[derive(Debug)]
pub(crate) enum Content {
    /// Readings. The definitions count even when these cannot be read.
    Batch {
        header: v1::BatchHeader,
        defined: Vec<v1::Series>,
        readings: Result<batch::Readings, String>,
    },
    Skip(v1::Skip),
    Definitions(Vec<v1::Series>),
    Close(v1::Close),
    /// What the sink itself says of the stream: whether its rest is lost.
    Lost(bool),
    /// Nothing in it can be read.
    Unreadable(String),
}

/// Reads a record of the journal.
pub(crate) fn arrival(number: u64, kind: u8, body: Bytes) -> Result<Arrival, String> {
    if kind != envelope::KIND {
        return Err(format!("journal record of unknown kind {kind}"));
    }
    let envelope = Envelope::parse(body).map_err(|e| format!("envelope: {e}"))?;
    Ok(Arrival {
        number,
        envelope,
        decoded: None,
    })
}

/// Takes the record out of its envelope. `known_through` is the stream's watermark: what is at
/// or below it will not be stored, so it is not decoded either. Never panics.
pub(crate) fn content(
    envelope: &Envelope,
    decoded: Option<Decoded>,
    known_through: u64,
) -> Content {
    if let Some(decoded) = decoded {
        return Content::Batch {
            header: decoded.header,
            defined: decoded.series_defined,
            readings: Ok(decoded.readings),
        };
    }
    let attempt = catch_unwind(AssertUnwindSafe(|| read(envelope, known_through)));
    attempt.unwrap_or_else(|panic| Content::Unreadable(panic_text(&*panic)))
}

fn read(envelope: &Envelope, known_through: u64) -> Content {
    if let Some(lost) = envelope.lost {
        return Content::Lost(lost);
    }
    match envelope.parse_record() {
        Ok(Some(v1::record::Record::Batch(batch))) => read_batch(batch, known_through),
        Ok(Some(v1::record::Record::Skip(skip))) => Content::Skip(skip),
        Ok(Some(v1::record::Record::Definitions(found))) => Content::Definitions(found.series),
        Ok(Some(v1::record::Record::Close(close))) => Content::Close(close),
        Ok(None) => Content::Unreadable("record is of a kind this program does not know".into()),
        Err(e) => Content::Unreadable(format!("record: {e}")),
    }
}

fn read_batch(batch: v1::Batch, known_through: u64) -> Content {
    let Some(header) = batch.header else {
        return Content::Unreadable("batch has no header".into());
    };
    let readings = if header.sequence <= known_through {
        Ok(batch::Readings::default())
    } else {
        let attempt = catch_unwind(AssertUnwindSafe(|| {
            batch::decode_readings(&header, &batch.payload)
        }));
        match attempt {
            Ok(result) => result.map_err(|e| e.to_string()),
            Err(panic) => Err(panic_text(&*panic)),
        }
    };
    Content::Batch {
        header,
        defined: batch.series_defined,
        readings,
    }
}
