//! What is accepted, and how it lies in the queues.

use carillon_model::{Data, Sender};
use serde_json::{Value, json};

use crate::fixture::{Fixture, hashed};

#[tokio::test]
async fn a_message_is_in_the_queue_when_it_is_accepted() {
    let fixture = Fixture::start().await;
    let answer = fixture
        .post(r#"{"to":{"room":"lobby"},"event":"price","data":{"eur": 42.0}}"#)
        .await;
    answer.is_accepted();
    let queued = fixture.broker.queued(fixture.partition("lobby")).await;
    let [(offset, room, message)] = queued.as_slice() else {
        panic!("{queued:?}")
    };
    assert_eq!(
        answer.body,
        json!({"id": message.id, "rooms": [{"room": "lobby", "offset": offset}]})
    );
    assert_eq!(
        (room.as_str(), message.event.as_str(), message.copies),
        ("lobby", "price", 1)
    );
    assert_eq!(message.data, Data::Json(r#"{"eur": 42.0}"#.into()));
    assert_eq!(message.sender, Sender::Anonymous);
    assert!(message.accepted_at > 1_700_000_000_000);
    fixture.counts("carillon_ingest_requests_total{outcome=\"accepted\"} 1");
    fixture.counts("carillon_ingest_messages_total 1");
    fixture.counts("carillon_ingest_requests_open 0");
}

#[tokio::test]
async fn unicode_and_bytes_arrive_as_they_were() {
    let fixture = Fixture::start().await;
    let text = "{\n \"emoji\": \"🔔\\u00fc\\ud83d\\udd14\", \"deep\": [[{\"a\":[1e2,null]}]]  }";
    fixture
        .post(format!(
            r#"{{"to":{{"room":"lob🔔by"}},"event":"größe","data":{text}}}"#
        ))
        .await
        .is_accepted();
    let queued = fixture.broker.queued(fixture.partition("lob🔔by")).await;
    assert_eq!(queued[0].2.data, Data::Json(text.to_owned().into()));
    assert_eq!(queued[0].2.event.as_str(), "größe");

    fixture
        .post(r#"{"to":{"user":"7"},"event":"e","data_base64":"AP+AIQ=="}"#)
        .await
        .is_accepted();
    let queued = fixture.broker.queued(fixture.partition("user:7")).await;
    assert_eq!(queued[0].2.data, Data::Binary(vec![0, 255, 128, 33].into()));
}

#[tokio::test]
async fn a_message_to_several_rooms_has_one_id_and_an_offset_each() {
    let fixture = Fixture::start().await;
    let rooms: Vec<String> = (0..20).map(|n| format!("r{n}")).collect();
    let answer = fixture
        .post(json!({"to": {"rooms": rooms}, "event": "e", "data": 1}).to_string())
        .await;
    answer.is_accepted();
    let told: Vec<&str> = answer.body["rooms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["room"].as_str().unwrap())
        .collect();
    assert_eq!(told, rooms);
    for told in answer.body["rooms"].as_array().unwrap() {
        let room = told["room"].as_str().unwrap();
        let queued = fixture.broker.queued(fixture.partition(room)).await;
        let (offset, _, message) = queued.iter().find(|(_, name, _)| name == room).unwrap();
        assert_eq!(told["offset"], offset.to_string());
        assert_eq!(
            (json!(message.id), message.copies),
            (answer.body["id"].clone(), 20)
        );
    }
}

#[tokio::test]
async fn a_batch_keeps_its_order_in_each_room() {
    let fixture = Fixture::start().await;
    let rooms = ["a", "b", "c", "all"];
    let messages: Vec<Value> = (0..200)
        .map(|n| match rooms[n % 4] {
            "all" => json!({"to": "all", "event": "e", "data": n}),
            room => json!({"to": {"rooms": [room, "b"]}, "event": "e", "data": n}),
        })
        .collect();
    let before = fixture.broker.appends.lock().unwrap().len();
    let answer = fixture.post(Value::from(messages).to_string()).await;
    answer.is_accepted();
    let appends = fixture.broker.appends.lock().unwrap().len() - before;
    let partitions: std::collections::BTreeSet<_> =
        rooms.iter().map(|room| fixture.partition(room)).collect();
    assert_eq!(appends, partitions.len(), "one append per partition and request");
    assert_eq!(answer.body.as_array().unwrap().len(), 200);
    for room in rooms {
        let queued = fixture.broker.queued(fixture.partition(room)).await;
        let numbers: Vec<usize> = queued
            .iter()
            .filter(|(_, name, _)| name == room)
            .map(|(_, _, message)| match &message.data {
                Data::Json(json) => serde_json::from_slice(json).unwrap(),
                Data::Binary(_) => panic!("binary"),
            })
            .collect();
        assert!(numbers.len() >= 50 && numbers.is_sorted(), "{room}: {numbers:?}");
        for (offset, _, message) in queued.iter().filter(|(_, name, _)| name == room) {
            let told = answer
                .body
                .as_array()
                .unwrap()
                .iter()
                .find(|told| told["id"] == json!(message.id))
                .unwrap();
            let place = told["rooms"]
                .as_array()
                .unwrap()
                .iter()
                .find(|told| told["room"] == room)
                .unwrap();
            assert_eq!(place["offset"], offset.to_string());
        }
    }
}

#[tokio::test]
async fn the_trace_travels_in_the_message() {
    let fixture = Fixture::start().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let body = r#"{"to":{"room":"lobby"},"event":"e","data":1}"#;
    fixture
        .post_with(body, &[("traceparent", trace)])
        .await
        .is_accepted();
    fixture
        .post_with(body, &[("traceparent", "00-zz-1-01")])
        .await
        .is_accepted();
    let queued = fixture.broker.queued(fixture.partition("lobby")).await;
    assert_eq!(
        (queued[0].2.traceparent.as_str(), queued[1].2.traceparent.as_str()),
        (trace, "")
    );
}

#[tokio::test]
async fn a_producer_sends_where_it_may_and_as_often() {
    let fixture = Fixture::start().await;
    fixture.set_policy(&format!(
        "producers: [{{name: billing, key_sha256: [\"{}\", \"{}\"], rooms: [\"user:*\"], rate: 3/h}}]",
        hashed("old"),
        hashed("new")
    ));
    let body = r#"{"to":{"user":"1"},"event":"e","data":1}"#;
    fixture
        .post_with(body, &[("authorization", "Bearer new")])
        .await
        .is_accepted();
    fixture
        .post_with(body, &[("x-api-key", "old")])
        .await
        .is_accepted();
    let queued = fixture.broker.queued(fixture.partition("user:1")).await;
    assert_eq!(queued[0].2.sender, Sender::Producer("billing".to_owned()));

    fixture.post(body).await.is_problem(401, "unauthorized");
    let answer = fixture
        .post_with(body, &[("authorization", "Bearer wrong")])
        .await;
    answer.is_problem(401, "unauthorized");
    assert!(answer.header("www-authenticate").starts_with("Bearer"));
    fixture
        .post_with(body, &[("authorization", "Basic bmV3")])
        .await
        .is_problem(401, "unauthorized");

    let lobby = r#"[{"to":{"user":"1"},"event":"e","data":1},{"to":{"rooms":["user:2","lobby"]},"event":"e","data":1}]"#;
    fixture
        .post_with(lobby, &[("authorization", "Bearer new")])
        .await
        .is_problem(403, "forbidden")
        .has("room", "lobby")
        .has("field", "[1].to");

    fixture
        .post_with(body, &[("authorization", "bearer new")])
        .await
        .is_accepted();
    let answer = fixture.post_with(body, &[("authorization", "Bearer new")]).await;
    answer
        .is_problem(429, "quota")
        .has("outcome", "refused")
        .says("3 messages per hour");
    let batch = format!("[{body},{body},{body},{body}]");
    fixture
        .post_with(batch, &[("authorization", "Bearer new")])
        .await
        .is_problem(413, "too-large");
    assert_eq!(fixture.broker.queued(fixture.partition("user:1")).await.len(), 3);
    fixture.counts("carillon_ingest_rejections_total{reason=\"quota\"} 1");

    // Another rate holds from the next request on.
    fixture.set_policy(&format!(
        "producers: [{{name: billing, key_sha256: \"{}\", rooms: [\"*\"]}}]",
        hashed("new")
    ));
    fixture
        .post_with(body, &[("authorization", "Bearer new")])
        .await
        .is_accepted();
    fixture
        .post_with(body, &[("authorization", "Bearer old")])
        .await
        .is_problem(401, "unauthorized");
}
