//! Writing what the hub puts into a session's outbox.

use std::collections::VecDeque;

use tracing::Span;

use super::{flow::Closed, packet::Packet, session::Session};
use crate::hub::{CloseReason, OutboxReceiver, Outgoing};

/// Writes what comes out of the outbox, until the session shall be closed.
pub(super) async fn write(session: &Session, outbox: &OutboxReceiver) -> CloseReason {
    let mut batch = VecDeque::new();
    loop {
        if let Err(reason) = outbox.receive(&mut batch).await {
            return reason;
        }
        // All of it is queued before the connection's writer runs: what came together leaves together.
        while let Some(outgoing) = batch.pop_front() {
            let span = match &outgoing {
                Outgoing::Message(delivery) => delivery.write_span(session.handle.id()),
                // Its trace is that of the first time, and may have ended long ago.
                Outgoing::Replayed(_) | Outgoing::Presence(_) | Outgoing::Cursors(_) => Span::none(),
            };
            let asking = session.acknowledgements.as_ref();
            let ack = asking.and_then(|asking| asking.ask(&span, session.handle.id()));
            let packet = match encode(&outgoing, ack) {
                Ok(packet) => packet,
                Err(error) => {
                    tracing::error!(%error, "cursors that are no JSON");
                    return CloseReason::Internal;
                }
            };
            let mut sending = std::pin::pin!(session.sender.send_under(span, packet));
            // Where the client doesn't read, this waits; a close must be heard all the same.
            let sent = loop {
                tokio::select! {
                    biased;
                    sent = sending.as_mut() => break sent,
                    more = outbox.receive(&mut batch) => {
                        if let Err(reason) = more {
                            return reason;
                        }
                    }
                }
            };
            if sent == Err(Closed) {
                return CloseReason::ClientGone;
            }
            if let Outgoing::Message(delivery) = &outgoing {
                session.shared.metrics.delivered(delivery.message.accepted_at);
            }
            outbox.written(&outgoing);
        }
    }
}

/// As a packet, to be acknowledged under an id if it is a message and there is one.
fn encode(outgoing: &Outgoing, ack: Option<u64>) -> Result<Packet, serde_json::Error> {
    Ok(match outgoing {
        Outgoing::Message(delivery) | Outgoing::Replayed(delivery) => {
            let message = &delivery.message;
            Packet::message(message.event.as_str(), &message.data, &delivery.meta, ack)
        }
        Outgoing::Presence(note) => Packet::event(note.event, &note.argument),
        Outgoing::Cursors(notes) => Packet::event("cursors", &serde_json::to_string(notes)?),
    })
}
