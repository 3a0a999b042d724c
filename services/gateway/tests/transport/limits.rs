//! What one process, user and session may do, and what whoever does more is told.

use std::time::Duration;

use carillon_gateway::{
    identity::{Identities, Key, Tokens},
    transport::TransportSettings,
};
use serde_json::{Value, json};

use crate::{
    client::{Came, Client, request},
    fixture::{Gateway, OPEN},
};

const REFUSED: &str = "carillon_gateway_handshakes_refused_total";
const CLOSED: &str = "carillon_gateway_sessions_closed_total";

#[tokio::test]
async fn a_session_that_sends_too_quickly_is_told_when_to_go_on() {
    let settings = TransportSettings {
        events: 20,
        events_at_once: 3,
        ..TransportSettings::default()
    };
    let gateway = Gateway::start(settings).await;
    let mut quick = Client::connect(gateway.address, "{}").await;
    let mut acks = Vec::new();
    for _ in 0..5 {
        acks.push(quick.emit_with_ack("chat message", "1").await);
    }
    let mut answers = Vec::new();
    for ack in acks {
        answers.push(quick.answer(ack).await);
    }
    assert!(
        answers[..3].iter().all(|answer| answer["ok"] == true),
        "{answers:?}"
    );
    let error = &answers[4]["error"];
    assert_eq!(error["code"], "rate_limited");
    let wait = error["retry_after_ms"].as_u64().unwrap();
    assert!((1..=150).contains(&wait), "{wait}");
    assert!(gateway.metric("carillon_gateway_client_requests_refused_total", "rate_limited") > 0);
    tokio::time::sleep(Duration::from_millis(wait)).await;
    assert_eq!(quick.ask("chat message", "1").await["ok"], true, "as it was told");
    let mut other = Client::connect(gateway.address, "{}").await;
    assert_eq!(other.ask("chat message", "1").await["ok"], true);
}

/// One event a second, two at once; twenty are borne.
fn few_events() -> TransportSettings {
    TransportSettings {
        events: 1,
        events_at_once: 2,
        ..TransportSettings::default()
    }
}

async fn is_closed_for_flooding(gateway: &Gateway, client: &mut Client) {
    client.closed().await;
    gateway
        .until("it is counted", |gateway| gateway.metric(CLOSED, "flooding") == 1)
        .await;
}

#[tokio::test]
async fn a_session_that_floods_is_closed_with_a_reason() {
    let gateway = Gateway::start(few_events()).await;
    let mut flooding = Client::connect(gateway.address, "{}").await;
    for _ in 0..21 {
        flooding.send(r#"42["chat message","x"]"#).await;
    }
    is_closed_for_flooding(&gateway, &mut flooding).await;
    let mut other = Client::connect(gateway.address, "{}").await;
    assert_eq!(other.ask("chat message", "1").await["ok"], true);
}

/// What nobody answers is bounded as well: acknowledgements, and what hangs on them.
#[tokio::test]
async fn a_session_that_floods_with_acknowledgements_is_closed_too() {
    let gateway = Gateway::start(few_events()).await;
    let mut flooding = Client::connect(gateway.address, "{}").await;
    for id in 0..19 {
        flooding.send(&format!("43{id}[]")).await;
    }
    let borne = flooding.ask("chat message", "1").await;
    assert_eq!(borne["ok"], true, "they take nothing from its events: {borne}");
    for id in 0..21 {
        flooding.send(&format!("43{id}[]")).await;
    }
    is_closed_for_flooding(&gateway, &mut flooding).await;
}

#[tokio::test]
async fn a_user_has_so_many_sessions_and_no_more() {
    let settings = TransportSettings {
        identities: Identities {
            tokens: Tokens {
                keys: [Key::hs256(b"secret")].into(),
                ..Tokens::default()
            },
            logins: None,
        },
        sessions_per_user: 2,
        ..TransportSettings::default()
    };
    let gateway = Gateway::with(settings, OPEN, |_| {}).await;
    let auth = |user: &str| {
        let claims = json!({ "sub": user, "exp": 4_000_000_000_u64 });
        let key = jsonwebtoken::EncodingKey::from_secret(b"secret");
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
        json!({ "token": token }).to_string()
    };
    let _one = Client::connect(gateway.address, &auth("ann")).await;
    let two = Client::connect(gateway.address, &auth("ann")).await;
    let mut three = Client::open(gateway.address).await;
    three.send(&format!("40{}", auth("ann"))).await;
    let Came::Packet(refusal) = three.next().await else {
        panic!("closed")
    };
    let refusal: Value = serde_json::from_str(refusal.strip_prefix('4').unwrap()).unwrap();
    let message = refusal["message"].as_str().unwrap();
    assert!(message.starts_with("too_many_sessions: "), "{message}");
    assert_eq!(gateway.metric(REFUSED, "too_many_sessions"), 1);
    // One that comes back, with cursors, may be here still as who it was before: it is made to try again by itself.
    let mut back = Client::open(gateway.address).await;
    let mut returning: Value = serde_json::from_str(&auth("ann")).unwrap();
    returning["since"] = json!({ "all": "1-0" });
    back.send(&format!("40{returning}")).await;
    back.closed().await;
    assert_eq!(gateway.metric(REFUSED, "too_many_sessions"), 2);
    let _ben = Client::connect(gateway.address, &auth("ben")).await;
    let _nobody = Client::connect(gateway.address, "{}").await;
    drop(two);
    gateway
        .until("one is gone", |gateway| {
            gateway.metric(CLOSED, "client_gone") == 1
        })
        .await;
    let _again = Client::connect(gateway.address, &auth("ann")).await;
}

#[tokio::test]
async fn too_many_that_connect_at_once_are_asked_to_come_back() {
    let settings = TransportSettings {
        connects: 2,
        ..TransportSettings::default()
    };
    let gateway = Gateway::start(settings).await;
    let polling = "GET /socket.io/?EIO=4&transport=polling HTTP/1.1";
    let mut first = Client::connect(gateway.address, "{}").await;
    assert!(
        request(gateway.address, polling, "")
            .await
            .starts_with("HTTP/1.1 200")
    );
    let answer = request(gateway.address, polling, "").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(
        answer.contains("retry-after: 1") && answer.contains(r#""code":"connect_rate""#),
        "{answer}"
    );
    assert_eq!(gateway.metric(REFUSED, "connect_rate"), 1);
    // Those who are in are not concerned, and a little later there is a place again.
    assert_eq!(first.ask("chat message", "1").await["ok"], true);
    tokio::time::sleep(Duration::from_millis(600)).await;
    let _second = Client::connect(gateway.address, "{}").await;
}

const PRESENCE: &str = r#"
anonymous: { sessions: true }
rooms:
  - { match: quiet, join: anyone }
  - { match: "*", join: anyone, publish: anyone, presence: true }
"#;

#[tokio::test]
async fn presence_is_asked_for_and_watched_by_those_who_are_in_the_room() {
    let gateway = Gateway::with(TransportSettings::default(), PRESENCE, |_| {}).await;
    let mut client = Client::connect(gateway.address, "{}").await;
    let code = |answer: Value| answer["error"]["code"].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        code(client.ask("presence", r#"{"room":"lobby"}"#).await),
        "not_joined"
    );
    let joined = client.ask("join", r#"{"room":"lobby","presence":true}"#).await;
    assert_eq!((&joined["ok"], &joined["presence"]), (&json!(true), &json!(true)));
    let told = client.event("presence").await;
    assert_eq!(told[1], json!({ "room": "lobby", "users": [], "sessions": 1 }));
    let seen = client.ask("presence", r#"{"room":"lobby"}"#).await;
    assert_eq!(
        seen,
        json!({ "ok": true, "room": "lobby", "users": [], "sessions": 1 })
    );
    let joined = client.ask("join", r#"{"room":"quiet","presence":true}"#).await;
    assert_eq!(
        (&joined["ok"], &joined["presence"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(
        code(client.ask("presence", r#"{"room":"quiet"}"#).await),
        "forbidden"
    );
    assert_eq!(
        code(client.ask("presence", r#"{"room":"lobby","x":1}"#).await),
        "bad_request"
    );
    let joined = client.ask("join", r#"{"room":"lobby"}"#).await;
    assert_eq!(joined.get("presence"), None);
}
