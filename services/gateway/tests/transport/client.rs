//! A client as small as it can be: Engine.IO 4 over a bare WebSocket or bare HTTP, to send what stock clients never do.

use std::{net::SocketAddr, time::Duration};

use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
    /// The session's id, once it is in.
    pub(crate) sid: String,
    /// The connection's id, which is a secret.
    pub(crate) engine_sid: String,
    acks: u64,
    /// What came and was not asked for yet.
    events: Vec<Vec<Value>>,
    answers: Vec<(u64, Value)>,
}

/// What came from the gateway.
#[derive(Debug, PartialEq)]
pub(crate) enum Came {
    /// A Socket.IO packet, as text.
    Packet(String),
    Binary(Vec<u8>),
    /// The transport ended.
    Closed,
}

impl Client {
    /// A WebSocket that has heard Engine.IO's greeting and sent no `CONNECT` yet.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // Small, so that a client that reads nothing is soon full.
        socket.set_recv_buffer_size(16 << 10).unwrap();
        let stream = socket.connect(address).await.unwrap();
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
        let (socket, _) = client_async(url, stream).await.unwrap();
        let mut client = Self {
            socket,
            sid: String::new(),
            engine_sid: String::new(),
            acks: 0,
            events: Vec::new(),
            answers: Vec::new(),
        };
        let Some(Ok(Message::Text(open))) = client.socket.next().await else {
            panic!("no greeting")
        };
        let open: Value = serde_json::from_str(open.strip_prefix('0').unwrap()).unwrap();
        client.engine_sid = open["sid"].as_str().unwrap().to_owned();
        client
    }

    /// A client that is in.
    pub(crate) async fn connect(address: SocketAddr, auth: &str) -> Self {
        let mut client = Self::open(address).await;
        client.send(&format!("40{auth}")).await;
        let Came::Packet(connected) = client.next().await else {
            panic!("closed")
        };
        let sid: Value = serde_json::from_str(connected.strip_prefix('0').unwrap_or(&connected)).unwrap();
        client.sid = sid["sid"]
            .as_str()
            .unwrap_or_else(|| panic!("{connected}"))
            .to_owned();
        client
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    pub(crate) async fn send_binary(&mut self, bytes: &[u8]) {
        self.socket.send(Message::binary(bytes.to_vec())).await.unwrap();
    }

    /// The next thing that is no heartbeat.
    pub(crate) async fn next(&mut self) -> Came {
        loop {
            let came = tokio::time::timeout(PATIENCE, self.socket.next())
                .await
                .expect("nothing came");
            match came {
                Some(Ok(Message::Text(text))) => match text.as_str() {
                    "2" => self.send("3").await,
                    "1" => {}
                    packet => return Came::Packet(packet.strip_prefix('4').unwrap_or(packet).to_owned()),
                },
                Some(Ok(Message::Binary(bytes))) => return Came::Binary(bytes.to_vec()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Came::Closed,
                Some(Ok(_)) => {}
            }
        }
    }

    /// Sends an event and waits for its answer; events that come meanwhile are kept.
    pub(crate) async fn ask(&mut self, event: &str, argument: &str) -> Value {
        let ack = self.emit_with_ack(event, argument).await;
        self.answer(ack).await
    }

    pub(crate) async fn emit_with_ack(&mut self, event: &str, argument: &str) -> u64 {
        self.acks += 1;
        let ack = self.acks;
        self.send(&format!("42{ack}[\"{event}\",{argument}]")).await;
        ack
    }

    pub(crate) async fn answer(&mut self, ack: u64) -> Value {
        loop {
            if let Some(place) = self.answers.iter().position(|(of, _)| *of == ack) {
                return self.answers.remove(place).1;
            }
            match self.next().await {
                Came::Packet(packet) => self.keep(&packet),
                other => panic!("{other:?}"),
            }
        }
    }

    fn keep(&mut self, packet: &str) {
        if let Some(event) = packet.strip_prefix('2') {
            self.events.push(serde_json::from_str(event).unwrap());
        } else if let Some(answer) = packet.strip_prefix('3') {
            let (ack, argument) = answer.split_at(answer.find('[').unwrap());
            let argument: Vec<Value> = serde_json::from_str(argument).unwrap();
            self.answers.push((ack.parse().unwrap(), argument[0].clone()));
        }
    }

    /// The next event with this name, as `[name, data, meta]`; others before it are thrown away.
    pub(crate) async fn event(&mut self, name: &str) -> Vec<Value> {
        loop {
            if let Some(place) = self.events.iter().position(|event| event[0] == name) {
                return self.events.drain(..=place).next_back().unwrap();
            }
            match self.next().await {
                Came::Packet(packet) => self.keep(&packet),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Reads on until the transport ends.
    pub(crate) async fn closed(&mut self) {
        while self.next().await != Came::Closed {}
    }
}

/// One HTTP request; status line, headers and body as text.
pub(crate) async fn request(address: SocketAddr, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let text =
        format!("{head}\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    read.expect("no answer").unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
