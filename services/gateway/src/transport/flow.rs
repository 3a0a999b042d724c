//! Handing packets to Engine.IO without filling its queue.
//!
//! Engine.IO keeps a queue of 128 packets per connection, whatever their size, and ends a connection whose queue is
//! full when a ping is due. So we never fill it: a [`Flow`] counts what lies in it, in packets and in bytes, and
//! whoever would put more in waits. Nobody tells us that a packet has left the queue, but its memory does: every
//! packet's text carries an owner whose drop gives its share back. No timer, and memory per session stays bounded.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use engineioxide::{ProtocolVersion, Str};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc::error::TrySendError};
use tracing::Span;

use super::{packet::Packet, session::EngineSocket};

/// Places of Engine.IO's queue that packets of ours may take. The rest is for pings and upgrades.
pub(super) const PACKETS: usize = 96;
/// Bytes that may lie in Engine.IO's queue; a larger packet passes alone.
const BYTES: usize = 256 << 10;
/// How long to wait where the queue is full in spite of all that.
const RETRY: Duration = Duration::from_millis(2);

/// The connection is closed; nothing can be sent any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed;

#[derive(Debug, Default)]
struct Used {
    packets: usize,
    bytes: usize,
}

/// What lies in one connection's queue.
#[derive(Debug, Default)]
struct Flow {
    used: Mutex<Used>,
    freed: Notify,
}

impl Flow {
    fn try_enter(&self, packets: usize, bytes: usize) -> bool {
        let mut used = self.used.lock();
        let fits = used.packets + packets <= PACKETS && used.bytes + bytes <= BYTES;
        if fits || used.packets == 0 {
            used.packets += packets;
            used.bytes += bytes;
            return true;
        }
        false
    }

    async fn enter(&self, packets: usize, bytes: usize) {
        loop {
            let freed = self.freed.notified();
            if self.try_enter(packets, bytes) {
                return;
            }
            freed.await;
        }
    }

    fn left(&self, packets: usize, bytes: usize) {
        let mut used = self.used.lock();
        used.packets = used.packets.saturating_sub(packets);
        used.bytes = used.bytes.saturating_sub(bytes);
        drop(used);
        self.freed.notify_one();
    }
}

/// A text in the queue; its drop says that it is there no more.
struct Queued {
    text: String,
    flow: Arc<Flow>,
    packets: usize,
    bytes: usize,
    /// Of a recorded message: it lasts until the text has left.
    _span: Span,
}

impl AsRef<[u8]> for Queued {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.flow.left(self.packets, self.bytes);
    }
}

impl Queued {
    #[expect(
        unsafe_code,
        reason = "the crate has no safe way from bytes with an owner to a text"
    )]
    fn into_str(self) -> Str {
        // SAFETY: the bytes are those of a `String`, which nobody can change any more.
        unsafe { Str::from_bytes_unchecked(Bytes::from_owner(self)) }
    }
}

/// Sends packets to one client, whole and in the order of the calls.
#[derive(Debug)]
pub(super) struct Sender {
    socket: Arc<EngineSocket>,
    flow: Arc<Flow>,
    /// A packet and its attachments must not be parted by another packet.
    turn: tokio::sync::Mutex<()>,
}

impl Sender {
    pub(super) fn new(socket: Arc<EngineSocket>) -> Self {
        Self {
            socket,
            flow: Arc::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Queues a packet, as soon as there is room.
    pub(super) async fn send(&self, packet: Packet) -> Result<(), Closed> {
        self.send_under(Span::none(), packet).await
    }

    /// As [`Sender::send`], under a span that lasts until the packet's text has left the queue for the socket.
    pub(super) async fn send_under(&self, span: Span, packet: Packet) -> Result<(), Closed> {
        let _turn = self.turn.lock().await;
        let bytes = packet.weight();
        let packets = 1 + packet.attachments.len();
        self.flow.enter(packets.min(PACKETS), bytes).await;
        let mut text = Queued {
            text: packet.text,
            flow: Arc::clone(&self.flow),
            packets: packets.min(PACKETS),
            bytes,
            _span: span,
        }
        .into_str();
        if packet.attachments.is_empty() {
            while let Err(refused) = self.socket.emit(text) {
                text = not_closed(refused)?;
                tokio::time::sleep(RETRY).await;
            }
            return Ok(());
        }
        if self.socket.protocol == ProtocolVersion::V4 {
            loop {
                match self.socket.reserve() {
                    Ok(place) => {
                        place.emit_many(text, packet.attachments.into());
                        return Ok(());
                    }
                    Err(refused) => not_closed(refused)?,
                }
                tokio::time::sleep(RETRY).await;
            }
        }
        // Version 3 marks binary packets otherwise, which only the single call does.
        while let Err(refused) = self.socket.emit(text) {
            text = not_closed(refused)?;
            tokio::time::sleep(RETRY).await;
        }
        for mut attachment in packet.attachments {
            while let Err(refused) = self.socket.emit_binary(attachment) {
                attachment = not_closed(refused)?;
                tokio::time::sleep(RETRY).await;
            }
        }
        Ok(())
    }
}

fn not_closed<T>(refused: TrySendError<T>) -> Result<T, Closed> {
    match refused {
        TrySendError::Full(back) => Ok(back),
        TrySendError::Closed(_) => Err(Closed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_gives_its_share_back_when_it_is_dropped() {
        let flow = Arc::new(Flow::default());
        assert!(flow.try_enter(1, BYTES));
        assert!(!flow.try_enter(1, 1), "no bytes are left");
        let queued = Queued {
            text: "2[\"a\"]".to_owned(),
            flow: Arc::clone(&flow),
            packets: 1,
            bytes: BYTES,
            _span: Span::none(),
        };
        let text = queued.into_str();
        assert_eq!(&*text, "2[\"a\"]");
        let copy = text.clone();
        drop(text);
        assert!(!flow.try_enter(1, 1), "a copy is still queued");
        drop(copy);
        assert!(flow.try_enter(1, 10 * BYTES), "a large packet passes alone");
    }

    #[test]
    fn packets_are_counted_as_well_as_bytes() {
        let flow = Flow::default();
        for _ in 0..PACKETS {
            assert!(flow.try_enter(1, 1));
        }
        assert!(!flow.try_enter(1, 1));
        flow.left(1, 1);
        assert!(flow.try_enter(1, 1));
    }
}
