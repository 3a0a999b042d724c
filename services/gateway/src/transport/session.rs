//! One client: from its connection to its end.
//!
//! Engine.IO calls us back for every packet, in order and without waiting; one task per client does the waiting: it
//! takes the handshake, asks the hub for a session, and then writes what the hub puts into the session's outbox.
//! What the client asks for is handled in [`requests`](super::requests).

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use engineioxide::{DisconnectReason, ProtocolVersion, Str, socket::Sid};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::{
    engine::Shared,
    expiry::{Expiry, write_until_expired},
    flow::{Closed, Sender},
    handshake::{Auth, HandshakeCode, HandshakeRefusal},
    limits::{EventLimits, Place},
    packet::{ClientPacket, Packet},
    requests::{Heard, Line},
    websocket::Wire,
};
use crate::{
    hub::{CloseReason, Connect, OutboxReceiver, SessionHandle},
    identity::Identified,
};

/// A connection of Engine.IO with what we keep of it.
pub(super) type EngineSocket = engineioxide::Socket<Slot>;

/// Binary attachments an event may have. Only one can be used; the rest is read to be refused with an answer.
const ATTACHMENTS: usize = 8;

type Asked = Result<Auth, HandshakeRefusal>;

/// What we keep with a connection of Engine.IO.
#[derive(Debug, Default)]
pub(super) struct Slot {
    state: Mutex<State>,
    /// An event whose attachments are still to come.
    partial: Mutex<Option<Partial>>,
    /// Why the connection ended, once it has.
    end: watch::Sender<Option<CloseReason>>,
    /// A message or request over the limit was seen.
    pub(super) too_large: AtomicBool,
    /// The TCP connection beneath, where the client has one of its own: a WebSocket.
    pub(super) wire: Mutex<Option<Wire>>,
}

#[derive(Debug, Default)]
enum State {
    /// Its `CONNECT` is awaited.
    Waiting(oneshot::Sender<Asked>),
    /// It has asked and is not in, or will never be.
    #[default]
    Outside,
    /// It is in.
    Live(Arc<Session>),
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Auth")
    }
}

#[derive(Debug)]
struct Partial {
    body: String,
    ack: Option<u64>,
    expected: usize,
    attachments: Vec<Bytes>,
    bytes: usize,
}

/// A client that was let in.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) handle: SessionHandle,
    pub(super) sender: Sender,
    pub(super) line: Line,
    pub(super) events: EventLimits,
    /// When the session's identity ends; a refresh moves it.
    pub(super) expiry: Expiry,
    _place: Place,
    pub(super) shared: Arc<Shared>,
    end: watch::Receiver<Option<CloseReason>>,
}

impl Session {
    /// Answers an event, unless the connection ends first.
    pub(super) async fn answer(&self, packet: Packet) {
        let mut end = self.end.clone();
        tokio::select! {
            biased;
            _ = end.wait_for(Option::is_some) => {}
            _ = self.sender.send(packet) => {}
        }
    }
}

impl Slot {
    /// The connection has ended.
    pub(super) fn ended(&self, reason: DisconnectReason) {
        let wire = self.wire.lock().clone();
        let too_large = self.too_large.load(Ordering::Relaxed)
            || wire.is_some_and(|wire| wire.too_large.load(Ordering::Relaxed));
        let reason = match reason {
            _ if too_large => CloseReason::FrameTooLarge,
            DisconnectReason::TransportClose | DisconnectReason::TransportError => CloseReason::ClientGone,
            DisconnectReason::HeartbeatTimeout => CloseReason::PingTimeout,
            DisconnectReason::MultipleHttpPollingError | DisconnectReason::PacketParsingError => {
                CloseReason::Protocol
            }
            DisconnectReason::ClosingServer => CloseReason::Internal,
        };
        self.end_with(reason);
    }

    fn end_with(&self, reason: CloseReason) {
        self.end.send_if_modified(|end| match end {
            Some(_) => false,
            None => {
                *end = Some(reason);
                true
            }
        });
    }
}

/// Takes over a new connection. Its task ends with it.
pub(super) fn open(shared: Arc<Shared>, socket: Arc<EngineSocket>) {
    let (asks, asked) = oneshot::channel();
    if socket.protocol == ProtocolVersion::V3 {
        // Clients of version 2 are in the namespace `/` from the start.
        let query = socket.req_parts.uri.query().unwrap_or_default();
        let _ = asks.send(Auth::from_query(query));
    } else {
        *socket.data.state.lock() = State::Waiting(asks);
    }
    tokio::spawn(run(shared, socket, asked));
}

async fn run(shared: Arc<Shared>, socket: Arc<EngineSocket>, asked: oneshot::Receiver<Asked>) {
    let mut end = socket.data.end.subscribe();
    let admitted = tokio::select! {
        biased;
        _ = end.wait_for(Option::is_some) => None,
        admitted = admit(&shared, &socket, asked) => admitted,
    };
    let Some((session, outbox)) = admitted else {
        *socket.data.state.lock() = State::Outside;
        return;
    };
    tokio::select! {
        biased;
        reason = end.wait_for(Option::is_some) => {
            let reason = reason.ok().and_then(|reason| *reason);
            session.handle.closed(reason.unwrap_or(CloseReason::Internal));
        }
        reason = write_until_expired(&session, &outbox) => {
            tracing::debug!(session = %session.handle.id(), reason = reason.as_str(), "closing a transport");
            session.handle.closed(reason);
            socket.data.end_with(reason);
            close_transport(&shared, &socket);
        }
    }
    *socket.data.state.lock() = State::Outside;
}

/// From the handshake to the session, or to the refusal.
async fn admit(
    shared: &Arc<Shared>,
    socket: &Arc<EngineSocket>,
    asked: oneshot::Receiver<Asked>,
) -> Option<(Arc<Session>, OutboxReceiver)> {
    let patience = shared.settings.connect_timeout;
    let asked = tokio::select! {
        biased;
        asked = tokio::time::timeout(patience, asked) => asked,
        // The hub hands over its sessions; this one isn't its yet.
        () = shared.draining.cancelled() => {
            close_transport(shared, socket);
            return None;
        }
    };
    let Ok(Ok(asked)) = asked else {
        tracing::debug!("a connection without CONNECT is closed");
        close_transport(shared, socket);
        return None;
    };
    let refusal = match ask_for_session(shared, socket, asked).await {
        Ok(admitted) => return Some(admitted),
        Err(refusal) => refusal,
    };
    shared.metrics.refused(refusal.code);
    tracing::debug!(code = refusal.code.as_str(), "a client was not let in");
    let told = shared.settings.tell_outages && matches!(refusal.code, HandshakeCode::Identity(_));
    if refusal.code.is_passing() && !told {
        // A stock client takes a `connect_error` for final. From a lost transport it comes back by itself, with its
        // growing pauses, and that is what helps here.
        close_transport(shared, socket);
        return None;
    }
    let plain = socket.protocol == ProtocolVersion::V3;
    let packet = Packet::connect_error("/", &refusal.to_string(), plain);
    let _ = Sender::new(Arc::clone(socket)).send(packet).await;
    // Stock clients go by themselves.
    tokio::select! {
        biased;
        () = shared.draining.cancelled() => {}
        () = tokio::time::sleep(patience) => {}
    }
    close_transport(shared, socket);
    None
}

async fn ask_for_session(
    shared: &Arc<Shared>,
    socket: &Arc<EngineSocket>,
    asked: Asked,
) -> Result<(Arc<Session>, OutboxReceiver), HandshakeRefusal> {
    let auth = asked?;
    let anonymous = shared.policy.borrow().anonymous_sessions;
    let cookies = socket.req_parts.headers.get(http::header::COOKIE);
    let cookies = cookies.and_then(|cookies| cookies.to_str().ok());
    let identities = &shared.settings.identities;
    let identified = identities.identify(auth.token()?, cookies, anonymous).await?;
    let Identified { identity, expires } = identified;
    let place = shared.limits.enter(identity.user.as_ref())?;
    let since = auth.cursors(shared.settings.cursors)?;
    // Whoever knows the Engine.IO id can speak for a client that polls, and session ids are no secret: they name
    // rooms, and the demo shows them to everybody. Only clients of version 2 insist on one id for both.
    let (id, told): (Arc<str>, _) = match socket.protocol {
        ProtocolVersion::V3 => (told_id(shared, socket), false),
        ProtocolVersion::V4 => (Sid::new().as_str().into(), true),
    };
    let connect = Connect {
        id: Arc::clone(&id),
        identity,
        since,
    };
    let unavailable = |message: String| HandshakeRefusal::new(HandshakeCode::Unavailable, message);
    let mut handle = shared
        .hub
        .connect(connect)
        .await
        .map_err(|refusal| HandshakeRefusal::new(refusal.code.into(), refusal.message))?;
    let outbox = handle
        .take_outbox()
        .ok_or_else(|| unavailable("the session has no outbox".to_owned()))?;
    let session = Arc::new(Session {
        handle,
        sender: Sender::new(Arc::clone(socket)),
        line: Line::default(),
        events: EventLimits::new(&shared.settings),
        expiry: Expiry::new(expires),
        _place: place,
        shared: Arc::clone(shared),
        end: socket.data.end.subscribe(),
    });
    *socket.data.state.lock() = State::Live(Arc::clone(&session));
    session
        .sender
        .send(Packet::connect(told.then_some(&*id)))
        .await
        .map_err(|Closed| unavailable("the connection has ended".to_owned()))?;
    Ok((session, outbox))
}

/// The id a client of version 2 was told: one that polled first got it with the gateway's name.
fn told_id(shared: &Shared, socket: &EngineSocket) -> Arc<str> {
    let polled = !socket
        .req_parts
        .uri
        .query()
        .unwrap_or_default()
        .contains("transport=websocket");
    match &shared.peers {
        Some(peers) if polled => peers.own.name(socket.id.as_str()).into(),
        _ => socket.id.as_str().into(),
    }
}

/// Closes the connection, not the Socket.IO session above it: stock clients come back from the former only.
fn close_transport(shared: &Shared, socket: &EngineSocket) {
    socket.close(DisconnectReason::ClosingServer);
    let wire = socket.data.wire.lock().clone();
    if let Some(Wire { switch, .. }) = wire {
        let patience = shared.settings.close_timeout;
        tokio::spawn(async move {
            tokio::time::sleep(patience).await;
            if !switch.is_gone() {
                tracing::debug!("a connection that could not be closed is ended");
                switch.kill();
            }
        });
    }
}

/// A text came from the client.
pub(super) fn text(shared: &Shared, socket: &Arc<EngineSocket>, text: &Str) {
    let slot = &socket.data;
    // A text between an event and its attachments: what belongs together can't be known any more.
    let packet = match slot.partial.lock().is_some() {
        true => None,
        false => ClientPacket::parse(text).ok(),
    };
    match packet {
        Some(ClientPacket::Connect { namespace: "/", auth }) => {
            let mut state = slot.state.lock();
            // A second CONNECT changes nothing.
            if let State::Waiting(_) = *state
                && let State::Waiting(asks) = std::mem::take(&mut *state)
            {
                let _ = asks.send(Auth::from_connect(auth));
            }
        }
        Some(ClientPacket::Connect { namespace, .. }) => refuse_namespace(shared, socket, namespace),
        Some(ClientPacket::Disconnect { namespace: "/" }) => {
            slot.end_with(CloseReason::ClientGone);
            socket.close(DisconnectReason::TransportClose);
        }
        Some(ClientPacket::Event {
            namespace: "/",
            ack,
            body,
            attachments,
        }) if attachments <= ATTACHMENTS => {
            if attachments == 0 {
                event(socket, body, ack, Vec::new());
                return;
            }
            *slot.partial.lock() = Some(Partial {
                body: body.to_owned(),
                ack,
                expected: attachments,
                attachments: Vec::new(),
                bytes: body.len(),
            });
        }
        Some(ClientPacket::Event { namespace: "/", .. }) | None => {
            socket.close(DisconnectReason::PacketParsingError);
        }
        // What belongs to a namespace that nobody is in, and answers nobody asked for.
        Some(ClientPacket::Disconnect { .. } | ClientPacket::Event { .. } | ClientPacket::Ack) => {}
    }
}

/// An attachment came from the client.
pub(super) fn attachment(shared: &Shared, socket: &Arc<EngineSocket>, bytes: &Bytes) {
    let mut waiting = socket.data.partial.lock();
    let Some(mut partial) = waiting.take() else {
        drop(waiting);
        socket.close(DisconnectReason::PacketParsingError);
        return;
    };
    partial.bytes += bytes.len();
    if partial.bytes > shared.settings.message_bytes {
        drop(waiting);
        socket.data.too_large.store(true, Ordering::Relaxed);
        socket.close(DisconnectReason::PacketParsingError);
        return;
    }
    // A copy, so that the connection's read buffer is not held.
    partial.attachments.push(Bytes::copy_from_slice(bytes));
    if partial.attachments.len() < partial.expected {
        *waiting = Some(partial);
        return;
    }
    drop(waiting);
    event(socket, &partial.body, partial.ack, partial.attachments);
}

fn event(socket: &Arc<EngineSocket>, body: &str, ack: Option<u64>, attachments: Vec<Bytes>) {
    let session = match &*socket.data.state.lock() {
        State::Live(session) => Arc::clone(session),
        State::Waiting(_) | State::Outside => return,
    };
    match session.event(body, ack, attachments) {
        Ok(Heard::Event) => {}
        Ok(Heard::Flood) => {
            socket.data.end_with(CloseReason::Flooding);
            close_transport(&session.shared, socket);
        }
        Err(_) => {
            socket.close(DisconnectReason::PacketParsingError);
        }
    }
}

/// Only `/` exists; the text is the one of Node's server.
fn refuse_namespace(shared: &Shared, socket: &Arc<EngineSocket>, namespace: &str) {
    shared.metrics.refused(HandshakeCode::InvalidNamespace);
    let plain = socket.protocol == ProtocolVersion::V3;
    let namespace: String = namespace.chars().take(200).collect();
    let packet = Packet::connect_error(&namespace, "Invalid namespace", plain);
    if socket.emit(packet.text).is_err() {
        socket.close(DisconnectReason::PacketParsingError);
    }
}
