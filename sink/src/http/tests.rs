//! What the HTTP port says to right and wrong questions.

use super::*;
use crate::ingest::{Mark, Seen, StreamView};
use crate::model::{StreamId, StreamKey};

#[test]
fn the_ledgers_parameters_are_read_and_others_are_named() {
    let filter = Filter::parse("agent=edge%201&open=true").unwrap();
    assert_eq!(
        filter,
        Filter {
            agent: Some("edge 1".into()),
            open: true,
            audit: false
        }
    );
    assert_eq!(Filter::parse("").unwrap(), Filter::default());
    assert!(Filter::parse("audit").unwrap().audit);
    let unknown = Filter::parse("agnet=x").unwrap_err();
    assert_eq!(unknown.status, StatusCode::BAD_REQUEST);
    assert!(unknown.message.contains("agnet"), "{}", unknown.message);
    assert!(Filter::parse("open=perhaps").is_err());
}

fn view(first: u8, second: u8) -> StreamView {
    let mut id = [first; 16];
    id[4] = second;
    StreamView {
        key: StreamKey::new("default", StreamId(id)),
        durable: Mark::default(),
        closed: false,
        seen: Seen::default(),
    }
}

/// Red when a prefix is taken for the first stream that has it.
#[test]
fn a_stream_is_named_by_as_many_digits_as_tell_it_apart() {
    let streams = [view(0xAB, 1), view(0xCD, 2), view(0xCD, 3)];
    let named = |text: &str| wanted(&format!("stream={text}"), &streams);
    assert_eq!(named("abababab").unwrap().stream, Some(streams[0].key.id));
    assert_eq!(named("CDCDCDCD03").unwrap().stream, Some(streams[2].key.id));
    let whole = streams[1].key.id.to_string();
    assert_eq!(named(&whole).unwrap().stream, Some(streams[1].key.id));
    for (text, told) in [
        ("cdcdcdcd", "more than one"),
        ("efefefef", "no stream"),
        ("ababab", "8 hex digits"),
        ("abababax", "8 hex digits"),
        ("", "8 hex digits"),
    ] {
        let refusal = named(text).unwrap_err();
        assert!(refusal.message.contains(told), "{}", refusal.message);
    }
}

/// Red when a closed stream is left out whatever it holds.
#[test]
fn a_closed_stream_that_does_not_add_up_is_shown_among_the_open_ones() {
    let filter = Filter::parse("open").unwrap();
    let mut closed = view(1, 1);
    closed.closed = true;
    let mut line = ledger::lines(Vec::new(), &[closed], 0).remove(0);
    assert!(!filter.lets(&line));
    line.spooled = 5;
    assert!(filter.lets(&line));
    (line.spooled, line.unexplained) = (0, -5);
    assert!(filter.lets(&line));
    line.closed = false;
    assert!(filter.lets(&line));
}

#[test]
fn a_refusal_is_json_with_the_status_of_its_kind() {
    use http_body_util::BodyExt as _;
    let response = Refusal::method(&Method::POST).into_response();
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(response.headers()[header::ALLOW], "POST");
    let body = response.into_body().collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let body = runtime.block_on(body).unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["error"]["kind"], "method_not_allowed");
    assert_eq!(body["error"]["message"], "use POST here");
}
