//! Words every part of the sink shares: which stream, which kind of error, which reason of a drop.
//!
//! Generated types stop at `grpc`, `ingest` and `envelope`. An error answers `kind()`, and
//! [`Kind`] holds the one table that turns a kind into a gRPC code and an HTTP status.

use std::fmt;
use std::sync::Arc;

use weir_proto::v1;

/// The tenant of whoever shows no credential.
pub const DEFAULT_TENANT: &str = "default";

/// 16 random bytes an agent drew when it opened its spool; shown as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub [u8; 16]);

impl StreamId {
    /// Nothing unless there are exactly 16 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// From 32 hex digits, as `Display` writes them.
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        u128::from_str_radix(text, 16)
            .ok()
            .map(|n| Self(n.to_be_bytes()))
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What watermarks, dictionaries and the ledger are kept by.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct StreamKey {
    /// Immutable slug.
    pub tenant: Arc<str>,
    /// The stream within the tenant.
    pub id: StreamId,
}

impl StreamKey {
    /// The key of `id` within `tenant`.
    pub fn new(tenant: &str, id: StreamId) -> Self {
        Self {
            tenant: Arc::from(tenant),
            id,
        }
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.id)
    }
}

/// What somebody with a credential may do. Each of the last three may do what the one before it may.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// Deliver, and nothing else.
    Agent,
    /// Ask: SQL, the ledger, files, metrics.
    Reader,
    /// Settle lost spools, accept the loss of files.
    Operator,
    /// Read the audit log.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Agent, Self::Reader, Self::Operator, Self::Admin];

    /// As it is written in tokens, the catalog and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Reader => "reader",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// Longest slug of a tenant, in bytes.
pub const MAX_TENANT_BYTES: usize = 63;

/// Whether this can be a tenant's slug, which stands in paths and certificates: lower case letters, digits and
/// hyphens, with a letter or digit at both ends.
pub fn is_tenant(slug: &str) -> bool {
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = slug.as_bytes();
    let inside = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    bytes.len() <= MAX_TENANT_BYTES
        && bytes.iter().all(inside)
        && ends(bytes.first())
        && ends(bytes.last())
}

/// What an error asks of whoever gets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The request can never be right as it stands.
    Invalid,
    /// It is not known who asks.
    Unauthenticated,
    /// The request is understood and not allowed.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// The request does not fit the state: a gap, a protocol that is too old or too new.
    Precondition,
    /// The request or its answer exceeds a limit.
    TooLarge,
    /// It took longer than it may.
    Timeout,
    /// Too much at once: try again a little later.
    Busy,
    /// More than this caller may have: the same works again once it is made up for.
    OverQuota,
    /// The sink cannot accept now: full or draining.
    Unavailable,
    /// Somebody else took over.
    Displaced,
    /// A fault of the sink.
    Internal,
}

impl Kind {
    /// The one table: name in JSON, gRPC code, HTTP status.
    pub const fn wire(self) -> (&'static str, tonic::Code, http::StatusCode) {
        use http::StatusCode as S;
        use tonic::Code as C;
        match self {
            Self::Invalid => ("invalid", C::InvalidArgument, S::BAD_REQUEST),
            Self::Unauthenticated => ("unauthenticated", C::Unauthenticated, S::UNAUTHORIZED),
            Self::Forbidden => ("forbidden", C::PermissionDenied, S::FORBIDDEN),
            Self::NotFound => ("not_found", C::NotFound, S::NOT_FOUND),
            Self::Precondition => ("precondition", C::FailedPrecondition, S::CONFLICT),
            Self::TooLarge => ("too_large", C::ResourceExhausted, S::UNPROCESSABLE_ENTITY),
            Self::Timeout => ("timeout", C::DeadlineExceeded, S::GATEWAY_TIMEOUT),
            Self::OverQuota => ("over_quota", C::ResourceExhausted, S::TOO_MANY_REQUESTS),
            Self::Busy => ("busy", C::Unavailable, S::TOO_MANY_REQUESTS),
            Self::Displaced => ("displaced", C::Aborted, S::CONFLICT),
            Self::Unavailable => ("unavailable", C::Unavailable, S::SERVICE_UNAVAILABLE),
            Self::Internal => ("internal", C::Internal, S::INTERNAL_SERVER_ERROR),
        }
    }

    /// The name in JSON answers and logs.
    pub const fn name(self) -> &'static str {
        self.wire().0
    }

    /// What a gRPC client sees.
    pub const fn code(self) -> tonic::Code {
        self.wire().1
    }

    /// What an HTTP client sees.
    pub const fn status(self) -> http::StatusCode {
        self.wire().2
    }
}

/// Drop reasons as the ledger and metrics spell them: the enum's name in lower snake, without its prefix.
pub fn drop_reason_name(reason: v1::DropReason) -> &'static str {
    match reason {
        v1::DropReason::Unspecified => "unspecified",
        v1::DropReason::SpoolOldest => "spool_oldest",
        v1::DropReason::SpoolNewest => "spool_newest",
        v1::DropReason::QueueOldest => "queue_oldest",
        v1::DropReason::QueueNewest => "queue_newest",
        v1::DropReason::Damaged => "damaged",
        v1::DropReason::Refused => "refused",
        v1::DropReason::SinkRolledBack => "sink_rolled_back",
    }
}

/// The sink's own reason: what an agent still held of a stream when its spool was lost.
pub const SPOOL_LOST: &str = "spool_lost";

/// The sink's own reason: a reading of a series that is beyond a limit on series.
pub const SERIES_LIMIT: &str = "series_limit";

/// The sink's own reason: a record the fold could not take in; it is in the sink's dead-letter store.
pub const FOLD_ERROR: &str = "fold_error";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_id_survives_its_text() {
        let id = StreamId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        assert_eq!(id.to_string(), "000102030405060708090a0b0c0d0eff");
        assert_eq!(StreamId::from_hex(&id.to_string()), Some(id));
        assert_eq!(StreamId::from_hex("xyz"), None);
        assert_eq!(StreamId::from_slice(&[1, 2]), None);
    }

    /// Red when a slash or a dot is let into paths of the store.
    #[test]
    fn a_tenant_is_a_slug() {
        for good in ["default", "a", "plant-7", "0"] {
            assert!(is_tenant(good), "{good}");
        }
        let long = "a".repeat(MAX_TENANT_BYTES + 1);
        for bad in ["", "-a", "a-", "A", "a/b", "..", "a.b", "a b", "ä", &long] {
            assert!(!is_tenant(bad), "{bad}");
        }
    }

    #[test]
    fn drop_reasons_are_spelled_as_in_the_protocol() {
        for number in 0..=7 {
            let reason = v1::DropReason::try_from(number).expect("a reason of the protocol");
            let expected = reason
                .as_str_name()
                .trim_start_matches("DROP_REASON_")
                .to_lowercase();
            assert_eq!(drop_reason_name(reason), expected);
        }
        assert!(
            v1::DropReason::try_from(8).is_err(),
            "a new reason needs a name here"
        );
    }
}
