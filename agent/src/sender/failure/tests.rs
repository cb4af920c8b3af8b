//! The table of statuses.

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

/// Mutation: an ABORTED that counts as transient has two copies of a machine take their stream from
/// each other all day.
#[test]
fn a_displaced_agent_leaves_the_other_alone_for_five_minutes() {
    assert_eq!(kind(Code::Aborted, "taken over"), Kind::Displaced);
    let millis = Duration::from_millis;
    let mut retry = crate::sender::retry::Retry::new(millis(5), millis(50));
    assert!(retry.next_displaced(Some(millis(1000))) >= Duration::from_secs(300));
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
