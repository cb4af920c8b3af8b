//! Why a call of Deliver ends, and why one batch can never be stored.

use std::net::SocketAddr;
use std::time::Duration;

use weir_journal::AppendError;
use weir_proto::batch::DecodeError;
use weir_proto::{limits, v1};

use super::quota::Over;
use crate::model::{Kind, StreamId};

/// How long an agent is asked to wait when the sink is full.
const RETRY_WHEN_FULL: Duration = Duration::from_secs(5);
/// How long an agent that is over its quota is asked to wait at most: its limit may be raised meanwhile.
const RETRY_OVER_QUOTA: Duration = Duration::from_secs(30);
/// How long an agent is asked to wait when the sink restarts or another connection took over.
const RETRY_SOON: Duration = Duration::from_secs(1);

/// What ends a call. What was accepted before it is still acknowledged once it is durable.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Fault {
    /// A record is missing.
    #[error("sequence {got} leaves a gap: expected sequence {expected}")]
    Gap {
        /// The sequence that must come next.
        expected: u64,
        /// The one that came.
        got: u64,
    },
    /// A skip counts its readings from somewhere else than where the stream stands.
    #[error(
        "skip {from}..={through} begins at reading {got}, the stream stands at reading {expected}"
    )]
    SkipDisagrees {
        /// First sequence, as sent.
        from: u64,
        /// Last sequence.
        through: u64,
        /// The stream's readings so far.
        expected: u64,
        /// Where the skip begins, or for a trimmed one ends.
        got: u64,
    },
    /// The stream was closed, and something follows.
    #[error("stream is closed after sequence {0}: open a new one")]
    Closed(u64),
    /// A close names another sequence than the last one.
    #[error("close names sequence {named}, the last one here is {last}")]
    CloseDisagrees {
        /// As sent.
        named: u64,
        /// The last accepted.
        last: u64,
    },
    /// Something that is not in the protocol; the same bytes will never be taken.
    #[error("{0}")]
    Invalid(String),
    /// The two share no protocol version.
    #[error(
        "agent speaks protocol {min} to {max}, this sink speaks {ours}: upgrade the older of the two",
        ours = limits::PROTOCOL_VERSION
    )]
    Protocol {
        /// The agent's oldest.
        min: u32,
        /// The agent's newest.
        max: u32,
    },
    /// The batch may be fine for a newer sink.
    #[error("batch {sequence} cannot be read yet: {error}: upgrade the sink before its agents")]
    NotYet {
        /// The batch.
        sequence: u64,
        /// What this sink does not know.
        error: DecodeError,
    },
    /// A newer connection serves this stream.
    #[error("another connection took over this stream{}", place(*.0))]
    Displaced(Option<SocketAddr>),
    /// The stream is another agent's, which what was shown is not for.
    #[error("stream {stream} belongs to agent {owner:?}")]
    Foreign {
        /// Which.
        stream: StreamId,
        /// Whose.
        owner: String,
    },
    /// The sink stops.
    #[error("sink is shutting down")]
    Draining,
    /// The sink cannot make anything durable now.
    #[error("sink cannot accept now: {0}")]
    Overloaded(String),
    /// More was sent than may be.
    #[error("{0}")]
    OverQuota(Over),
    /// The journal accepts nothing more until the sink has been restarted.
    #[error("sink cannot accept until it has been restarted: {0}")]
    JournalFailed(String),
    /// A fault of the sink.
    #[error("sink failed: {0}")]
    Internal(String),
}

impl Fault {
    /// What this asks of the agent.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Gap { .. }
            | Self::SkipDisagrees { .. }
            | Self::Closed(_)
            | Self::CloseDisagrees { .. }
            | Self::Protocol { .. } => Kind::Precondition,
            Self::Invalid(_) => Kind::Invalid,
            Self::Displaced(_) => Kind::Displaced,
            Self::Foreign { .. } => Kind::Forbidden,
            Self::OverQuota(_) => Kind::OverQuota,
            Self::NotYet { .. } | Self::Draining | Self::Overloaded(_) | Self::JournalFailed(_) => {
                Kind::Unavailable
            }
            Self::Internal(_) => Kind::Internal,
        }
    }

    /// How long the agent should wait before it tries again; nothing where trying again is no remedy.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Draining | Self::Displaced(_) | Self::JournalFailed(_) => Some(RETRY_SOON),
            Self::Overloaded(_) | Self::NotYet { .. } => Some(RETRY_WHEN_FULL),
            Self::OverQuota(over) => Some(over.wait.min(RETRY_OVER_QUOTA)),
            _ => None,
        }
    }
}

/// From where, for whoever looks for the other one.
fn place(from: Option<SocketAddr>) -> String {
    from.map_or_else(String::new, |address| format!(", from {address}"))
}

impl From<AppendError> for Fault {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Full | AppendError::Busy | AppendError::DiskFull => {
                Self::Overloaded(error.to_string())
            }
            AppendError::Poisoned(_) => Self::JournalFailed(error.to_string()),
            AppendError::Closed => Self::Draining,
            AppendError::TooLarge { .. } => Self::Internal(error.to_string()),
        }
    }
}

/// Why one batch can never be stored: what `Refused` tells the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Of the protocol's closed enum.
    pub code: v1::RefusedCode,
    /// For people; names the fault, never the data.
    pub reason: String,
}

impl Refusal {
    pub(super) fn new(code: v1::RefusedCode, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// A refusal's code as metrics and logs spell it.
pub fn refused_code_name(code: v1::RefusedCode) -> &'static str {
    match code {
        v1::RefusedCode::Unspecified => "unspecified",
        v1::RefusedCode::Malformed => "malformed",
        v1::RefusedCode::TooLarge => "too_large",
        v1::RefusedCode::UnknownSeries => "unknown_series",
        v1::RefusedCode::CountMismatch => "count_mismatch",
        v1::RefusedCode::Invalid => "invalid",
    }
}
