//! Bad input gets a clear error, and nothing of it is written.

use http::Method;
use serde_json::{Value, json};

use crate::fixture::Fixture;

const GOOD: &str = r#"{"to":{"room":"lobby"},"event":"e","data":1}"#;

#[tokio::test]
async fn mistakes_name_line_or_field() {
    let fixture = Fixture::start().await;
    let post = async |body: &str| fixture.post(body.to_owned()).await;
    post("{\"to\":\n  nope}")
        .await
        .is_problem(400, "malformed")
        .has("line", 2)
        .says("line 2, column");
    post("").await.is_problem(400, "malformed").says("empty");
    post(&format!("{GOOD} x")).await.is_problem(400, "malformed");
    post(r#"{"to":"all","event":"e","data":1,"evnt":2}"#)
        .await
        .is_problem(422, "invalid")
        .has("field", "evnt");
    post(r#"{"to":"all","event":7,"data":1}"#)
        .await
        .is_problem(422, "invalid")
        .has("field", "event");
    post(r#"{"to":{"room":""},"event":"e","data":1}"#)
        .await
        .is_problem(422, "invalid")
        .has("field", "to.room");
    post(&format!(
        "[{GOOD},{{\"to\":{{\"room\":\"a\\u0000\"}},\"event\":\"e\",\"data\":1}}]"
    ))
    .await
    .is_problem(422, "invalid")
    .has("field", "[1].to.room")
    .says("control character");
    for field in ["ttl", "at", "receipt", "exclude"] {
        post(&format!(r#"{{"to":"all","event":"e","data":1,"{field}":"30s"}}"#))
            .await
            .is_problem(422, "invalid")
            .has("field", field)
            .says("not supported by this version");
    }
    let several = post(r#"[{"event":"e"},{"to":"all","data":1}]"#).await;
    several.is_problem(422, "invalid").has("errors_total", 3);
    assert_eq!(several.body["errors"].as_array().unwrap().len(), 3);
    fixture
        .post(b"{\"to\":\"\xff\"}".to_vec())
        .await
        .is_problem(400, "malformed")
        .says("UTF-8");
    assert!(fixture.broker.appends.lock().unwrap().is_empty());
    fixture.counts("carillon_ingest_requests_total{outcome=\"accepted\"} 0");
}

#[tokio::test]
async fn limits_are_named() {
    let fixture = Fixture::with(|settings| {
        settings.body_bytes = 4096;
        settings.limits.data_bytes = 1000;
        settings.limits.batch = 3;
        settings.limits.rooms = 5;
        settings.request_copies = 8;
        settings.request_copy_bytes = 3000;
    })
    .await;
    let rooms = |count: usize| (0..count).map(|n| format!("r{n}")).collect::<Vec<_>>();
    let message = |rooms: Vec<String>, data: usize| json!({"to": {"rooms": rooms}, "event": "e", "data": "x".repeat(data)});
    let too_large = async |body: Value, limit: &str| {
        fixture
            .post(body.to_string())
            .await
            .is_problem(413, "too-large")
            .has("limit", limit);
    };
    too_large(message(rooms(1), 4096), "ingest.body").await;
    too_large(message(rooms(1), 999), "ingest.message").await;
    too_large(
        json!([
            message(rooms(1), 1),
            message(rooms(1), 1),
            message(rooms(1), 1),
            message(rooms(1), 1)
        ]),
        "ingest.batch",
    )
    .await;
    too_large(message(rooms(6), 1), "ingest.rooms").await;
    too_large(
        json!([message(rooms(5), 1), message(rooms(4), 1)]),
        "ingest.copies",
    )
    .await;
    too_large(message(rooms(5), 900), "ingest.copy_bytes").await;
    assert!(fixture.broker.appends.lock().unwrap().is_empty());
    fixture
        .post(message(rooms(1), 998).to_string())
        .await
        .is_accepted();
}

#[tokio::test]
async fn requests_may_not_hold_more_memory_than_there_is() {
    let fixture = Fixture::with(|settings| settings.buffered_bytes = 500).await;
    let body = json!({"to": "all", "event": "e", "data": "x".repeat(600)}).to_string();
    fixture
        .post(body)
        .await
        .is_problem(503, "busy")
        .has("outcome", "refused");
    // Refused as it comes, before it is looked at.
    fixture.post("no JSON ".repeat(100)).await.is_problem(503, "busy");
    fixture.post(GOOD).await.is_accepted();
}

#[tokio::test]
async fn other_requests_are_told_what_is_there() {
    let fixture = Fixture::start().await;
    let form = fixture
        .post_with(GOOD, &[("content-type", "application/x-www-form-urlencoded")])
        .await;
    form.is_problem(415, "media-type")
        .says("-H 'Content-Type: application/json'");
    fixture
        .post_with(GOOD, &[("content-type", "text/plain")])
        .await
        .is_problem(415, "media-type");
    fixture
        .post_with(GOOD, &[("content-encoding", "gzip")])
        .await
        .is_problem(415, "media-type");
    fixture
        .post_with(GOOD, &[("content-type", "Application/JSON; charset=utf-8")])
        .await
        .is_accepted();
    let mut request = fixture.request(GOOD);
    request.headers_mut().remove("content-type");
    fixture.send(request).await.is_problem(415, "media-type");

    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let mut request = fixture.request("");
        *request.method_mut() = method;
        let answer = fixture.send(request).await;
        answer.is_problem(405, "method-not-allowed");
        assert_eq!(answer.header("allow"), "POST");
    }
    for path in ["/", "/v1/message", "/v1/messages/"] {
        let mut request = fixture.request(GOOD);
        *request.uri_mut() = format!("http://{}{path}", fixture.address).parse().unwrap();
        fixture
            .send(request)
            .await
            .is_problem(404, "not-found")
            .says("POST /v1/messages");
    }
}

#[tokio::test]
async fn no_other_origin_is_let_in() {
    let fixture = Fixture::start().await;
    let answer = fixture
        .post_with(GOOD, &[("origin", "https://evil.example")])
        .await;
    answer.is_accepted();
    assert!(!answer.headers.contains_key("access-control-allow-origin"));
    let mut preflight = fixture.request("");
    *preflight.method_mut() = Method::OPTIONS;
    fixture
        .send(preflight)
        .await
        .is_problem(405, "method-not-allowed");
}
