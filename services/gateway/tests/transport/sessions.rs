//! What a client sees: the handshake, its events and their answers.

use carillon_gateway::{
    identity::{Identities, Key, Tokens},
    transport::TransportSettings,
};
use carillon_model::Data;
use serde_json::json;

use crate::{
    client::{Came, Client},
    fixture::{Gateway, OPEN},
};

#[tokio::test]
async fn a_message_is_one_packet_of_raw_data_and_meta() {
    let gateway = Gateway::start(TransportSettings::default()).await;
    let mut client = Client::connect(gateway.address, "{}").await;
    let cursors = client.event("cursors").await;
    assert_eq!(cursors[1]["all"]["recovered"], true);
    // Spaces, a number that would not survive a float, escapes: as the producer wrote them.
    let data = r#"{ "a":1.10,"big":123456789012345678901, "é":"\u00e9" }"#;
    gateway.post("all", "price", Data::Json(data.into())).await;
    let packet = loop {
        match client.next().await {
            Came::Packet(packet) if packet.contains("price") => break packet,
            Came::Packet(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(
        packet.starts_with(&format!(r#"2["price",{data},{{"room":"all","offset":""#)),
        "{packet}"
    );

    gateway
        .post("all", "bytes", Data::Binary(b"\x00\xff"[..].into()))
        .await;
    let Came::Packet(packet) = client.next().await else {
        panic!("no packet")
    };
    assert!(
        packet.starts_with(r#"51-["bytes",{"_placeholder":true,"num":0},{"#),
        "{packet}"
    );
    assert_eq!(client.next().await, Came::Binary(vec![0, 0xff]));

    assert_ne!(
        client.sid, client.engine_sid,
        "whoever sees a session's id must not be able to speak for it"
    );
    let own = format!("session:{}", client.sid);
    gateway.post(&own, "whisper", Data::text("psst")).await;
    assert_eq!(client.event("whisper").await[1], "psst");
}

/// Nothing was to be acknowledged: answers, also with attachments, change nothing and hold nothing up.
#[tokio::test]
async fn what_nobody_asked_a_client_to_acknowledge_is_passed_over() {
    let gateway = Gateway::start(TransportSettings::default()).await;
    for auth in ["{}", r#"{"acknowledge":true}"#] {
        let mut client = Client::connect(gateway.address, auth).await;
        client.send("431[]").await;
        client.send(r#"43/other,1["x"]"#).await;
        client
            .send(r#"462-1[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#)
            .await;
        client.send_binary(b"one").await;
        client.send_binary(b"two").await;
        let joined = client.ask("join", r#"{"room":"after"}"#).await;
        assert_eq!(joined["ok"], true, "{joined}");
    }
    let mut client = Client::connect(gateway.address, "{}").await;
    client.send("469-1[]").await;
    client.closed().await;
}

/// What a client gets late because it was away says nothing about how fast messages are delivered.
#[tokio::test]
async fn only_live_messages_count_in_the_latency_of_delivery() {
    let gateway = Gateway::start(TransportSettings::default()).await;
    let mut first = Client::connect(gateway.address, "{}").await;
    let offset = first.event("cursors").await[1]["all"]["offset"].clone();
    gateway.post("all", "price", Data::text("1")).await;
    assert_eq!(first.event("price").await[1], "1");
    let name = "carillon_gateway_delivery_seconds";
    gateway
        .until("it is counted", |gateway| gateway.metric(name, "") == 1)
        .await;
    assert_eq!(gateway.metric("carillon_gateway_arrival_seconds", ""), 1);
    assert_eq!(gateway.metric("carillon_gateway_sessions_opened_total", ""), 1);

    let auth = json!({ "since": { "all": offset } }).to_string();
    let mut second = Client::connect(gateway.address, &auth).await;
    assert_eq!(second.event("price").await[1], "1");
    gateway.post("all", "price", Data::text("2")).await;
    assert_eq!(second.event("price").await[1], "2");
    gateway
        .until("both got the second live", |gateway| {
            gateway.metric(name, "") >= 3
        })
        .await;
    assert_eq!(gateway.metric(name, ""), 3, "a replay is not counted");
    assert_eq!(gateway.metric("carillon_gateway_sessions_opened_total", ""), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_publishes_in_a_row_keep_their_order() {
    let gateway = Gateway::start(TransportSettings {
        // And one to join.
        events_at_once: 1_001,
        ..TransportSettings::default()
    })
    .await;
    let mut client = Client::connect(gateway.address, "{}").await;
    assert_eq!(client.ask("join", r#"{"room":"lobby"}"#).await["ok"], true);
    for round in 0..10 {
        let mut acks = Vec::new();
        for number in round * 100..(round + 1) * 100 {
            let publish = format!(r#"{{"room":"lobby","event":"n","data":{number}}}"#);
            acks.push(client.emit_with_ack("publish", &publish).await);
        }
        for ack in acks {
            let answer = client.answer(ack).await;
            assert_eq!(answer["ok"], true, "{answer}");
        }
    }
    for number in 0..1000 {
        assert_eq!(client.event("n").await[1], number);
    }
}

#[tokio::test]
async fn answers_say_what_was_wrong() {
    let gateway = Gateway::start(TransportSettings::default()).await;
    let mut client = Client::connect(gateway.address, "{}").await;
    for (event, argument, code) in [
        ("join", r#"{"room":"all"}"#, "reserved_room"),
        ("join", r#"{"room":"secret"}"#, "forbidden"),
        ("join", r#"{"room":""}"#, "bad_room"),
        ("join", r#"{"room":"a","since":"x"}"#, "bad_request"),
        ("join", r#"{"room":"a","since":"1-0","rewind":1}"#, "bad_request"),
        ("join", r#"{"room":"a","rewind":101}"#, "bad_request"),
        ("join", r#"{"room":"a","else":1}"#, "bad_request"),
        ("join", r#"{"room":"a"},1"#, "bad_request"),
        ("join", r#""a""#, "bad_request"),
        ("leave", r#"{"room":"a"}"#, "not_joined"),
        ("history", r#"{"room":"a"}"#, "not_joined"),
        ("history", r#"{"room":"a","limit":101}"#, "bad_request"),
        ("publish", r#"{"room":"a","event":"connect"}"#, "bad_request"),
        ("publish", r#"{"room":"secret","event":"x"}"#, "forbidden"),
        ("chat message", r#""a","b""#, "bad_request"),
        ("presence", r#"{"room":"a"}"#, "not_joined"),
        ("nobody knows this", "1", "unknown_event"),
    ] {
        let answer = client.ask(event, argument).await;
        assert_eq!(answer["ok"], false, "{event} {argument}");
        assert_eq!(answer["error"]["code"], code, "{event} {argument} {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().len() > 10);
    }
    // Nobody asked for an answer: it is counted, and the connection lives on.
    let before = gateway.metric("carillon_gateway_client_requests_refused_total", "unknown_event");
    client.send(r#"42["nobody knows this"]"#).await;
    assert_eq!(client.ask("join", r#"{"room":"a"}"#).await["ok"], true);
    let after = gateway.metric("carillon_gateway_client_requests_refused_total", "unknown_event");
    assert_eq!(after, before + 1);
}

#[tokio::test]
async fn an_event_without_argument_is_null_and_binary_data_stays_binary() {
    let gateway = Gateway::start(TransportSettings::default()).await;
    let mut client = Client::connect(gateway.address, "{}").await;
    client.event("cursors").await;
    client.send(r#"42["chat message"]"#).await;
    assert!(client.event("chat message").await[1].is_null());
    client
        .send(r#"451-["chat message",{"_placeholder":true,"num":0}]"#)
        .await;
    client.send_binary(b"\x01\x02").await;
    loop {
        match client.next().await {
            Came::Binary(bytes) => break assert_eq!(bytes, [1, 2]),
            Came::Packet(_) => {}
            Came::Closed => panic!("closed"),
        }
    }
    // Bytes inside an object have no place in a message.
    client
        .send(r#"451-7["chat message",{"deep":{"_placeholder":true,"num":0}}]"#)
        .await;
    client.send_binary(b"\x01\x02").await;
    assert_eq!(client.answer(7).await["error"]["code"], "bad_request");
}

#[tokio::test]
async fn joining_leaving_and_looking_back() {
    let gateway = Gateway::start(TransportSettings::default()).await;
    let mut client = Client::connect(gateway.address, "{}").await;
    assert_eq!(client.ask("join", r#"{"room":"lobby"}"#).await["room"], "lobby");
    let mut offsets = Vec::new();
    for number in 0..5 {
        let publish = format!(r#"{{"room":"lobby","event":"n","data":{number}}}"#);
        offsets.push(
            client.ask("publish", &publish).await["offset"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    for number in 0..5 {
        assert_eq!(client.event("n").await[1], number);
    }
    let history = client.ask("history", r#"{"room":"lobby","limit":2}"#).await;
    let numbers = |history: &serde_json::Value| {
        let messages = history["messages"].as_array().unwrap().iter();
        messages
            .map(|message| message["data"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(numbers(&history), [4, 3], "{history}");
    assert_eq!(history["messages"][0]["offset"], *offsets[4]);
    let before = json!({ "room": "lobby", "before": offsets[3], "limit": 100 }).to_string();
    assert_eq!(numbers(&client.ask("history", &before).await), [2, 1, 0]);
    let nothing = client.ask("history", r#"{"room":"lobby","before":"0-0"}"#).await;
    assert_eq!(numbers(&nothing), [0_u64; 0]);
    // Many at once are answered one after the other, each.
    let mut acks = Vec::new();
    for limit in 1..=30 {
        let ask = json!({ "room": "lobby", "limit": limit }).to_string();
        acks.push(client.emit_with_ack("history", &ask).await);
    }
    for (place, ack) in acks.into_iter().enumerate() {
        assert_eq!(numbers(&client.answer(ack).await).len(), (place + 1).min(5));
    }

    let mut late = Client::connect(gateway.address, "{}").await;
    let joined = late
        .ask(
            "join",
            &json!({ "room": "lobby", "since": offsets[2] }).to_string(),
        )
        .await;
    assert_eq!(joined["recovered"], true, "{joined}");
    assert_eq!(late.event("n").await[1], 3);
    assert_eq!(late.event("n").await[1], 4);

    // A leave behind a join that is still under way does not overtake it.
    let join = client
        .emit_with_ack("join", r#"{"room":"other","rewind":1}"#)
        .await;
    let leave = client.emit_with_ack("leave", r#"{"room":"other"}"#).await;
    assert_eq!(client.answer(join).await["ok"], true);
    assert_eq!(client.answer(leave).await["ok"], true);
    assert_eq!(
        client.ask("leave", r#"{"room":"other"}"#).await["error"]["code"],
        "not_joined"
    );
}

#[tokio::test]
async fn cursors_brought_along_are_caught_up() {
    let gateway = Gateway::start(TransportSettings::default()).await;
    let mut client = Client::connect(gateway.address, "{}").await;
    client.ask("join", r#"{"room":"lobby"}"#).await;
    let first = client
        .ask("publish", r#"{"room":"lobby","event":"n","data":1}"#)
        .await;
    client.event("n").await;
    drop(client);
    gateway.post("lobby", "n", Data::Json("2".into())).await;
    let auth = json!({ "since": { "lobby": first["offset"], "secret": "1-0", "session:old": "1-0" } });
    let mut again = Client::connect(gateway.address, &auth.to_string()).await;
    let mut told = serde_json::Map::new();
    while told.len() < 4 {
        told.extend(again.event("cursors").await[1].as_object().unwrap().clone());
    }
    assert_eq!(
        told["lobby"],
        json!({ "offset": first["offset"], "recovered": true })
    );
    assert_eq!(told["secret"]["error"]["code"], "forbidden");
    assert!(told["session:old"].is_null());
    assert_eq!(again.event("n").await[1], 2);
}

#[tokio::test]
async fn a_client_with_more_cursors_than_it_may_have_rooms_is_let_in_and_told() {
    let gateway = Gateway::with(TransportSettings::default(), OPEN, |hub| {
        hub.rooms_per_session = 2
    })
    .await;
    let since = json!({ "all": "1-0", "session:old": "1-0", "a": "1-0", "b": "1-0", "c": "1-0" });
    let auth = json!({ "since": since });
    let mut client = Client::connect(gateway.address, &auth.to_string()).await;
    let mut told = serde_json::Map::new();
    while told.len() < 5 {
        told.extend(client.event("cursors").await[1].as_object().unwrap().clone());
    }
    assert!(told["all"]["offset"].is_string() && told["session:old"].is_null());
    let rooms = ["a", "b", "c"].map(|room| &told[room]);
    let refused: Vec<_> = rooms.iter().filter(|note| note["error"].is_object()).collect();
    assert_eq!(refused.len(), 1, "{told:?}");
    assert_eq!(refused[0]["error"]["code"], "too_many_rooms");
}

#[tokio::test]
async fn who_is_not_let_in_is_told_why() {
    let settings = TransportSettings {
        identities: Identities {
            tokens: Tokens {
                keys: [Key::hs256(b"secret")].into(),
                ..Tokens::default()
            },
            logins: None,
        },
        ..TransportSettings::default()
    };
    let gateway = Gateway::with(settings, "anonymous: { sessions: false }", |_| {}).await;
    for (auth, code) in [
        ("", "anonymous_refused"),
        (r#"{"token":""}"#, "anonymous_refused"),
        (r#"{"token":"x"}"#, "token_invalid"),
        (r#"{"token":5}"#, "token_invalid"),
        ("[]", "bad_request"),
    ] {
        let mut client = Client::open(gateway.address).await;
        client.send(&format!("40{auth}")).await;
        let Came::Packet(refusal) = client.next().await else {
            panic!("closed")
        };
        assert!(
            refusal.starts_with(&format!(r#"4{{"message":"{code}: "#)),
            "{refusal}"
        );
        assert!(gateway.metric("carillon_gateway_handshakes_refused_total", code) > 0);
    }
    let mut client = Client::open(gateway.address).await;
    client.send("40/admin,").await;
    assert_eq!(
        client.next().await,
        Came::Packet(r#"4/admin,{"message":"Invalid namespace"}"#.to_owned())
    );

    let claims = json!({ "sub": "42" });
    let key = jsonwebtoken::EncodingKey::from_secret(b"secret");
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
    let mut client = Client::connect(gateway.address, &json!({ "token": token }).to_string()).await;
    while client.event("cursors").await[1].get("user:42").is_none() {}
    gateway.post("user:42", "hello", Data::text("you")).await;
    let hello = client.event("hello").await;
    assert_eq!((&hello[1], &hello[2]["room"]), (&json!("you"), &json!("user:42")));
}
