//! What the HTTP port says to right and wrong questions.

use super::*;

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

#[test]
fn a_refusal_is_json_with_the_status_of_its_kind() {
    use http_body_util::BodyExt as _;
    let response = Refusal::method("POST").into_response();
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
