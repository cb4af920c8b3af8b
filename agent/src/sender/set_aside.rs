//! Setting a batch aside: into the dead-letter store first, out of the stream afterwards.

use std::collections::BTreeSet;

use weir_fault::{Point, point};
use weir_proto::{record, v1};

use super::failure::Failure;
use crate::dead_letter::{KeepError, Note};
use crate::spool::{Spool, SpoolError, Stream, hex};

/// Longest of the sink's words that are kept and logged, in characters.
const MAX_REASON: usize = 500;

/// Keeps the batch and what was said of it; answers the readings of the stream before it.
pub(crate) fn set_aside(
    spool: &Spool,
    stream: &Stream,
    sequence: u64,
    (code, reason): (&str, &str),
) -> Result<u64, Failure> {
    let reason: String = reason.chars().take(MAX_REASON).collect();
    let body = stream.read(sequence).map_err(SpoolError::from)?;
    let decoded = body.clone().and_then(|body| record::decode(body).ok());
    let (Some(body), Some(v1::record::Record::Batch(batch))) =
        (body, decoded.and_then(|record| record.record))
    else {
        let text =
            format!("it refused sequence {sequence}, which is no batch of the spool: {reason}");
        return Err(Failure::NotASink(text));
    };
    let header = batch.header.unwrap_or_default();
    let note = Note {
        stream_id: hex(&stream.id),
        sequence,
        code: code.to_owned(),
        reason: reason.clone(),
        readings: header.readings,
        payload_bytes: batch.payload.len() as u64,
        first_ns: header.first_ns,
        last_ns: header.last_ns,
        set_aside_ns: spool.wall_ns(),
        replayed_in: None,
    };
    let letters = spool.dead_letters();
    let path = letters.keep(&note, &body, &stream.definitions())?;
    point(Point::AgentSetAside);
    tracing::error!(
        sequence,
        code,
        reason,
        readings = header.readings,
        path = %path.display(),
        "the sink will never take this batch: set it aside"
    );
    Ok(header.readings_before)
}

/// The batches of a stream that are in the store and not settled, whoever set them aside: this lane, the
/// other one, an earlier run. None of them is sent again, or its letter would be a second copy of it.
pub(crate) fn kept_back(spool: &Spool, stream: &Stream) -> Result<BTreeSet<u64>, Failure> {
    let letters = spool.dead_letters();
    let mut kept = letters.sequences(&hex(&stream.id)).map_err(KeepError::Io)?;
    Ok(kept.split_off(&(stream.account().acked_through + 1)))
}
