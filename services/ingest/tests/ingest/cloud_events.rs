//! CloudEvents in every mode, and what becomes of them.

use bytes::Bytes;
use carillon_model::Data;
use http::Method;
use serde_json::json;

use crate::fixture::{Answer, Fault, Fixture, hashed};

const STRUCTURED: &str = "application/cloudevents+json";

async fn by_subject() -> Fixture {
    let fixture = Fixture::start().await;
    fixture.set_policy("anonymous: { producers: true }\ncloudevents: { to: { room: \"orders-{subject}\" } }");
    fixture
}

async fn send(fixture: &Fixture, headers: &[(&'static str, &str)], body: impl Into<Bytes>) -> Answer {
    let mut request = fixture.request(body);
    *request.uri_mut() = format!("http://{}/v1/cloudevents", fixture.address)
        .parse()
        .unwrap();
    request.headers_mut().remove("content-type");
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    fixture.send(request).await
}

async fn structured(fixture: &Fixture, body: impl Into<Bytes>) -> Answer {
    send(fixture, &[("content-type", STRUCTURED)], body).await
}

fn event(id: &str, data: &str) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"/shop","type":"shipped","subject":"17","data":{data}}}"#
    )
}

const HEADERS: [(&str, &str); 5] = [
    ("ce-specversion", "1.0"),
    ("CE-ID", "1"),
    ("ce-source", "/shop"),
    ("ce-type", "shipped"),
    ("ce-subject", "17"),
];

#[tokio::test]
async fn an_event_becomes_a_message_in_any_mode() {
    let fixture = by_subject().await;
    let first = structured(&fixture, event("1", r#"{ "n":1.00 }"#)).await;
    first.is_accepted();
    assert_eq!(first.body["rooms"][0]["room"], "orders-17");

    let mut headers = HEADERS.map(|(name, value)| (name.to_ascii_lowercase(), value));
    headers[1].1 = "2";
    let mut headers: Vec<(&'static str, &str)> = headers
        .iter()
        .map(|(name, value)| (&*name.clone().leak(), *value))
        .collect();
    headers.push(("content-type", "application/octet-stream"));
    send(&fixture, &headers, &b"\x00\xff"[..]).await.is_accepted();

    let batch = send(
        &fixture,
        &[("content-type", "application/cloudevents-batch+json")],
        format!("[{},{}]", event("3", "3"), event("4", "4")),
    )
    .await;
    batch.is_accepted();
    assert_eq!(batch.body.as_array().unwrap().len(), 2);
    let none = send(
        &fixture,
        &[("content-type", "application/cloudevents-batch+json")],
        "[]",
    )
    .await;
    assert_eq!(none.is_accepted().body, json!([]));

    let queued = fixture.broker.queued(fixture.partition("orders-17")).await;
    let contents: Vec<_> = queued
        .iter()
        .map(|(_, room, message)| (room.as_str(), message.event.as_str(), message.data.clone()))
        .collect();
    let json = |text: &'static str| Data::Json(Bytes::from_static(text.as_bytes()));
    let data = [
        json(r#"{ "n":1.00 }"#),
        Data::Binary(Bytes::from_static(b"\x00\xff")),
        json("3"),
        json("4"),
    ];
    assert_eq!(contents, data.map(|data| ("orders-17", "shipped", data)));
    fixture.counts("carillon_ingest_messages_total 4");
}

#[tokio::test]
async fn a_redelivered_event_is_one_message() {
    let fixture = by_subject().await;
    let first = structured(&fixture, event("1", "1")).await;
    let again = structured(&fixture, event("1", "1")).await;
    assert_eq!(first.is_accepted().body, again.is_accepted().body);
    let mut headers = HEADERS.to_vec();
    headers[1].0 = "ce-id";
    headers.push(("content-type", "application/json"));
    let binary = send(&fixture, &headers, "1").await;
    assert_eq!(binary.is_accepted().body, first.body, "in another mode as well");
    assert_eq!(
        fixture.broker.queued(fixture.partition("orders-17")).await.len(),
        1
    );

    structured(&fixture, event("1", "2"))
        .await
        .is_problem(422, "key-reused")
        .has("field", "id")
        .has("outcome", "refused")
        .says("`source` and `id`");
    send(&fixture, &headers, "2")
        .await
        .is_problem(422, "key-reused")
        .has("field", "ce-id");
    send(
        &fixture,
        &[("content-type", "application/cloudevents-batch+json")],
        format!("[{},{}]", event("5", "5"), event("1", "2")),
    )
    .await
    .is_problem(422, "key-reused")
    .has("field", "[1].id");

    // A lost answer is safe to repeat.
    fixture.broker.fail(Fault::LoseAnswer);
    structured(&fixture, event("9", "9"))
        .await
        .is_problem(503, "unavailable");
    fixture.broker.heal();
    structured(&fixture, event("9", "9")).await.is_accepted();
}

#[tokio::test]
async fn mistakes_name_the_attribute() {
    let fixture = by_subject().await;
    structured(
        &fixture,
        r#"{"specversion":"1.0","id":"1","source":"/","type":"t"}"#,
    )
    .await
    .is_problem(422, "invalid")
    .has("field", "subject")
    .says("{ room: \"orders-{subject}\" }");
    structured(
        &fixture,
        r#"{"specversion":"0.3","id":"1","source":"/","type":"t","subject":"1"}"#,
    )
    .await
    .is_problem(422, "invalid")
    .has("field", "specversion")
    .has("line", 1);
    let headers = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/")];
    let answer = send(&fixture, &headers, "").await;
    answer
        .is_problem(422, "invalid")
        .has("field", "ce-type")
        .has("errors_total", 2);
    assert!(answer.body.get("line").is_none(), "{answer:?}");
    send(&fixture, &[("content-type", "application/json")], event("1", "1"))
        .await
        .is_problem(422, "invalid")
        .says("application/cloudevents+json");
    structured(&fixture, "{")
        .await
        .is_problem(400, "malformed")
        .has("column", 1);
    send(
        &fixture,
        &[("content-type", "application/cloudevents+xml")],
        "<event/>",
    )
    .await
    .is_problem(415, "media-type");
    send(
        &fixture,
        &[("content-type", STRUCTURED), ("content-encoding", "gzip")],
        event("1", "1"),
    )
    .await
    .is_problem(415, "media-type");
    send(
        &fixture,
        &[("content-type", STRUCTURED), ("idempotency-key", "k")],
        event("1", "1"),
    )
    .await
    .is_problem(422, "invalid")
    .has("field", "Idempotency-Key");
    structured(&fixture, event("1", &format!("\"{}\"", "x".repeat(70_000))))
        .await
        .is_problem(413, "too-large")
        .has("limit", "ingest.message");
    let mut request = fixture.request("");
    *request.method_mut() = Method::GET;
    *request.uri_mut() = format!("http://{}/v1/cloudevents", fixture.address)
        .parse()
        .unwrap();
    let answer = fixture.send(request).await;
    answer.is_problem(405, "method-not-allowed");
    assert_eq!(answer.header("allow"), "POST");
    assert!(fixture.broker.appends.lock().unwrap().is_empty());
}

#[tokio::test]
async fn policy_says_where_events_go_and_who_may_send_them() {
    let fixture = Fixture::start().await;
    structured(&fixture, event("1", "1"))
        .await
        .is_problem(403, "forbidden")
        .says("cloudevents: { to: { room:");
    fixture.set_policy(&format!(
        "producers: [{{name: shop, key_sha256: {}, rooms: [\"user:1*\"], rate: 2/h}}]\n\
         cloudevents: {{ to: {{ user: \"{{subject}}\" }} }}",
        hashed("key")
    ));
    structured(&fixture, event("1", "1"))
        .await
        .is_problem(401, "unauthorized");
    let with_key = |body: String| {
        let fixture = &fixture;
        async move {
            send(
                fixture,
                &[("content-type", STRUCTURED), ("authorization", "Bearer key")],
                body,
            )
            .await
        }
    };
    let answer = with_key(event("1", "1")).await;
    answer.is_accepted();
    assert_eq!(answer.body["rooms"][0]["room"], "user:17");
    assert!(answer.header("ratelimit").starts_with("\"messages\";r=1"));
    with_key(event("1", "1").replace("\"17\"", "\"27\""))
        .await
        .is_problem(403, "forbidden")
        .has("room", "user:27")
        .has("field", "");
    with_key(event("2", "1")).await.is_accepted();
    with_key(event("3", "1")).await.is_problem(429, "quota");
}
