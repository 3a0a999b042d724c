//! The way in: from a client's `CONNECT` to its session, or to the refusal.

use std::sync::Arc;

use engineioxide::{ProtocolVersion, socket::Sid};
use tokio::sync::oneshot;

use super::{
    acknowledgements::Acknowledgements,
    engine::Shared,
    expiry::Expiry,
    flow::{Closed, Sender},
    handshake::{HandshakeCode, HandshakeRefusal},
    limits::EventLimits,
    login::SessionLogin,
    packet::Packet,
    requests::Line,
    session::{Asked, EngineSocket, Session, State, close_transport},
};
use crate::{
    hub::{Connect, OutboxReceiver},
    identity::Identified,
};

/// From the handshake to the session, or to the refusal.
pub(super) async fn admit(
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
    if refusal.is_passing() && !told {
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
    let (token, since, acknowledges) = (auth.token()?, auth.cursors()?, auth.acknowledges()?);
    // Before anything is looked up for it.
    shared
        .hub
        .admits()
        .map_err(|refusal| HandshakeRefusal::new(refusal.code.into(), refusal.message))?;
    let anonymous = shared.policy.borrow().anonymous_sessions;
    let cookies = socket.req_parts.headers.get(http::header::COOKIE);
    let cookies = cookies.and_then(|cookies| cookies.to_str().ok());
    let identities = &shared.settings.identities;
    let identified = identities.identify(token, cookies, anonymous).await?;
    let Identified {
        identity,
        expires,
        login,
    } = identified;
    let place = shared.limits.enter(identity.user.as_ref());
    // A client that comes back, while its former session may not have been missed yet, is not told to stay away.
    let place = place.map_err(|refusal| refusal.passing(!since.is_empty()))?;
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
        login: SessionLogin::new(login),
        acknowledgements: acknowledges.then(|| Acknowledgements::new(&shared.acknowledgements)),
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
        Some(peers) if polled => peers.told(socket.id.as_str()).into(),
        _ => socket.id.as_str().into(),
    }
}
