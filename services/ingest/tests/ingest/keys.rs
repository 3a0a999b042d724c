//! Idempotency keys.

use serde_json::json;

use crate::fixture::{Fault, Fixture, PARTITIONS, hashed};
use carillon_model::{Partition, PartitionCount};

async fn total(fixture: &Fixture) -> usize {
    let mut total = 0;
    for partition in PartitionCount::new(PARTITIONS).unwrap().partitions() {
        total += fixture.broker.queued(partition).await.len();
    }
    total
}

#[tokio::test]
async fn a_repeat_gets_the_same_answer() {
    let fixture = Fixture::start().await;
    for key in ["a", "b", "c", "ключ"] {
        let body =
            json!({"to": {"rooms": ["lobby", "x", "y"]}, "event": "e", "data": [1], "idempotency_key": key});
        let first = fixture.post(body.to_string()).await;
        let again = fixture.post(body.to_string()).await;
        first.is_accepted();
        again.is_accepted();
        assert_eq!(first.body, again.body);
    }
    assert_eq!(total(&fixture).await, 12);
    let text = fixture.metrics.encode().unwrap();
    assert!(!text.contains("carillon_ingest_repeats_total 0"), "{text}");
}

#[tokio::test]
async fn the_header_is_the_same_as_the_field() {
    let fixture = Fixture::start().await;
    let plain = r#"{"to":{"room":"lobby"},"event":"e","data":1}"#;
    let keyed = r#"{"to":{"room":"lobby"},"event":"e","data":1,"idempotency_key":"k"}"#;
    let first = fixture.post_with(plain, &[("idempotency-key", "k")]).await;
    first.is_accepted();
    assert_eq!(fixture.post(keyed).await.body, first.body);
    assert_eq!(
        fixture.post_with(keyed, &[("idempotency-key", "k")]).await.body,
        first.body
    );
    fixture
        .post_with(keyed, &[("idempotency-key", "other")])
        .await
        .is_problem(422, "invalid")
        .has("field", "idempotency_key");
    fixture
        .post_with(plain, &[("idempotency-key", "")])
        .await
        .is_problem(422, "invalid");
    fixture
        .post_with(format!("[{plain}]"), &[("idempotency-key", "k")])
        .await
        .is_problem(422, "invalid")
        .says("each message has its own");
    assert_eq!(total(&fixture).await, 1);
}

#[tokio::test]
async fn a_key_stands_for_one_content_whatever_differs() {
    let fixture = Fixture::start().await;
    // Many keys and rooms, so that homes of keys and partitions of rooms meet in every way.
    for key in 0..10 {
        let message = |to: &str, event: &str, data: &str| {
            format!(r#"{{"to":{{"room":"{to}"}},"event":"{event}",{data},"idempotency_key":"k{key}"}}"#)
        };
        fixture
            .post(message("lobby", "e", r#""data":"AA==""#))
            .await
            .is_accepted();
        for other in [
            message("lobby", "e", r#""data":2"#),
            message("lobby", "f", r#""data":"AA==""#),
            message("lobby", "e", r#""data_base64":"AA==""#),
            message("attic", "e", r#""data":"AA==""#),
            message("cellar", "e", r#""data":"AA==""#),
            message("garden", "e", r#""data":"AA==""#),
        ] {
            let answer = fixture.post(other).await;
            answer
                .is_problem(422, "key-reused")
                .has("field", "idempotency_key")
                .has("outcome", "refused");
        }
    }
    assert_eq!(total(&fixture).await, 10);
}

#[tokio::test]
async fn a_batch_with_a_used_key_writes_nothing() {
    let fixture = Fixture::start().await;
    fixture
        .post(r#"{"to":{"room":"lobby"},"event":"e","data":1,"idempotency_key":"k"}"#)
        .await
        .is_accepted();
    let batch = r#"[{"to":{"room":"a"},"event":"e","data":1},{"to":{"room":"b"},"event":"e","data":1,"idempotency_key":"new"},
        {"to":{"room":"lobby"},"event":"e","data":2,"idempotency_key":"k"}]"#;
    fixture
        .post(batch)
        .await
        .is_problem(422, "key-reused")
        .has("field", "[2].idempotency_key");
    assert_eq!(total(&fixture).await, 1);

    let twice = r#"[{"to":{"room":"a"},"event":"e","data":1,"idempotency_key":"t"},{"to":{"room":"a"},"event":"e","data":2,"idempotency_key":"t"}]"#;
    fixture
        .post(twice)
        .await
        .is_problem(422, "key-reused")
        .has("field", "[1].idempotency_key");
    let same = twice.replace("\"data\":2", "\"data\":1");
    let answer = fixture.post(same).await;
    answer.is_accepted();
    assert_eq!(answer.body[0], answer.body[1]);
    assert_eq!(total(&fixture).await, 2);
}

#[tokio::test]
async fn keys_belong_to_their_producer() {
    let fixture = Fixture::start().await;
    fixture.set_policy(&format!(
        "anonymous: {{producers: true}}\nproducers:\n- {{name: anonymous, key_sha256: \"{}\", rooms: [\"*\"]}}\n- {{name: b, key_sha256: \"{}\", rooms: [\"*\"]}}",
        hashed("a"),
        hashed("b")
    ));
    let body = r#"{"to":{"room":"lobby"},"event":"e","data":1,"idempotency_key":"k"}"#;
    let mut ids = Vec::new();
    for headers in [&[][..], &[("x-api-key", "a")], &[("x-api-key", "b")]] {
        let answer = fixture.post_with(body, headers).await;
        answer.is_accepted();
        ids.push(answer.body["id"].to_string());
    }
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), total(&fixture).await), (3, 3));
}

#[tokio::test]
async fn repeating_after_a_lost_answer_does_not_double() {
    let fixture = Fixture::start().await;
    let (here, there) = fixture.apart();
    let body =
        json!({"to": {"rooms": [here, there]}, "event": "e", "data": 1, "idempotency_key": "k"}).to_string();
    // The key's claim must pass, or nothing is written at all.
    let home = home_of("k");
    let lossy = [&here, &there]
        .map(|room| fixture.partition(room))
        .into_iter()
        .find(|p| *p != home)
        .unwrap();
    fixture.broker.fail_at(lossy, Fault::LoseAnswer);
    let answer = fixture.post(body.clone()).await;
    answer
        .is_problem(503, "outcome-unknown")
        .has("outcome", "unknown");
    fixture.broker.heal();
    let again = fixture.post(body.clone()).await;
    again.is_accepted();
    assert_eq!(again.body["id"], answer.body["messages"][0]["id"]);
    assert_eq!(total(&fixture).await, 2);
    assert_eq!(fixture.post(body).await.body, again.body);
}

fn home_of(key: &str) -> Partition {
    let id = carillon_model::MessageId::of_idempotency_key("anonymous", key);
    Partition(u16::try_from(id.0.as_u128() % u128::from(PARTITIONS)).unwrap())
}
