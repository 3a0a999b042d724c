//! What waits to be written to one client: bounded in bytes, alone and [together](super::budget) with all others, filled by its
//! shard, drained by its transport.
//!
//! Messages are shared, never copied: a message to ten thousand sessions is encoded once and lies in ten thousand
//! outboxes as a reference. Notes about cursors keep their place among the messages, because a client takes each as
//! its cursor the moment it reads it.

use std::{collections::VecDeque, sync::Arc};

use carillon_model::{Offset, Room};
use indexmap::IndexMap;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;

use super::{
    budget::OutboxBudget,
    delivery::Delivery,
    presence::PresenceNote,
    session::Refusal,
    shard::{SessionKey, Signals},
};

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
    /// What waits for all sessions fills the memory set for it, and the client reads nothing, or policy says to close.
    MemoryBudget,
    /// Its token has expired, and no other was brought in time.
    TokenExpired,
    /// Its login at the application has ended.
    LoginEnded,
    /// The gateway hands its sessions over.
    Draining,
    /// The gateway has more sessions than its share, and gives some up.
    Rebalance,
    /// The gateway failed the session.
    Internal,
}

impl CloseReason {
    /// Every reason, for metrics of fixed cardinality.
    pub const ALL: [Self; 12] = [
        Self::ClientGone,
        Self::SlowReader,
        Self::MemoryBudget,
        Self::FrameTooLarge,
        Self::Protocol,
        Self::Flooding,
        Self::PingTimeout,
        Self::TokenExpired,
        Self::LoginEnded,
        Self::Draining,
        Self::Rebalance,
        Self::Internal,
    ];

    /// The metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientGone => "client_gone",
            Self::SlowReader => "slow_reader",
            Self::MemoryBudget => "memory_budget",
            Self::FrameTooLarge => "frame_too_large",
            Self::Protocol => "protocol",
            Self::Flooding => "flooding",
            Self::PingTimeout => "ping_timeout",
            Self::TokenExpired => "token_expired",
            Self::LoginEnded => "login_ended",
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
    /// Nothing was written since somebody asked.
    watched: bool,
}

/// The shared middle of an outbox.
#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    filled: Notify,
    limit: usize,
    /// What all outboxes share.
    budget: Arc<OutboxBudget>,
    key: SessionKey,
    signals: Arc<Signals>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.budget.give_back(self.waiting.get_mut().bytes);
    }
}

/// What had no room for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// The session's own outbox is full.
    Outbox,
    /// All outboxes together hold so much that this one may hold no more.
    Budget,
}

/// The shard's end.
#[derive(Clone, Debug)]
pub(super) struct Outbox(Arc<Shared>);

/// The transport's end.
#[derive(Debug)]
pub struct OutboxReceiver {
    shared: Arc<Shared>,
}

/// What one note about cursors counts in bytes, beside the room's name.
const NOTE_WEIGHT: usize = 64;

impl Outbox {
    /// An outbox of `limit` bytes, within what all of them may hold.
    pub(super) fn new(
        limit: usize,
        budget: Arc<OutboxBudget>,
        key: SessionKey,
        signals: Arc<Signals>,
    ) -> (Self, OutboxReceiver) {
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            filled: Notify::new(),
            limit,
            budget,
            key,
            signals,
        });
        (Self(Arc::clone(&shared)), OutboxReceiver { shared })
    }

    /// Takes bytes, unless this outbox or all of them are full. Something larger than the whole outbox passes when it is
    /// empty.
    fn take(&self, waiting: &mut Waiting, bytes: usize, live: bool) -> Result<(), NoRoom> {
        if waiting.bytes > 0 && waiting.bytes + bytes > self.0.limit {
            return Err(NoRoom::Outbox);
        }
        if !self.0.budget.take(waiting.bytes, bytes, live) {
            return Err(NoRoom::Budget);
        }
        if waiting.bytes == 0 {
            waiting.watched = false;
        }
        waiting.bytes += bytes;
        Ok(())
    }

    /// What has waited, in bytes, and none of it was written to the network since this was asked before; else 0.
    pub(super) fn stuck_bytes(&self) -> usize {
        let mut waiting = self.0.waiting.lock();
        let was_watched = std::mem::replace(&mut waiting.watched, true);
        if was_watched { waiting.bytes } else { 0 }
    }

    /// Queues a message if there is room, `live` if it has just come.
    pub(super) fn push(&self, delivery: &Arc<Delivery>, live: bool) -> Result<(), NoRoom> {
        let mut waiting = self.0.waiting.lock();
        self.take(&mut waiting, delivery.weight, live)?;
        let delivery = Arc::clone(delivery);
        waiting.items.push_back(match live {
            true => Outgoing::Message(delivery),
            false => Outgoing::Replayed(delivery),
        });
        drop(waiting);
        self.0.filled.notify_one();
        Ok(())
    }

    /// Tells something of a room, in its place among the messages. Notes are never refused: they are few, and a
    /// gap must be told.
    pub(super) fn tell(&self, room: &Room, note: CursorNote) {
        let mut waiting = self.0.waiting.lock();
        let bytes = NOTE_WEIGHT + room.as_str().len();
        waiting.bytes += bytes;
        self.0.budget.add(bytes);
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
        if self.take(&mut waiting, note.weight(), true).is_err() {
            return false;
        }
        waiting.items.push_back(Outgoing::Presence(Arc::clone(note)));
        drop(waiting);
        self.0.filled.notify_one();
        true
    }

    /// Whether a message of this weight would find room, with half the outbox to spare for what follows. If not, the
    /// shard hears of it when it does.
    pub(super) fn has_room_for(&self, weight: usize) -> bool {
        let Shared {
            limit,
            budget,
            key,
            signals,
            ..
        } = &*self.0;
        // An outbox that is empty takes whatever all of them have room for.
        let limit = (*limit).min(budget.replay_part());
        let enough = (limit / 2).min(limit.saturating_sub(weight));
        let mut waiting = self.0.waiting.lock();
        let room = waiting.bytes <= enough;
        waiting.wanted = (!room).then_some(enough);
        drop(waiting);
        room && budget.may_go_on(weight, *key, signals)
    }

    /// Ends the session: what waits is not written any more.
    pub(super) fn close(&self, reason: CloseReason) {
        let mut waiting = self.0.waiting.lock();
        waiting.closed.get_or_insert(reason);
        waiting.items.clear();
        let bytes = std::mem::take(&mut waiting.bytes);
        drop(waiting);
        self.0.budget.give_back(bytes);
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
        // A session that is closed has given all of it back.
        let weight = weight.min(waiting.bytes);
        waiting.bytes -= weight;
        waiting.watched = false;
        let bytes = waiting.bytes;
        let drained = waiting.wanted.take_if(|enough| bytes <= *enough).is_some();
        drop(waiting);
        self.shared.budget.give_back(weight);
        if drained {
            self.shared.signals.drained(self.shared.key);
        }
    }
}
