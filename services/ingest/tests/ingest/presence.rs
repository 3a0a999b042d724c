//! Who is in a room, for producers.

use std::{sync::Arc, time::Duration};

use carillon_broker::{
    Incarnation, Member, Membership, MemoryBroker, MemoryGate, MemoryLimits, MemoryOptions, Presence,
    PresenceStatement, ServiceKind,
};
use carillon_chassis::metrics::Metrics;
use carillon_ingest::{Ingest, IngestMetrics, IngestSettings, router};
use carillon_model::{PartitionCount, Room, policy::Policy};
use http::{Request, header};
use http_body_util::BodyExt;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

#[tokio::test]
async fn producers_may_know_who_is_in_the_rooms_they_send_to() {
    let partitions = PartitionCount::new(4).unwrap();
    let broker = MemoryBroker::new(MemoryOptions::new(partitions, 1_732_377_600_000));
    let hash = hex::encode(Sha256::digest("key"));
    let policy = format!(
        "rooms:\n- {{ match: quiet }}\n- {{ match: \"*\", presence: true }}\n\
         producers:\n- {{ name: desk, key_sha256: {hash}, rooms: [quiet, \"a/*\"] }}"
    );
    let (_sender, policy) = watch::channel(Arc::new(Policy::parse_yaml(&policy).unwrap()));
    let ingest = Ingest::new(
        IngestSettings::default(),
        partitions,
        Arc::new(broker.clone()),
        Arc::new(broker.clone()),
        MemoryGate::new(MemoryLimits::default()).unwrap(),
        policy,
        IngestMetrics::new(&Metrics::new().unwrap()).unwrap(),
    )
    .with_presence(Arc::new(broker.clone()), partitions);
    let room = Room::new("a/b é").unwrap();
    let living = Incarnation::new("gateway", "1");
    let member = Member {
        kind: ServiceKind::Gateway,
        incarnation: living.clone(),
        address: String::new(),
        version: String::new(),
        capacity: 1,
        sessions: 0,
        last_probe: None,
        draining: false,
        policy_revision: String::new(),
    };
    broker.register(&member, Duration::from_secs(60)).await.unwrap();
    for (gateway, user) in [(living, "ann"), (Incarnation::new("dead", "1"), "ghost")] {
        let statement = PresenceStatement {
            room: room.clone(),
            whole: true,
            people: vec![(Some(Arc::from(user)), Some(2)), (None, Some(1))],
        };
        let partition = partitions.partition_of(&room);
        broker
            .state_presence(partition, &gateway, 1, &[statement])
            .await
            .unwrap();
    }
    let ask = async |room: &str, key: &str| -> (u16, Value) {
        let request = Request::get(format!("/v1/rooms/{room}/presence"))
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
            .body(axum::body::Body::empty())
            .unwrap();
        let service = TowerToHyperService::new(router(ingest.clone()));
        let answer = hyper::service::Service::call(&service, request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    };
    let found = json!({ "room": "a/b é", "users": ["ann"], "sessions": 3 });
    assert_eq!(ask("a%2Fb%20%C3%A9", "key").await, (200, found));
    assert_eq!(ask("a%2Fnobody", "key").await.1["users"], json!([]));
    for (room, key, status, says) in [
        ("a%2Fb", "wrong", 401, "belongs to no producer"),
        ("elsewhere", "key", 403, "not for `elsewhere`"),
        ("quiet", "key", 403, "no presence of `quiet`"),
        ("a%2F%07", "key", 422, "control"),
    ] {
        let (answered, problem) = ask(room, key).await;
        assert_eq!(answered, status, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{problem}");
    }
}
