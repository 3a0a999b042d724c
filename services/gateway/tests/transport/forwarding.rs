//! Requests that name another gateway, or one that somebody made up.

use carillon_broker::{Incarnation, Member, Membership, ServiceKind};
use carillon_gateway::{
    hub::HubSettings,
    transport::{Forwarding, ForwardingSecret, TransportSettings},
};
use std::time::Duration;

use crate::{
    client::request,
    fixture::{Gateway, OPEN},
};

fn named(pod: &str) -> (TransportSettings, impl FnOnce(&mut HubSettings)) {
    let settings = TransportSettings {
        forwarding: Some(Forwarding {
            pod: pod.to_owned(),
            secret: ForwardingSecret::new(b"what all gateways know").unwrap(),
            requests: 10,
        }),
        ..TransportSettings::default()
    };
    let pod = pod.to_owned();
    (settings, move |hub: &mut HubSettings| {
        hub.pod = pod;
        // It learns of others only by looking for them.
        hub.report = Duration::from_secs(3600);
    })
}

/// The id that a gateway gives to one that polls.
async fn id_of(gateway: &Gateway) -> String {
    let answer = request(
        gateway.address,
        "GET /socket.io/?EIO=4&transport=polling HTTP/1.1",
        "",
    )
    .await;
    let (_, id) = answer.split_once("\"sid\":\"").unwrap();
    id.split_once('"').unwrap().0.to_owned()
}

async fn poll(gateway: &Gateway, id: &str) -> String {
    let head = format!("GET /socket.io/?EIO=4&transport=polling&sid={id} HTTP/1.1");
    request(gateway.address, &head, "").await
}

#[tokio::test]
async fn only_a_name_that_a_gateway_gave_is_looked_for() {
    let (settings, adjust) = named("here");
    let here = Gateway::with(settings, OPEN, adjust).await;
    let (settings, adjust) = named("there");
    // On a broker of its own; what matters is that it has the same secret.
    let there = Gateway::with(settings, OPEN, adjust).await;
    let own = id_of(&here).await;
    assert!(own.starts_with("here."), "{own}");
    assert!(poll(&here, &own).await.starts_with("HTTP/1.1 200"));

    here.until("it is registered", |gateway| gateway.hub.incarnation().is_some())
        .await;
    let id = id_of(&there).await;
    let member = Member {
        kind: ServiceKind::Gateway,
        incarnation: Incarnation::new("there", "1"),
        address: there.address.to_string(),
        version: String::new(),
        capacity: 1,
        sessions: 0,
        last_probe: None,
        draining: false,
        policy_revision: String::new(),
    };
    here.broker
        .register(&member, Duration::from_secs(600))
        .await
        .unwrap();
    // The right name with an id and a seal that are made up: nobody looks, so nobody is found.
    let forged = format!("there.{}", "A".repeat(38));
    assert!(poll(&here, &forged).await.contains("session_gone"));
    // An id that it gave: it is looked for, found, and answers.
    assert!(poll(&here, &id).await.starts_with("HTTP/1.1 200"), "{id}");
    // Known by now, it is found under any id, and says that it does not know this one.
    assert!(poll(&here, &forged).await.contains("session_gone"));
    assert_eq!(
        here.metric("carillon_gateway_forwarded_requests_total", "answered"),
        2
    );
}
