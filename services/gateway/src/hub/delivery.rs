//! A message as it is handed to its room's members: prepared once, shared by all of them.

use carillon_model::{Data, EventName, Gap, Message, MessageId, Offset, Room, Sender};
use serde::Serialize;

use super::traces::DeliveryTrace;

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
    id: MessageId,
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
