//! What comes from a client, in its order: texts, and the attachments that belong to them.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use engineioxide::{DisconnectReason, ProtocolVersion, Str};

use super::{
    engine::Shared,
    handshake::{Auth, HandshakeCode},
    packet::{ClientPacket, Packet},
    requests::Heard,
    session::{EngineSocket, Session, State, close_transport},
};
use crate::hub::CloseReason;

/// Binary attachments an event may have. Only one can be used; the rest is read to be refused with an answer.
const ATTACHMENTS: usize = 8;

/// A packet whose attachments are still to come.
#[derive(Debug)]
pub(super) struct Partial {
    /// Of an event: its body, and the number its answer is to have. Of an acknowledgement nothing is kept.
    event: Option<(String, Option<u64>)>,
    /// How many are still to come.
    missing: usize,
    attachments: Vec<Bytes>,
    bytes: usize,
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
                event: Some((body.to_owned(), ack)),
                missing: attachments,
                attachments: Vec::new(),
                bytes: body.len(),
            });
        }
        Some(ClientPacket::Ack {
            namespace: "/",
            id,
            attachments,
        }) if attachments <= ATTACHMENTS => {
            if acknowledged(socket, id) == Heard::Flood {
                flood(shared, socket);
                return;
            }
            if attachments > 0 {
                *slot.partial.lock() = Some(Partial {
                    event: None,
                    missing: attachments,
                    attachments: Vec::new(),
                    bytes: 0,
                });
            }
        }
        Some(ClientPacket::Event { namespace: "/", .. } | ClientPacket::Ack { namespace: "/", .. })
        | None => {
            socket.close(DisconnectReason::PacketParsingError);
        }
        // What belongs to a namespace that nobody is in.
        Some(ClientPacket::Disconnect { .. } | ClientPacket::Event { .. } | ClientPacket::Ack { .. }) => {}
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
    if partial.event.is_some() {
        // A copy, so that the connection's read buffer is not held.
        partial.attachments.push(Bytes::copy_from_slice(bytes));
    }
    partial.missing -= 1;
    if partial.missing > 0 {
        *waiting = Some(partial);
        return;
    }
    drop(waiting);
    if let Some((body, ack)) = partial.event {
        event(socket, &body, ack, partial.attachments);
    }
}

/// The session of a client that is in.
fn live(socket: &EngineSocket) -> Option<Arc<Session>> {
    match &*socket.data.state.lock() {
        State::Live(session) => Some(Arc::clone(session)),
        State::Waiting(_) | State::Outside => None,
    }
}

fn acknowledged(socket: &EngineSocket, id: u64) -> Heard {
    let Some(session) = live(socket) else {
        return Heard::Event;
    };
    if !session.events.bear() {
        return Heard::Flood;
    }
    if let Some(acknowledgements) = &session.acknowledgements {
        acknowledgements.acknowledged(id);
    }
    Heard::Event
}

fn event(socket: &Arc<EngineSocket>, body: &str, ack: Option<u64>, attachments: Vec<Bytes>) {
    let Some(session) = live(socket) else {
        return;
    };
    match session.event(body, ack, attachments) {
        Ok(Heard::Event) => {}
        Ok(Heard::Flood) => flood(&session.shared, socket),
        Err(_) => {
            socket.close(DisconnectReason::PacketParsingError);
        }
    }
}

/// A session that sends far more than it may goes.
fn flood(shared: &Shared, socket: &EngineSocket) {
    socket.data.end_with(CloseReason::Flooding);
    close_transport(shared, socket);
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
