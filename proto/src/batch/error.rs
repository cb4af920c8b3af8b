//! Why a batch or a definition cannot be taken, and the code a sink refuses it by.

use crate::v1::RefusedCode;

/// A batch that cannot be decoded, or a definition that is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The payload is not what the agent wrote.
    #[error("payload has crc {found:08x} where the header says {expected:08x}")]
    Checksum {
        /// The header's.
        expected: u32,
        /// The payload's.
        found: u32,
    },
    /// An encoding that a later version may know. Not final, see [`DecodeError::code`].
    #[error("encoding {0} is not known to this version")]
    UnknownEncoding(i32),
    /// Not a zstd frame of the size announced, or not a `Payload` message.
    #[error("payload is malformed: {0}")]
    Malformed(&'static str),
    /// A limit of the protocol is exceeded.
    #[error("{what} is {found}, the limit is {limit}")]
    TooLarge {
        /// What is limited.
        what: &'static str,
        /// As announced or counted so far.
        found: u64,
        /// The constant of [`crate::limits`].
        limit: u64,
    },
    /// Two counts of the same thing disagree.
    #[error("{what}: {found} found where {expected} were announced")]
    CountMismatch {
        /// What is counted.
        what: &'static str,
        /// As announced.
        expected: i128,
        /// As found so far.
        found: i128,
    },
    /// A name or a kind is not acceptable.
    #[error("{what} {fault}")]
    Invalid {
        /// The field.
        what: &'static str,
        /// What is wrong with it; never the data.
        fault: &'static str,
    },
}

impl DecodeError {
    /// The code to refuse by. `Unspecified` means that the fault is not final (an encoding of
    /// a later version): end the call by a status instead of refusing the batch.
    pub fn code(&self) -> RefusedCode {
        match self {
            Self::UnknownEncoding(_) => RefusedCode::Unspecified,
            Self::Checksum { .. } | Self::Malformed(_) => RefusedCode::Malformed,
            Self::TooLarge { .. } => RefusedCode::TooLarge,
            Self::CountMismatch { .. } => RefusedCode::CountMismatch,
            Self::Invalid { .. } => RefusedCode::Invalid,
        }
    }
}

/// `found` against `limit`, as the error that names both.
pub(super) fn within(what: &'static str, found: u64, limit: usize) -> Result<(), DecodeError> {
    let limit = limit as u64;
    if found > limit {
        return Err(DecodeError::TooLarge { what, found, limit });
    }
    Ok(())
}
