//! One connection of `carillon tail` to a gateway: a small Socket.IO client over WebSocket.
//!
//! There is a library, `rust_socketio`. It can give another `auth` for each reconnect, but it insists on `native-tls`, which
//! this house does not have (deny.toml), and hides when a connection ended and why. What is needed here is little.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, value::RawValue};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message},
};

use super::packet::Packet;

/// What comes.
#[derive(Debug)]
pub(super) enum Incoming {
    /// An event: its name and arguments, and the bytes that belong to them.
    Event(Vec<Box<RawValue>>, Vec<Vec<u8>>),
    /// The answer to the question of this number.
    Answer(u64, Value),
}

/// Why a connection does not stand.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Trying again may help.
    Away(String),
    /// Trying again changes nothing: the gateway said why, beginning with a code.
    Refused(String),
}

/// How long a gateway may take for each step until the session stands.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Connection {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    silence: Duration,
    questions: u64,
}

impl Connection {
    /// Connects to a gateway and begins a session with this `auth`.
    pub(super) async fn open(gateway: &str, auth: &Value) -> Result<Self, Trouble> {
        let url = format!("{}/socket.io/?EIO=4&transport=websocket", websocket(gateway));
        let connected = timeout(PATIENCE, connect_async(&url)).await;
        let (socket, _) = connected
            .map_err(|_| Trouble::Away("no answer within 10 s".to_owned()))?
            .map_err(|error| Trouble::Away(reason(error)))?;
        let mut connection = Self {
            socket,
            silence: PATIENCE,
            questions: 0,
        };
        let Packet::Open(silence) = connection.packet().await? else {
            return Err(Trouble::Away(
                "what answers there does not speak Socket.IO".to_owned(),
            ));
        };
        connection.send(format!("40{auth}")).await?;
        loop {
            match connection.packet().await? {
                Packet::Connected => break,
                Packet::Refused(why) => return Err(Trouble::Refused(why)),
                Packet::Close => return Err(closed()),
                _ => {}
            }
        }
        connection.silence = silence;
        Ok(connection)
    }

    /// Asks something that is answered under the number returned.
    pub(super) async fn ask(&mut self, event: &str, question: &Value) -> Result<u64, Trouble> {
        self.questions += 1;
        let arguments = serde_json::json!([event, question]);
        self.send(format!("42{}{arguments}", self.questions)).await?;
        Ok(self.questions)
    }

    /// What comes next. To be waited for to the end, or what it had read so far is lost.
    pub(super) async fn next(&mut self) -> Result<Incoming, Trouble> {
        loop {
            match self.packet().await? {
                Packet::Event(arguments, attachments) => {
                    let mut bytes = Vec::new();
                    while bytes.len() < attachments {
                        match self.frame().await? {
                            Message::Binary(frame) => bytes.push(frame.to_vec()),
                            _ => {
                                return Err(Trouble::Away(
                                    "bytes were announced and did not come".to_owned(),
                                ));
                            }
                        }
                    }
                    return Ok(Incoming::Event(arguments, bytes));
                }
                Packet::Answer(number, arguments) => {
                    let first = arguments.first().map_or("null", |argument| argument.get());
                    return Ok(Incoming::Answer(
                        number,
                        serde_json::from_str(first).unwrap_or_default(),
                    ));
                }
                Packet::Close => return Err(closed()),
                Packet::Refused(why) => return Err(Trouble::Refused(why)),
                Packet::Open(_) | Packet::Connected | Packet::Ping | Packet::Other => {}
            }
        }
    }

    /// Says goodbye, so that the gateway need not find out.
    pub(super) async fn close(mut self) {
        let _ = timeout(Duration::from_millis(500), async {
            let _ = self.send("41".to_owned()).await;
            let _ = self.socket.close(None).await;
        })
        .await;
    }

    async fn packet(&mut self) -> Result<Packet, Trouble> {
        loop {
            let Message::Text(text) = self.frame().await? else {
                continue;
            };
            match Packet::parse(&text) {
                Some(Packet::Ping) => self.send("3".to_owned()).await?,
                Some(packet) => return Ok(packet),
                None => return Err(Trouble::Away("a packet that is none of Socket.IO".to_owned())),
            }
        }
    }

    async fn frame(&mut self) -> Result<Message, Trouble> {
        match timeout(self.silence, self.socket.next()).await {
            Err(_) => Err(Trouble::Away("nothing was heard for too long".to_owned())),
            Ok(None) => Err(closed()),
            Ok(Some(Err(error))) => Err(Trouble::Away(reason(error))),
            Ok(Some(Ok(message))) => Ok(message),
        }
    }

    async fn send(&mut self, text: String) -> Result<(), Trouble> {
        let sent = timeout(self.silence, self.socket.send(Message::text(text))).await;
        match sent {
            Err(_) => Err(Trouble::Away("the gateway does not read".to_owned())),
            Ok(Err(error)) => Err(Trouble::Away(reason(error))),
            Ok(Ok(())) => Ok(()),
        }
    }
}

fn closed() -> Trouble {
    Trouble::Away("the gateway closed the connection".to_owned())
}

/// A gateway's address as that of its WebSocket.
fn websocket(gateway: &str) -> String {
    let gateway = gateway.trim_end_matches('/');
    match gateway.split_once("://") {
        Some(("http", rest)) => format!("ws://{rest}"),
        Some(("https", rest)) => format!("wss://{rest}"),
        Some(_) => gateway.to_owned(),
        None => format!("ws://{gateway}"),
    }
}

/// What a gateway that does not let in for now says is in the body of its answer.
fn reason(error: Error) -> String {
    let Error::Http(answer) = error else {
        return error.to_string();
    };
    let status = answer.status();
    let body = answer.into_body().unwrap_or_default();
    match serde_json::from_slice::<Value>(&body) {
        Ok(body) => {
            let said = body["message"].as_str().or_else(|| body["code"].as_str());
            format!("{status}: {}", said.unwrap_or("no reason was given"))
        }
        Err(_) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::websocket;

    #[test]
    fn addresses_become_those_of_websockets() {
        assert_eq!(websocket("http://h:3000/"), "ws://h:3000");
        assert_eq!(websocket("https://push.example.com"), "wss://push.example.com");
        assert_eq!(websocket("h:3000"), "ws://h:3000");
        assert_eq!(websocket("wss://h"), "wss://h");
    }
}
