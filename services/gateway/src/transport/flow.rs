//! Handing packets to Engine.IO without filling its queue.
//!
//! Engine.IO keeps a queue of 128 packets per connection, whatever their size, and ends a connection whose queue is
//! full when a ping is due. So we never fill it: a [`Flow`] counts what lies in it, in packets and in bytes, and
//! whoever would put more in waits. Nobody tells us that a packet has left the queue, but its memory does: every
//! packet's text carries an owner whose drop gives its share back. No timer, and memory per session stays bounded.
//!
//! While a client polls, Engine.IO puts everything that lies in the queue into one answer, and Python's client throws an
//! answer of more than 16 packets away and disconnects. So less may lie there then, and what has gone into an answer
//! gives its share back when the answer is whole.

use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use bytes::Bytes;
use engineioxide::{ProtocolVersion, Str, TransportType};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc::error::TrySendError};
use tracing::Span;

use super::{packet::Packet, session::EngineSocket};

/// Places of Engine.IO's queue that packets of ours may take. The rest is for pings and upgrades.
pub(super) const PACKETS: usize = 96;
/// As [`PACKETS`], while the client polls: with a ping and a close, an answer is never longer than the 16 packets that
/// python-engineio takes (`Payload.max_decode_packets`).
const POLLED_PACKETS: usize = 14;
/// Bytes that may lie in Engine.IO's queue; a larger packet passes alone.
const BYTES: usize = 256 << 10;
/// How long to wait where the queue is full in spite of all that.
const RETRY: Duration = Duration::from_millis(2);

/// The connection is closed; nothing can be sent any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed;

/// Packets and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    packets: usize,
    bytes: usize,
}

impl Share {
    fn add(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }

    fn take(&mut self, other: Self) {
        self.packets = self.packets.saturating_sub(other.packets);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

#[derive(Debug, Default)]
struct Used {
    /// What lies in the queue or is being answered.
    all: Share,
    /// What has left the queue for an answer that isn't whole yet.
    answering: Share,
}

/// What lies in one connection's queue.
#[derive(Debug, Default)]
pub(super) struct Flow {
    used: Mutex<Used>,
    freed: Notify,
    socket: OnceLock<Weak<EngineSocket>>,
}

impl Flow {
    /// Counts what lies in the queue of this connection.
    pub(super) fn of(&self, socket: &Arc<EngineSocket>) {
        // A connection begins once.
        let _ = self.socket.set(Arc::downgrade(socket));
    }

    /// A client polls; the guard is dropped when its answer is whole.
    pub(super) fn answer(self: Arc<Self>) -> Answering {
        Answering(self)
    }

    fn polls(&self) -> bool {
        let socket = self.socket.get().and_then(Weak::upgrade);
        socket.is_some_and(|socket| socket.transport_type() == TransportType::Polling)
    }

    fn try_enter(&self, share: Share, window: usize) -> bool {
        let mut used = self.used.lock();
        let fits = used.all.packets + share.packets <= window && used.all.bytes + share.bytes <= BYTES;
        if fits || used.all.packets == 0 {
            used.all.add(share);
            return true;
        }
        false
    }

    async fn enter(&self, share: Share) {
        loop {
            let freed = self.freed.notified();
            let window = if self.polls() { POLLED_PACKETS } else { PACKETS };
            if self.try_enter(share, window) {
                return;
            }
            freed.await;
        }
    }

    fn left(&self, share: Share, polls: bool) {
        let mut used = self.used.lock();
        if polls {
            used.answering.add(share);
            return;
        }
        used.all.take(share);
        drop(used);
        self.freed.notify_one();
    }
}

/// An answer to a poll is being made.
#[derive(Debug)]
pub(super) struct Answering(Arc<Flow>);

impl Drop for Answering {
    fn drop(&mut self) {
        let mut used = self.0.used.lock();
        let answered = std::mem::take(&mut used.answering);
        used.all.take(answered);
        drop(used);
        self.0.freed.notify_one();
    }
}

/// A text in the queue; its drop says that it is there no more.
struct Queued {
    text: String,
    flow: Arc<Flow>,
    share: Share,
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
        self.flow.left(self.share, self.flow.polls());
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
            flow: Arc::clone(&socket.data.flow),
            socket,
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
        let share = Share {
            packets: (1 + packet.attachments.len()).min(PACKETS),
            bytes: packet.weight(),
        };
        self.flow.enter(share).await;
        let mut text = Queued {
            text: packet.text,
            flow: Arc::clone(&self.flow),
            share,
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

    const fn share(packets: usize, bytes: usize) -> Share {
        Share { packets, bytes }
    }

    #[test]
    fn a_text_gives_its_share_back_when_it_is_dropped() {
        let flow = Arc::new(Flow::default());
        assert!(flow.try_enter(share(1, BYTES), PACKETS));
        assert!(!flow.try_enter(share(1, 1), PACKETS), "no bytes are left");
        let queued = Queued {
            text: "2[\"a\"]".to_owned(),
            flow: Arc::clone(&flow),
            share: share(1, BYTES),
            _span: Span::none(),
        };
        let text = queued.into_str();
        assert_eq!(&*text, "2[\"a\"]");
        let copy = text.clone();
        drop(text);
        assert!(!flow.try_enter(share(1, 1), PACKETS), "a copy is still queued");
        drop(copy);
        assert!(
            flow.try_enter(share(1, 10 * BYTES), PACKETS),
            "a large packet passes alone"
        );
    }

    #[test]
    fn packets_are_counted_as_well_as_bytes() {
        let flow = Flow::default();
        for _ in 0..PACKETS {
            assert!(flow.try_enter(share(1, 1), PACKETS));
        }
        assert!(!flow.try_enter(share(1, 1), PACKETS));
        flow.left(share(1, 1), false);
        assert!(flow.try_enter(share(1, 1), PACKETS));
    }

    #[test]
    fn what_goes_into_one_answer_is_bounded() {
        let flow = Arc::new(Flow::default());
        for _ in 0..POLLED_PACKETS {
            assert!(flow.try_enter(share(1, 1), POLLED_PACKETS));
        }
        let answering = Arc::clone(&flow).answer();
        for _ in 0..POLLED_PACKETS {
            flow.left(share(1, 1), true);
            assert!(
                !flow.try_enter(share(1, 1), POLLED_PACKETS),
                "it would go into the same answer"
            );
        }
        drop(answering);
        assert_eq!(flow.used.lock().all, Share::default());
        assert!(flow.try_enter(share(1, 1), POLLED_PACKETS));
    }
}
