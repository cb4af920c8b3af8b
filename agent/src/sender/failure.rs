//! What a failed attempt means: how long to wait, how loud to be, whose fault it may be.
//!
//! In: a status, a broken connection, a silence. Out: a [`Failure`] with its kind. Promises: nothing
//! ends delivery for good. Every failure is tried again; what differs is the delay and the log line.
//!
//! | what the sink answers | what the agent does |
//! |---|---|
//! | UNAVAILABLE, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED and what else may pass | again after a delay, at least the sink's hint |
//! | FAILED_PRECONDITION | again at once on a new call, from where its Welcome says |
//! | ABORTED: another connection took the stream over | an error for the operator, this stream again after five minutes: two agents run on one spool |
//! | PERMISSION_DENIED for one stream, which another agent began | an error for the operator, this stream again very slowly, see `waits.rs` |
//! | INVALID_ARGUMENT, OUT_OF_RANGE, or a message too large for it | one batch at a time, to find the one; that one is set aside |
//! | UNAUTHENTICATED, PERMISSION_DENIED | an error for the operator, again very slowly, or once the file of its token has changed |
//! | a TLS that one of the two does not accept | an error for the operator, again slowly |
//! | UNIMPLEMENTED, or no gRPC at all | an error that names the URL, again slowly |

use std::error::Error;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorInfo, StatusExt};
use weir_process::tls;
use weir_proto::reasons;

use crate::dead_letter::KeepError;
use crate::identity::CredentialError;
use crate::spool::SpoolError;

#[cfg(test)]
mod tests;

/// Why an attempt ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// No connection.
    #[error("cannot reach the sink: {0}")]
    Unreachable(String),
    /// No TLS came about, or the sink ended it.
    #[error("{0}")]
    Tls(String),
    /// The call ended with a status.
    #[error("the sink answered {code}: {message}", code = code_name(*code))]
    Status {
        code: Code,
        message: String,
        /// How long the sink asks to be left alone.
        hint: Option<Duration>,
        oversize: bool,
    },
    /// Whatever answers there does not speak this protocol.
    #[error("{0}")]
    NotASink(String),
    /// Sent data, or a Hello, and heard nothing for too long.
    #[error("the sink was silent for {} s", .0.as_secs())]
    Silent(Duration),
    /// The sink ended the call in the middle.
    #[error("the sink ended the call")]
    Ended,
    /// The sink has another content under this stream's id.
    #[error("the stream has forked: {0}")]
    Forked(String),
    /// The stream is another agent's, and the credential is not for that one.
    #[error("the sink answered permission_denied: {0}")]
    Foreign(String),
    /// The agent's own disk.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// There is nothing to show the sink.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// There is no identity to connect with.
    #[error("{0}")]
    Identity(String),
    /// A refused batch could not be set aside.
    #[error(transparent)]
    DeadLetter(#[from] KeepError),
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Passes by itself.
    Transient,
    /// A new call resumes where the sink says.
    Resume,
    /// One of the batches outstanding may be the cause.
    Suspect,
    /// Only an operator can mend it.
    Operator,
    /// Only another credential can mend it.
    Denied,
    /// Somebody else delivers this stream.
    Displaced,
    /// Only a credential for another name can mend it, for this stream alone.
    Foreign,
    /// The stream has to be begun anew.
    Forked,
}

impl Failure {
    /// From the status a call ended with. `welcomed`: whether a sink has ever answered this agent.
    pub(crate) fn from_status(status: &Status, welcomed: bool) -> Failure {
        let code = status.code();
        let message = status.message().to_owned();
        if let Some(text) = ended_tls(status) {
            return Failure::Tls(text);
        }
        let foreign = !welcomed && matches!(code, Code::Unknown | Code::Internal | Code::Cancelled);
        if code == Code::Unimplemented || foreign {
            return Failure::NotASink(reason_of(status));
        }
        let reason = reason_of(status);
        if code == Code::Internal && reason.contains(BREACH) {
            return Failure::NotASink(format!(
                "what answers there is no weir sink, it does not speak HTTP/2 (an HTTP/1 server?): {reason}"
            ));
        }
        let told = status.get_details_error_info();
        let foreign = |told: &ErrorInfo| {
            told.reason == reasons::FOREIGN_STREAM && told.domain == reasons::DOMAIN
        };
        if code == Code::PermissionDenied && told.as_ref().is_some_and(foreign) {
            return Failure::Foreign(message);
        }
        let hint = status
            .get_details_retry_info()
            .and_then(|info| info.retry_delay);
        Failure::Status {
            code,
            oversize: code == Code::ResourceExhausted && hint.is_none() && is_oversize(&message),
            message,
            hint,
        }
    }

    /// What follows from it.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Failure::Status { oversize: true, .. } => Kind::Suspect,
            Failure::Status { code, .. } => match code {
                Code::InvalidArgument | Code::OutOfRange => Kind::Suspect,
                Code::FailedPrecondition => Kind::Resume,
                Code::Aborted => Kind::Displaced,
                Code::Unauthenticated | Code::PermissionDenied => Kind::Denied,
                _ => Kind::Transient,
            },
            Failure::NotASink(_) | Failure::Tls(_) => Kind::Operator,
            Failure::Forked(_) => Kind::Forked,
            Failure::Foreign(_) => Kind::Foreign,
            Failure::Credential(_) | Failure::Identity(_) => Kind::Denied,
            Failure::Unreachable(_) | Failure::Silent(_) | Failure::Ended => Kind::Transient,
            Failure::Spool(_) | Failure::DeadLetter(_) => Kind::Operator,
        }
    }

    /// How long the sink asks to be left alone.
    pub(crate) fn hint(&self) -> Option<Duration> {
        match self {
            Failure::Status { hint, .. } => *hint,
            _ => None,
        }
    }

    /// The label of the retry counter.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Failure::Status { code, .. } => code_name(*code),
            Failure::Unreachable(_) => "unreachable",
            Failure::NotASink(_) => "not_a_sink",
            Failure::Tls(_) => "tls",
            Failure::Silent(_) => "silent",
            Failure::Ended => "ended",
            Failure::Forked(_) => "forked",
            Failure::Foreign(_) => code_name(Code::PermissionDenied),
            Failure::Credential(_) => "credential",
            Failure::Identity(_) => "identity",
            Failure::DeadLetter(KeepError::Full(_)) => "dead_letters_full",
            Failure::Spool(_) | Failure::DeadLetter(_) => "disk",
        }
    }
}

/// What a sink's TLS says of this agent after the handshake: that of a client's certificate is heard only then. Also what
/// a TLS port says to who speaks none.
pub(crate) fn ended_tls(status: &Status) -> Option<String> {
    status.source()?;
    let reason = reason_of(status);
    if reason.contains("INADEQUATE_SECURITY") || reason.contains("this port speaks TLS") {
        return Some("the sink speaks TLS: write https:// in sink.url".to_owned());
    }
    tls::in_text(&reason)
}

/// What h2 says where the other side breaks the rules of HTTP/2, which a sink never does.
const BREACH: &str = "connection error detected";

/// grpc-go and tonic word it differently; neither gives a detail to go by.
fn is_oversize(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    [
        "larger than max",
        "message length",
        "too large",
        "size limit",
    ]
    .iter()
    .any(|words| message.contains(words))
}

/// A status made on this side hides its cause below: "transport error" alone helps nobody.
pub(crate) fn reason_of(error: &(dyn Error + 'static)) -> String {
    let mut text = match error.downcast_ref::<Status>() {
        Some(status) => status.message().to_owned(),
        None => error.to_string(),
    };
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// The code as labels and log lines spell it.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}
