//! A session as its transport sees it: something that asks and an outbox that answers.

use std::{fmt, sync::Arc};

use carillon_broker::MemoryFull;
use carillon_model::{Data, Offset, Room, policy::RoomPattern};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::{
    delivery::Delivery,
    newest::Look,
    outbox::{CloseReason, OutboxReceiver},
    presence::{PresenceSummary, PresenceWish},
    publish::{Publish, PublishReceipt, Publisher},
    shard::{Request, SessionKey, Signals},
};

/// Who a session is, as the transport found out at its handshake.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// The user; `None` is anonymous.
    pub user: Option<Arc<str>>,
    /// Rooms the session may join beyond policy.
    pub rooms: Arc<[RoomPattern]>,
}

/// A handshake that succeeded.
#[derive(Debug)]
pub struct Connect {
    /// The session's id: unique for ever, as `session:<id>` names a room.
    pub id: Arc<str>,
    /// Who it is.
    pub identity: Identity,
    /// The cursors it brought. Rooms above [`HubSettings::rooms_per_session`](super::HubSettings::rooms_per_session) are
    /// refused one by one, those it is in by identity not counted.
    pub since: Vec<(Room, Offset)>,
}

/// Where a session starts in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what comes now.
    Now,
    /// After a cursor.
    Since(Offset),
    /// With up to so many of the messages that are there.
    Rewind(usize),
}

/// A room a session has joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Joined {
    /// The room.
    pub room: Room,
    /// The place before what it will get.
    pub offset: Option<Offset>,
    /// Whether nothing is missing between its cursor and that place.
    pub recovered: bool,
}

/// A refusal, as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// For machines: a fixed word.
    pub code: RefusalCode,
    /// For people: what was wrong, and what to do.
    pub message: String,
    /// When trying again may help, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// The request has another shape than it should.
    BadRequest,
    /// A name no room can have.
    BadRoom,
    /// The room is joined by identity, never on request.
    ReservedRoom,
    /// Policy does not allow it.
    Forbidden,
    /// The session is in as many rooms as it may be.
    TooManyRooms,
    /// The session is not in this room.
    NotJoined,
    /// No policy says what becomes of this event.
    UnknownEvent,
    /// The data is over the limit.
    TooLarge,
    /// The queue or the broker's memory is full; nothing was kept.
    QueueFull,
    /// The broker's memory is nearly full: no room is joined that nobody here is in, and later no session begins.
    MemoryFull,
    /// The idempotency key was used with another content.
    KeyReused,
    /// More requests wait than a session may have.
    TooManyRequests,
    /// All sessions together ask for more than this gateway does at once.
    Busy,
    /// The session sends events too quickly.
    RateLimited,
    /// The broker is away; nothing was written.
    Unavailable,
    /// The broker's answer was lost; repeating with the same key is safe.
    OutcomeUnknown,
    /// The gateway holds as many sessions as it may.
    Full,
    /// The gateway is on its way out.
    Draining,
}

impl RefusalCode {
    /// Every code, for metrics of fixed cardinality.
    pub const ALL: [Self; 18] = [
        Self::BadRequest,
        Self::BadRoom,
        Self::ReservedRoom,
        Self::Forbidden,
        Self::TooManyRooms,
        Self::NotJoined,
        Self::UnknownEvent,
        Self::TooLarge,
        Self::QueueFull,
        Self::MemoryFull,
        Self::KeyReused,
        Self::TooManyRequests,
        Self::Busy,
        Self::RateLimited,
        Self::Unavailable,
        Self::OutcomeUnknown,
        Self::Full,
        Self::Draining,
    ];

    /// The word, also as a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::BadRoom => "bad_room",
            Self::ReservedRoom => "reserved_room",
            Self::Forbidden => "forbidden",
            Self::TooManyRooms => "too_many_rooms",
            Self::NotJoined => "not_joined",
            Self::UnknownEvent => "unknown_event",
            Self::TooLarge => "too_large",
            Self::QueueFull => "queue_full",
            Self::MemoryFull => "memory_full",
            Self::KeyReused => "key_reused",
            Self::TooManyRequests => "too_many_requests",
            Self::Busy => "busy",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Full => "gateway_full",
            Self::Draining => "draining",
        }
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Refusal {
    /// A refusal with this code and sentence.
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after_ms: None,
        }
    }

    /// Says when trying again may help.
    #[must_use]
    pub fn retry_after(mut self, wait: std::time::Duration) -> Self {
        self.retry_after_ms = u64::try_from(wait.as_millis()).ok();
        self
    }

    pub(super) fn memory_full(full: MemoryFull) -> Self {
        Self::new(RefusalCode::MemoryFull, full.to_string()).retry_after(MemoryFull::RETRY_AFTER)
    }

    pub(super) fn gone() -> Self {
        Self::new(RefusalCode::Unavailable, "the session has ended")
    }
}

/// A session's end of the hub. Dropping it ends the session.
#[derive(Debug)]
pub struct SessionHandle {
    pub(super) key: SessionKey,
    pub(super) id: Arc<str>,
    pub(super) identity: Identity,
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) signals: Arc<Signals>,
    pub(super) publisher: Arc<Publisher>,
    pub(super) outbox: Option<OutboxReceiver>,
    /// Lives as long as the handle: a shard that hears of the end before the beginning must not begin.
    pub(super) alive: Option<Arc<()>>,
}

impl SessionHandle {
    /// The session's id.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What is to be written to the client; the transport takes it once and drains it.
    pub fn take_outbox(&mut self) -> Option<OutboxReceiver> {
        self.outbox.take()
    }

    /// Joins a room, by policy, or joins it again. Answers once it is known where the session starts; what it missed
    /// follows through the outbox.
    pub async fn join(&self, room: Room, start: Start) -> Result<Joined, Refusal> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Join {
            session: self.key,
            room,
            start,
            reply,
        };
        self.requests.send(request).await.map_err(|_| Refusal::gone())?;
        answer.await.map_err(|_| Refusal::gone())?
    }

    /// Changes which rooms the session may join beyond policy, from now on; it stays in those it is in.
    pub async fn change_rooms(&self, rooms: Arc<[RoomPattern]>) -> Result<(), Refusal> {
        let request = Request::ChangeRooms {
            session: self.key,
            rooms,
        };
        self.requests.send(request).await.map_err(|_| Refusal::gone())
    }

    /// Leaves a room. Leaving one the session is not in is refused with `not_joined`.
    pub async fn leave(&self, room: Room) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        self.requests
            .send(Request::Leave {
                session: self.key,
                room,
                reply,
            })
            .await
            .map_err(|_| Refusal::gone())?;
        answer.await.map_err(|_| Refusal::gone())?
    }

    /// Who is in a room the session is in, if policy keeps that.
    pub async fn presence(&self, room: Room) -> Result<Arc<PresenceSummary>, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.wish(room, PresenceWish::Look(reply)).await?;
        answer.await.map_err(|_| Refusal::gone())?
    }

    /// Begins or ends to be told who is in a room the session is in, if policy keeps that. First all of it comes through
    /// the outbox, then what changes.
    pub async fn watch_presence(&self, room: Room, watch: bool) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        let wish = match watch {
            true => PresenceWish::Watch(reply),
            false => PresenceWish::Unwatch(reply),
        };
        self.wish(room, wish).await?;
        answer.await.map_err(|_| Refusal::gone())?
    }

    async fn wish(&self, room: Room, wish: PresenceWish) -> Result<(), Refusal> {
        let request = Request::Presence {
            session: self.key,
            room,
            wish,
        };
        self.requests.send(request).await.map_err(|_| Refusal::gone())
    }

    /// Queues a message for a room, by policy. Synchronous, so that a session's messages keep the order of its calls;
    /// the receipt answers when the message is kept or refused.
    pub fn enqueue_publish(&self, publish: Publish) -> Result<PublishReceipt, Refusal> {
        self.publisher.publish(publish)
    }

    /// Queues what policy makes of a client's event, as [`SessionHandle::enqueue_publish`].
    pub fn enqueue_event(
        &self,
        event: &str,
        data: Data,
        trace: tracing::Span,
    ) -> Result<PublishReceipt, Refusal> {
        self.publisher.event(event, data, trace)
    }

    /// The newest messages of a room the session is in, below an offset (exclusive), newest first.
    pub async fn history(
        &self,
        room: Room,
        before: Option<Offset>,
        limit: usize,
    ) -> Result<Vec<Arc<Delivery>>, Refusal> {
        let (reply, answer) = oneshot::channel();
        let request = Request::History {
            session: self.key,
            look: Look { room, below: before },
            entries: limit,
            reply,
        };
        self.requests.send(request).await.map_err(|_| Refusal::gone())?;
        answer.await.map_err(|_| Refusal::gone())?
    }

    /// Ends the session with a reason, as the transport found it (for the count of closes).
    pub fn closed(&self, reason: CloseReason) {
        self.signals.gone(self.key, Some(reason));
    }
}

impl Drop for SessionHandle {
    fn drop(&mut self) {
        // First, so that whoever misses the signal sees this.
        self.alive = None;
        self.signals.gone(self.key, None);
    }
}
