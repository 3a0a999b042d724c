//! What waits to be written to one client: bounded in bytes, filled by its shard, drained by its transport.
//!
//! Messages are shared, never copied: a message to ten thousand sessions is encoded once and lies in ten thousand
//! outboxes as a reference. Notes about cursors keep their place among the messages, because a client takes each as
//! its cursor the moment it reads it.

use std::{collections::VecDeque, sync::Arc};

use carillon_model::{Data, EventName, Gap, Message, MessageId, Offset, Room, Sender};
use indexmap::IndexMap;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;

use super::{
    presence::PresenceNote,
    session::Refusal,
    shard::{SessionKey, Signals},
    traces::DeliveryTrace,
};

/// A message at its place in a room, ready to be written to any member.
#[derive(Debug)]
pub struct Delivery {
    /// The room it came through.
    pub room: Room,
    /// Its place there.
    pub offset: Offset,
    /// No message of the room lies strictly between this and its offset; `None` in session rooms.
    pub prev: Option<Offset>,
    /// The message.
    pub message: Message,
    /// It is no message, and no client gets it: some were lost before it.
    pub(super) gap: Option<Gap>,
    /// `{"room","offset","id","ts"}`, encoded once.
    pub meta: Box<serde_json::value::RawValue>,
    /// What it counts in an outbox, in bytes.
    pub weight: usize,
    /// How its trace goes on, if that is recorded. What comes from history has none.
    pub trace: Option<DeliveryTrace>,
}

#[derive(Serialize)]
struct Meta<'a> {
    room: &'a Room,
    offset: Offset,
    id: carillon_model::MessageId,
    ts: u64,
}

impl Delivery {
    /// Prepares a message for its room's members.
    pub fn new(
        room: Room,
        offset: Offset,
        prev: Option<Offset>,
        message: Message,
    ) -> Result<Self, serde_json::Error> {
        let meta = serde_json::value::to_raw_value(&Meta {
            room: &room,
            offset,
            id: message.id,
            ts: message.accepted_at,
        })?;
        let weight = message.data.len() + message.event.as_str().len() + meta.get().len() + 16;
        Ok(Self {
            room,
            offset,
            prev,
            message,
            gap: None,
            meta,
            weight,
            trace: None,
        })
    }

    /// A place in a room before which messages were lost.
    pub(super) fn of_gap(room: Room, offset: Offset, prev: Option<Offset>, gap: Gap) -> Result<Self, String> {
        let nothing = Message {
            id: MessageId(uuid::Uuid::nil()),
            event: EventName::new("gap").map_err(|error| error.to_string())?,
            data: Data::NULL,
            accepted_at: 0,
            copies: 1,
            sender: Sender::Anonymous,
            traceparent: String::new(),
        };
        let delivery = Self::new(room, offset, prev, nothing).map_err(|error| error.to_string())?;
        Ok(Self {
            gap: Some(gap),
            ..delivery
        })
    }
}

/// What a client is told of one of its rooms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum CursorNote {
    /// It starts here, completely or not.
    At {
        /// The place before what follows.
        offset: Offset,
        /// Whether nothing is missing before it.
        recovered: bool,
    },
    /// It may not have the room.
    Refused {
        /// Why.
        error: Refusal,
    },
    /// It is in the room no more (`null`).
    Left,
}

/// One thing to write.
#[derive(Clone, Debug)]
pub enum Outgoing {
    /// An event with `(data, meta)`, as it came.
    Message(Arc<Delivery>),
    /// The same, later than it came: the session was not there, or not live, when it did.
    Replayed(Arc<Delivery>),
    /// The event `cursors`.
    Cursors(IndexMap<Room, CursorNote>),
    /// An event on who is in a room.
    Presence(Arc<PresenceNote>),
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CloseReason {
    /// The client went away.
    ClientGone,
    /// The client did not read fast enough, and policy says to close.
    SlowReader,
    /// The client sent a frame over the limit.
    FrameTooLarge,
    /// The client broke the protocol.
    Protocol,
    /// The client sent far more events than it may.
    Flooding,
    /// Pings were not answered.
    PingTimeout,
    /// Its token has expired, and no other was brought in time.
    TokenExpired,
    /// The gateway hands its sessions over.
    Draining,
    /// The gateway has more sessions than its share, and gives some up.
    Rebalance,
    /// The gateway failed the session.
    Internal,
}

impl CloseReason {
    /// Every reason, for metrics of fixed cardinality.
    pub const ALL: [Self; 10] = [
        Self::ClientGone,
        Self::SlowReader,
        Self::FrameTooLarge,
        Self::Protocol,
        Self::Flooding,
        Self::PingTimeout,
        Self::TokenExpired,
        Self::Draining,
        Self::Rebalance,
        Self::Internal,
    ];

    /// The metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientGone => "client_gone",
            Self::SlowReader => "slow_reader",
            Self::FrameTooLarge => "frame_too_large",
            Self::Protocol => "protocol",
            Self::Flooding => "flooding",
            Self::PingTimeout => "ping_timeout",
            Self::TokenExpired => "token_expired",
            Self::Draining => "draining",
            Self::Rebalance => "rebalance",
            Self::Internal => "internal",
        }
    }
}

#[derive(Debug, Default)]
struct Waiting {
    items: VecDeque<Outgoing>,
    bytes: usize,
    /// The shard holds something back until no more than this is in use.
    wanted: Option<usize>,
    closed: Option<CloseReason>,
}

/// The shared middle of an outbox.
#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    filled: Notify,
    limit: usize,
}

/// The shard's end.
#[derive(Clone, Debug)]
pub(super) struct Outbox(Arc<Shared>);

/// The transport's end.
#[derive(Debug)]
pub struct OutboxReceiver {
    shared: Arc<Shared>,
    key: SessionKey,
    signals: Arc<Signals>,
}

/// What one note about cursors counts in bytes, beside the room's name.
const NOTE_WEIGHT: usize = 64;

impl Outbox {
    /// An outbox of `limit` bytes.
    pub(super) fn new(limit: usize, key: SessionKey, signals: Arc<Signals>) -> (Self, OutboxReceiver) {
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            filled: Notify::new(),
            limit,
        });
        (Self(Arc::clone(&shared)), OutboxReceiver { shared, key, signals })
    }

    /// Queues a message unless the outbox is full, `live` if it has just come. A message larger than the whole outbox
    /// passes when it is empty.
    pub(super) fn push(&self, delivery: &Arc<Delivery>, live: bool) -> bool {
        let mut waiting = self.0.waiting.lock();
        if waiting.bytes > 0 && waiting.bytes + delivery.weight > self.0.limit {
            return false;
        }
        waiting.bytes += delivery.weight;
        let delivery = Arc::clone(delivery);
        waiting.items.push_back(match live {
            true => Outgoing::Message(delivery),
            false => Outgoing::Replayed(delivery),
        });
        drop(waiting);
        self.0.filled.notify_one();
        true
    }

    /// Tells something of a room, in its place among the messages. Notes are never refused: they are few, and a
    /// gap must be told.
    pub(super) fn tell(&self, room: &Room, note: CursorNote) {
        let mut waiting = self.0.waiting.lock();
        waiting.bytes += NOTE_WEIGHT + room.as_str().len();
        match waiting.items.back_mut() {
            // Two notes on one room stay two: the first may tell of a gap that the second does not.
            Some(Outgoing::Cursors(notes)) if !notes.contains_key(room) => {
                notes.insert(room.clone(), note);
            }
            _ => waiting
                .items
                .push_back(Outgoing::Cursors([(room.clone(), note)].into_iter().collect())),
        }
        drop(waiting);
        self.0.filled.notify_one();
    }

    /// Queues an event on who is in a room, unless the outbox is full.
    pub(super) fn push_presence(&self, note: &Arc<PresenceNote>) -> bool {
        let mut waiting = self.0.waiting.lock();
        if waiting.bytes > 0 && waiting.bytes + note.weight() > self.0.limit {
            return false;
        }
        waiting.bytes += note.weight();
        waiting.items.push_back(Outgoing::Presence(Arc::clone(note)));
        drop(waiting);
        self.0.filled.notify_one();
        true
    }

    /// Whether a message of this weight would find room, with half the outbox to spare for what follows. If not, the
    /// shard hears of it when it does.
    pub(super) fn has_room_for(&self, weight: usize) -> bool {
        let limit = self.0.limit;
        let enough = (limit / 2).min(limit.saturating_sub(weight));
        let mut waiting = self.0.waiting.lock();
        let room = waiting.bytes <= enough;
        waiting.wanted = (!room).then_some(enough);
        room
    }

    /// Ends the session: what waits is not written any more.
    pub(super) fn close(&self, reason: CloseReason) {
        let mut waiting = self.0.waiting.lock();
        waiting.closed.get_or_insert(reason);
        waiting.items.clear();
        waiting.bytes = 0;
        drop(waiting);
        self.0.filled.notify_one();
    }
}

impl OutboxReceiver {
    /// Waits for something to write and moves all of it to the end of `batch`; `Err` when the session is to be
    /// closed. Cancel safe.
    pub async fn receive(&self, batch: &mut VecDeque<Outgoing>) -> Result<(), CloseReason> {
        loop {
            let filled = self.shared.filled.notified();
            {
                let mut waiting = self.shared.waiting.lock();
                if let Some(reason) = waiting.closed {
                    return Err(reason);
                }
                if !waiting.items.is_empty() {
                    batch.append(&mut waiting.items);
                    return Ok(());
                }
            }
            filled.await;
        }
    }

    /// Whether the session is to be closed, for a transport that is stuck writing.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.shared.waiting.lock().closed
    }

    /// Says that something taken was handed to the network. Until then it counts against the limit, so that a
    /// transport that can't write holds the hub back.
    pub fn written(&self, outgoing: &Outgoing) {
        let weight = match outgoing {
            Outgoing::Message(delivery) | Outgoing::Replayed(delivery) => delivery.weight,
            Outgoing::Presence(note) => note.weight(),
            Outgoing::Cursors(notes) => notes.keys().map(|room| NOTE_WEIGHT + room.as_str().len()).sum(),
        };
        let mut waiting = self.shared.waiting.lock();
        waiting.bytes = waiting.bytes.saturating_sub(weight);
        if waiting.wanted.is_some_and(|enough| waiting.bytes <= enough) {
            waiting.wanted = None;
            drop(waiting);
            self.signals.drained(self.key);
        }
    }
}
