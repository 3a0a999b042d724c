//! Connections that misbehave, and how they end.

use std::time::Duration;

use carillon_gateway::transport::{Origins, TransportSettings};
use carillon_model::Data;

use crate::{
    client::{Came, Client, request},
    fixture::{Gateway, OPEN},
};

const CLOSED: &str = "carillon_gateway_sessions_closed_total";

#[tokio::test]
async fn an_oversized_message_ends_its_session_and_no_other() {
    let gateway = Gateway::start(TransportSettings::default()).await;
    let mut large = Client::connect(gateway.address, "{}").await;
    let mut split = Client::connect(gateway.address, "{}").await;
    let mut fine = Client::connect(gateway.address, "{}").await;
    large.event("cursors").await;
    split.event("cursors").await;
    let text = format!(r#"42["chat message","{}"]"#, "x".repeat(100 << 10));
    large.send(&text).await;
    large.closed().await;
    gateway
        .until("it is counted", |gateway| {
            gateway.metric(CLOSED, "frame_too_large") == 1
        })
        .await;

    // Attachments count together with their event.
    split
        .send(r#"452-["chat message",{"_placeholder":true,"num":0}]"#)
        .await;
    split.send_binary(&[0; 60 << 10]).await;
    split.send_binary(&[0; 60 << 10]).await;
    split.closed().await;
    gateway
        .until("it is counted", |gateway| {
            gateway.metric(CLOSED, "frame_too_large") == 2
        })
        .await;

    let text = format!(r#""{}""#, "x".repeat(60 << 10));
    assert_eq!(fine.ask("chat message", &text).await["ok"], true);
}

#[tokio::test]
async fn what_is_no_packet_ends_the_session() {
    let gateway = Gateway::start(TransportSettings::default()).await;
    let broken = [
        "4",
        "49",
        "42",
        "42{}",
        "42[]",
        "42[1]",
        r#"42["a""#,
        "46",
        "459-[\"a\"]",
    ];
    for (ended, packet) in broken.into_iter().enumerate() {
        let mut client = Client::connect(gateway.address, "{}").await;
        client.event("cursors").await;
        client.send(packet).await;
        client.closed().await;
        let count = ended as u64 + 1;
        gateway
            .until(packet, |gateway| gateway.metric(CLOSED, "protocol") == count)
            .await;
    }
}

#[tokio::test]
async fn a_client_that_never_says_what_it_wants_is_let_go() {
    let settings = TransportSettings {
        connect_timeout: Duration::from_millis(100),
        ..TransportSettings::default()
    };
    let gateway = Gateway::start(settings).await;
    let mut silent = Client::open(gateway.address).await;
    silent.closed().await;
    gateway
        .until("it is gone", |gateway| {
            gateway.metric("carillon_gateway_connections", "websocket") == 0
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_is_cut_off_when_the_hub_says_so() {
    let settings = TransportSettings {
        send_buffer: 16 << 10,
        close_timeout: Duration::from_millis(100),
        ..TransportSettings::default()
    };
    let slow = format!("{OPEN}\n").replace("rooms:\n", "rooms:\n  - { match: \"all\", slow: close }\n");
    let gateway = Gateway::with(settings, &slow, |hub| hub.outbox_bytes = 64 << 10).await;
    let mut stuck = Client::connect(gateway.address, "{}").await;
    stuck.event("cursors").await;
    let mut well = Client::connect(gateway.address, "{}").await;
    // It gets what comes after the place it is told.
    well.event("cursors").await;
    let text = Data::text(&"x".repeat(30 << 10));
    for _ in 0..100 {
        gateway.post("all", "flood", text.clone()).await;
        well.event("flood").await;
    }
    gateway
        .until("it is closed", |gateway| {
            gateway.metric("carillon_gateway_sessions", "") == 1
        })
        .await;
    assert_eq!(gateway.metric(CLOSED, "slow_reader"), 1);
    // Its writer stands still in the kernel; it ends all the same.
    gateway
        .until("it is ended", |gateway| {
            gateway.metric("carillon_gateway_connections", "websocket") == 1
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_gets_everything_in_order_when_it_reads_again() {
    let gateway = Gateway::with(TransportSettings::default(), OPEN, |hub| {
        hub.outbox_bytes = 64 << 10
    })
    .await;
    let mut slow = Client::connect(gateway.address, "{}").await;
    slow.event("cursors").await;
    let filler = "x".repeat(8 << 10);
    for number in 0..100 {
        gateway
            .post("all", "n", Data::Json(format!(r#"[{number},"{filler}"]"#).into()))
            .await;
    }
    for number in 0..100 {
        assert_eq!(slow.event("n").await[1][0], number);
    }
}

#[tokio::test]
async fn pages_of_other_sites_are_let_in_only_from_the_list() {
    let settings = TransportSettings {
        origins: Origins::list(["https://app.example.com"]).unwrap(),
        ..TransportSettings::default()
    };
    let gateway = Gateway::start(settings).await;
    let ask = async |method: &str, origin: &str| {
        let head = format!("{method} /socket.io/?EIO=4&transport=polling HTTP/1.1\r\norigin: {origin}");
        request(gateway.address, &head, "").await.to_ascii_lowercase()
    };
    let own = format!("http://{}", gateway.address);
    let answer = ask("GET", &own).await;
    assert!(
        answer.starts_with("http/1.1 200") && !answer.contains("access-control"),
        "{answer}"
    );
    let answer = ask("GET", "https://app.example.com").await;
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    assert!(
        answer.contains("access-control-allow-origin: https://app.example.com"),
        "{answer}"
    );
    assert!(
        answer.contains("access-control-allow-credentials: true"),
        "{answer}"
    );
    assert!(
        ask("OPTIONS", "https://app.example.com")
            .await
            .starts_with("http/1.1 204")
    );
    let answer = ask("GET", "https://evil.example").await;
    assert!(
        answer.starts_with("http/1.1 403") && answer.contains("origin_refused: "),
        "{answer}"
    );
    assert!(!answer.contains("access-control"), "{answer}");
    assert!(ask("DELETE", &own).await.starts_with("http/1.1 405"));
}

#[tokio::test]
async fn connections_over_the_limit_are_told_so() {
    let settings = TransportSettings {
        connections: 1,
        ..TransportSettings::default()
    };
    let gateway = Gateway::start(settings).await;
    let client = Client::connect(gateway.address, "{}").await;
    let answer = request(gateway.address, "GET / HTTP/1.1", "").await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("gateway_full"),
        "{answer}"
    );
    drop(client);
    gateway
        .until("the place is free", |gateway| {
            gateway.metric("carillon_gateway_connections", "") == 0
        })
        .await;
    assert!(
        request(gateway.address, "GET / HTTP/1.1", "")
            .await
            .starts_with("HTTP/1.1 200")
    );
}

#[tokio::test]
async fn a_broken_upgrade_ends_its_session() {
    let gateway = Gateway::start(TransportSettings::default()).await;
    let path = "/socket.io/?EIO=4&transport=polling";
    let open = request(gateway.address, &format!("GET {path} HTTP/1.1"), "").await;
    let sid = open
        .split("\"sid\":\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    let posted = request(gateway.address, &format!("POST {path}&sid={sid} HTTP/1.1"), "40").await;
    assert!(posted.starts_with("HTTP/1.1 200"), "{posted}");
    gateway
        .until("it is in", |gateway| {
            gateway.metric("carillon_gateway_sessions", "") == 1
        })
        .await;
    let url = format!(
        "ws://{}/socket.io/?EIO=4&transport=websocket&sid={sid}",
        gateway.address
    );
    let stream = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let (probe, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    drop(probe);
    gateway
        .until("it is gone", |gateway| {
            gateway.metric("carillon_gateway_sessions", "") == 0
        })
        .await;
    let unknown = request(gateway.address, &format!("GET {path}&sid={sid} HTTP/1.1"), "").await;
    assert!(unknown.contains("Session ID unknown"), "{unknown}");
}

#[tokio::test]
async fn a_drain_closes_transports_and_then_ends() {
    let mut gateway = Gateway::start(TransportSettings::default()).await;
    let mut one = Client::connect(gateway.address, "{}").await;
    let mut two = Client::connect(gateway.address, "{}").await;
    let mut undecided = Client::open(gateway.address).await;
    one.event("cursors").await;
    two.event("cursors").await;
    gateway.drain.cancel();
    undecided.closed().await;
    // Nobody new is taken in, but those who poll could still go on.
    let refused = request(
        gateway.address,
        "GET /socket.io/?EIO=4&transport=polling HTTP/1.1",
        "",
    )
    .await;
    assert!(
        refused.starts_with("HTTP/1.1 503") && refused.contains("draining: "),
        "{refused}"
    );
    let hub = gateway.hub.clone();
    let draining = tokio::spawn(async move { hub.drain().await });
    // The transport is closed, not the session: no Socket.IO `DISCONNECT` (`1`) comes.
    for client in [&mut one, &mut two] {
        loop {
            match client.next().await {
                Came::Packet(packet) => assert_ne!(packet, "1"),
                Came::Closed => break,
                Came::Binary(_) => {}
            }
        }
    }
    draining.await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), &mut gateway.serving)
        .await
        .expect("it serves on")
        .unwrap();
    assert_eq!(gateway.metric(CLOSED, "draining"), 2);
    assert!(tokio::net::TcpStream::connect(gateway.address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_as_it_comes_leaves_nothing_behind() {
    let gateway = Gateway::start(TransportSettings::default()).await;
    for _ in 0..200 {
        let mut hasty = Client::open(gateway.address).await;
        hasty.send("40{}").await;
        hasty.send("41").await;
    }
    gateway
        .until("none is left", |gateway| {
            gateway.metric("carillon_gateway_sessions", "") == 0
                && gateway.metric("carillon_gateway_connections", "") == 0
        })
        .await;
}
