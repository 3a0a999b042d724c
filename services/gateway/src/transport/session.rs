//! One client: from its connection to its end.
//!
//! Engine.IO calls us back for every packet, in order and without waiting; one task per client does the waiting: it
//! waits for its [admission](super::admission), and then writes what the hub puts into the session's outbox. What the
//! client says comes [in](super::incoming) beside it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use engineioxide::{DisconnectReason, ProtocolVersion};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::{
    acknowledgements::Acknowledgements,
    admission::admit,
    engine::Shared,
    expiry::{Expiry, write_until_expired},
    flow::{Flow, Sender},
    handshake::{Auth, HandshakeRefusal},
    incoming::Partial,
    limits::{EventLimits, Place},
    login::SessionLogin,
    packet::Packet,
    requests::Line,
    websocket::Wire,
};
use crate::hub::{CloseReason, SessionHandle};

/// A connection of Engine.IO with what we keep of it.
pub(super) type EngineSocket = engineioxide::Socket<Slot>;

pub(super) type Asked = Result<Auth, HandshakeRefusal>;

/// What we keep with a connection of Engine.IO.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) state: Mutex<State>,
    /// An event whose attachments are still to come.
    pub(super) partial: Mutex<Option<Partial>>,
    /// What lies in the connection's queue.
    pub(super) flow: Arc<Flow>,
    /// Why the connection ended, once it has.
    pub(super) end: watch::Sender<Option<CloseReason>>,
    /// A message or request over the limit was seen.
    pub(super) too_large: AtomicBool,
    /// The TCP connection beneath, where the client has one of its own: a WebSocket.
    pub(super) wire: Mutex<Option<Wire>>,
}

/// How far a client is.
#[derive(Debug, Default)]
pub(super) enum State {
    /// Its `CONNECT` is awaited.
    Waiting(oneshot::Sender<Asked>),
    /// It has asked and is not in, or will never be.
    #[default]
    Outside,
    /// It is in.
    Live(Arc<Session>),
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
    /// The application's login it is known by, if it is by one.
    pub(super) login: SessionLogin,
    /// Where the client wants to be asked for acknowledgements.
    pub(super) acknowledgements: Option<Acknowledgements>,
    pub(super) _place: Place,
    pub(super) shared: Arc<Shared>,
    pub(super) end: watch::Receiver<Option<CloseReason>>,
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

    pub(super) fn end_with(&self, reason: CloseReason) {
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
        let _ = asks.send(Ok(Auth::from_query(query)));
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

/// Closes the connection, not the Socket.IO session above it: stock clients come back from the former only.
pub(super) fn close_transport(shared: &Shared, socket: &EngineSocket) {
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
