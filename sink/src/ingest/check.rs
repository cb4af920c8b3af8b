//! The second question to a record: can it be read at all? Pure, and the only costly one, so it is
//! asked outside every lock. What passes here is stored for good: decompression under its limit,
//! checksum, structure and counts are the codec's part; names, sizes and sums are checked here.

use std::hash::{DefaultHasher, Hasher};

use prost::Message as _;
use weir_proto::batch::{DecodeError, Readings, check_definitions};
use weir_proto::limits::MAX_MESSAGE_BYTES;
use weir_proto::{batch, v1};

use super::dictionary::Definition;
use super::fault::{Fault, Refusal};

/// Readings a stream may ever count: far beyond use, and every sum of two fits.
const MAX_READINGS: u64 = 1 << 62;

/// A record that can be read, with what only reading it shows.
#[derive(Debug)]
pub(super) enum Readable {
    /// A batch.
    Batch {
        /// The payload.
        readings: Readings,
        /// Bytes of the encoded batch.
        bytes: usize,
    },
    /// Sequences that will never arrive.
    Skip(v1::Skip),
    /// What refs mean.
    Definitions,
    /// The end.
    Close,
}

/// Why a record cannot be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// This batch can never be stored; the stream goes on behind it.
    Refused(Refusal),
    /// The call cannot go on.
    Fault(Fault),
}

/// Reads a record that is wanted.
pub(super) fn read(record: &v1::record::Record) -> Result<Readable, Unreadable> {
    match record {
        v1::record::Record::Batch(batch) => read_batch(batch),
        v1::record::Record::Skip(skip) => Ok(Readable::Skip(*skip)),
        v1::record::Record::Definitions(definitions) => {
            check_definitions(&definitions.series)
                .map_err(|e| Unreadable::Fault(Fault::Invalid(format!("definitions: {e}"))))?;
            Ok(Readable::Definitions)
        }
        v1::record::Record::Close(_) => Ok(Readable::Close),
    }
}

fn read_batch(batch: &v1::Batch) -> Result<Readable, Unreadable> {
    let none = v1::BatchHeader::default();
    let header = batch.header.as_ref().unwrap_or(&none);
    if header.readings_before > MAX_READINGS {
        return Err(Unreadable::Refused(Refusal::new(
            v1::RefusedCode::CountMismatch,
            "readings before the batch are beyond all use",
        )));
    }
    let readings = check_definitions(&batch.series_defined)
        .and_then(|()| batch::decode_readings(header, &batch.payload))
        .map_err(|error| match error {
            DecodeError::UnknownEncoding(_) => Unreadable::Fault(Fault::NotYet {
                sequence: header.sequence,
                error,
            }),
            error => Unreadable::Refused(error.into()),
        })?;
    let bytes = batch.encoded_len();
    if bytes > MAX_MESSAGE_BYTES {
        return Err(Unreadable::Refused(Refusal::new(
            v1::RefusedCode::TooLarge,
            "batch and its definitions are larger than a message may be",
        )));
    }
    Ok(Readable::Batch { readings, bytes })
}

/// The definitions a record carries.
pub(super) fn definitions(record: &v1::record::Record) -> &[v1::Series] {
    match record {
        v1::record::Record::Batch(batch) => &batch.series_defined,
        v1::record::Record::Definitions(definitions) => &definitions.series,
        v1::record::Record::Skip(_) | v1::record::Record::Close(_) => &[],
    }
}

/// What ingest remembers of definitions.
pub(super) fn table_of(series: &[v1::Series]) -> impl Iterator<Item = (u32, Definition)> {
    series.iter().map(|series| {
        // Attributes are in a sorted map: equal definitions encode to equal bytes.
        let mut hasher = DefaultHasher::new();
        hasher.write(&series.encode_to_vec());
        let definition = Definition {
            digest: hasher.finish(),
            text: series.kind == i32::from(v1::Kind::Text),
            // Only the catalog says so, of what was beyond a limit when it was defined.
            unwanted: series.kind == i32::from(v1::Kind::Unspecified),
        };
        (series.r#ref, definition)
    })
}
