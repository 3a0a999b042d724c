//! The three outcomes, by a broker that fails.

use std::time::Duration;

use carillon_broker::BrokerError;
use carillon_model::Offset;
use serde_json::json;
use tokio::time::Instant;

use crate::fixture::{Fault, Fixture, until};

const BODY: &str = r#"{"to":{"room":"lobby"},"event":"e","data":1}"#;

#[tokio::test]
async fn refusals_are_certain() {
    let fixture = Fixture::start().await;
    for (fault, status, kind) in [
        (Fault::Full, 429, "queue-full"),
        (
            Fault::Error(BrokerError::OutOfMemory("OOM".to_owned())),
            429,
            "memory",
        ),
        (
            Fault::Error(BrokerError::Unavailable("connection refused".to_owned())),
            503,
            "unavailable",
        ),
        (Fault::Error(BrokerError::LifeChanged), 503, "unavailable"),
        (
            Fault::Error(BrokerError::Misconfigured("evicts".to_owned())),
            503,
            "unavailable",
        ),
        (
            Fault::Error(BrokerError::Rejected {
                reason: "ERR nobody knows why".to_owned(),
                half_done: false,
            }),
            503,
            "unavailable",
        ),
    ] {
        fixture.broker.fail(fault);
        fixture
            .post(BODY)
            .await
            .is_problem(status, kind)
            .has("outcome", "refused")
            .says("nothing was written");
    }
    fixture.counts("carillon_ingest_requests_total{outcome=\"refused\"} 6");
    fixture.broker.heal();
    fixture.post(BODY).await.is_accepted();
    assert_eq!(fixture.broker.queued(fixture.partition("lobby")).await.len(), 1);
}

#[tokio::test]
async fn a_lost_answer_is_an_unknown_outcome() {
    let fixture = Fixture::start().await;
    fixture.broker.fail(Fault::LoseAnswer);
    let answer = fixture.post(BODY).await;
    answer
        .is_problem(503, "outcome-unknown")
        .has("outcome", "unknown");
    assert_eq!(
        answer.body["messages"][0]["rooms"],
        json!([{"room": "lobby", "outcome": "unknown"}])
    );
    fixture
        .broker
        .fail(Fault::Error(BrokerError::Corrupt("what is this".to_owned())));
    fixture
        .post(BODY)
        .await
        .is_problem(503, "outcome-unknown")
        .has("outcome", "unknown");
    fixture.broker.fail(Fault::Error(BrokerError::Rejected {
        reason: "ERR in the middle of a script".to_owned(),
        half_done: true,
    }));
    fixture
        .post(BODY)
        .await
        .is_problem(503, "outcome-unknown")
        .has("outcome", "unknown");
    fixture.counts("carillon_ingest_requests_total{outcome=\"unknown\"} 3");
}

#[tokio::test]
async fn a_broker_that_never_answers_is_waited_for_so_long() {
    let fixture = Fixture::with(|settings| settings.write_timeout = Duration::from_millis(300)).await;
    fixture.broker.fail(Fault::Hang);
    let started = Instant::now();
    fixture
        .post(BODY)
        .await
        .is_problem(503, "outcome-unknown")
        .has("outcome", "unknown")
        .says("300ms");
    assert!(started.elapsed() >= Duration::from_millis(300) && started.elapsed() < Duration::from_secs(5));
    // A key that can't even be claimed: nothing was written, and that is certain.
    let (here, there) = fixture.apart();
    let keyed = json!({"to": {"rooms": [here, there]}, "event": "e", "data": 1, "idempotency_key": "k"});
    fixture
        .post(keyed.to_string())
        .await
        .is_problem(503, "unavailable")
        .has("outcome", "refused");
}

#[tokio::test]
async fn a_request_that_ends_in_the_middle_is_told_room_by_room() {
    let fixture = Fixture::start().await;
    let (here, there) = fixture.apart();
    let body = json!([
        {"to": {"room": here}, "event": "e", "data": 1},
        {"to": {"rooms": [there, here]}, "event": "e", "data": 2},
    ])
    .to_string();
    fixture.broker.fail_at(fixture.partition(&there), Fault::Full);
    let answer = fixture.post(body.clone()).await;
    answer.is_problem(429, "queue-full").has("outcome", "partial");
    let queued = fixture.broker.queued(fixture.partition(&here)).await;
    assert_eq!(
        answer.body["messages"],
        json!([
            {"id": queued[0].2.id, "rooms": [{"room": here, "outcome": "accepted", "offset": queued[0].0}]},
            {"id": queued[1].2.id, "rooms": [
                {"room": there, "outcome": "refused"},
                {"room": here, "outcome": "accepted", "offset": queued[1].0},
            ]},
        ])
    );
    fixture.counts("carillon_ingest_requests_total{outcome=\"partial\"} 1");

    fixture
        .broker
        .fail_at(fixture.partition(&there), Fault::LoseAnswer);
    let answer = fixture.post(body).await;
    answer
        .is_problem(503, "outcome-unknown")
        .has("outcome", "unknown");
    assert_eq!(answer.body["messages"][1]["rooms"][0]["outcome"], "unknown");
    assert_eq!(answer.body["messages"][1]["rooms"][1]["outcome"], "accepted");
}

#[tokio::test]
async fn above_its_share_of_memory_nothing_is_accepted() {
    let fixture = Fixture::start().await;
    fixture.post(BODY).await.is_accepted();
    *fixture.broker.pressure.lock().unwrap() = Ok(0.81);
    let line = |share: &str| {
        let text = fixture.metrics.encode().unwrap();
        text.contains(&format!("carillon_redis_memory_ratio {share}\n"))
    };
    until(|| line("0.81")).await;
    fixture
        .post(BODY)
        .await
        .is_problem(429, "memory")
        .has("outcome", "refused")
        .says("81 %");
    *fixture.broker.pressure.lock().unwrap() = Ok(0.8);
    until(|| line("0.8")).await;
    fixture.post(BODY).await.is_accepted();
    assert_eq!(fixture.broker.queued(fixture.partition("lobby")).await.len(), 2);
}

#[tokio::test]
async fn readiness_says_why_and_recovers() {
    let fixture = Fixture::start().await;
    until(|| fixture.ingest.readiness().is_ok()).await;
    *fixture.broker.pressure.lock().unwrap() = Err(BrokerError::Unavailable("connection refused".to_owned()));
    until(|| fixture.ingest.readiness().is_err()).await;
    assert!(
        fixture
            .ingest
            .readiness()
            .unwrap_err()
            .contains("connection refused")
    );
    *fixture.broker.check.lock().unwrap() = Err(BrokerError::Misconfigured("set noeviction".to_owned()));
    *fixture.broker.pressure.lock().unwrap() = Ok(0.1);
    until(|| fixture.ingest.readiness() == Err("set noeviction".to_owned())).await;
    *fixture.broker.check.lock().unwrap() = Ok(());
    until(|| fixture.ingest.readiness().is_ok()).await;
}

#[tokio::test]
async fn every_append_brings_the_greatest_offset_known() {
    let fixture = Fixture::start().await;
    fixture.post(BODY).await.is_accepted();
    fixture.post(BODY).await.is_accepted();
    fixture.post(BODY).await.is_accepted();
    let queued = fixture.broker.queued(fixture.partition("lobby")).await;
    let known: Vec<Offset> = fixture
        .broker
        .appends
        .lock()
        .unwrap()
        .iter()
        .map(|append| append.known)
        .collect();
    assert_eq!(known, [Offset::ZERO, queued[0].0, queued[1].0]);
}
