//! The table of statuses.

use std::collections::HashMap;

use tonic_types::ErrorDetails;

use super::*;

fn kind(code: Code, message: &str) -> Kind {
    Failure::from_status(&Status::new(code, message), true).kind()
}

#[test]
fn what_passes_is_retried() {
    for code in [
        Code::Unavailable,
        Code::ResourceExhausted,
        Code::DeadlineExceeded,
        Code::Cancelled,
        Code::DataLoss,
        Code::Unknown,
        Code::Internal,
    ] {
        assert_eq!(kind(code, "busy"), Kind::Transient, "{code:?}");
    }
}

/// Mutations: an ABORTED that counts as transient has two copies of a machine take their stream from each other all day; a
/// refusal of one stream that is taken for one of the agent holds up all of them.
#[test]
fn what_is_said_of_one_stream_is_told_from_what_is_said_of_the_agent() {
    assert_eq!(kind(Code::Aborted, "taken over"), Kind::Displaced);
    assert_eq!(kind(Code::PermissionDenied, "not yours"), Kind::Denied);
    let told = |reason: &str, domain: &str| {
        let details = ErrorDetails::with_error_info(reason, domain, HashMap::new());
        let status = Status::with_error_details(Code::PermissionDenied, "not yours", details);
        Failure::from_status(&status, true).kind()
    };
    assert_eq!(
        told(reasons::FOREIGN_STREAM, reasons::DOMAIN),
        Kind::Foreign
    );
    assert_eq!(told("SOMETHING_NEWER", reasons::DOMAIN), Kind::Denied);
    assert_eq!(told(reasons::FOREIGN_STREAM, "a proxy"), Kind::Denied);
}

#[test]
fn a_message_too_large_is_recognised_in_all_three_spellings() {
    let tonic =
        "Error, decoded message length too large: found 5242880 bytes, the limit is: 4194304 bytes";
    assert_eq!(kind(Code::OutOfRange, tonic), Kind::Suspect);
    assert_eq!(kind(Code::ResourceExhausted, tonic), Kind::Suspect);
    let go = "grpc: received message larger than max (5242880 vs. 4194304)";
    assert_eq!(kind(Code::ResourceExhausted, go), Kind::Suspect);
}

#[test]
fn the_sinks_hint_is_read() {
    let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(7)));
    let status = Status::with_error_details(Code::ResourceExhausted, "too large a day", details);
    let failure = Failure::from_status(&status, true);
    assert_eq!(failure.hint(), Some(Duration::from_secs(7)));
    assert_eq!(failure.kind(), Kind::Transient);
}

#[test]
fn what_is_no_sink_is_told_from_a_lost_connection() {
    let status = Status::unknown("transport error");
    assert_eq!(Failure::from_status(&status, false).kind(), Kind::Operator);
    assert_eq!(Failure::from_status(&status, true).kind(), Kind::Transient);
    let status = Status::unimplemented("");
    assert_eq!(Failure::from_status(&status, true).kind(), Kind::Operator);
}
