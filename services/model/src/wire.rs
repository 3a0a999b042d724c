//! `carillon.wire.v1`: what lies in Redis, and how it becomes types again.
//!
//! Generated code is private to the format; everything else speaks [`Message`], [`RoomMessage`], [`Frame`].

#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/carillon.wire.v1.rs"));
}

use bytes::Bytes;
use prost::Message as _;
use uuid::Uuid;

pub use generated::{
    ChannelEntry, Frame, Gap, HistoryEntry, Message as MessageRecord, Offset, Probe, ProbeFrame, QueueEntry,
    RoomMessage, message, queue_entry,
};

use crate::{Data, EventName, Message, MessageId, Sender};

/// Bytes that are no entry of this format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not protobuf, or of another shape.
    #[error("not a {kind}: {source}")]
    Malformed {
        /// The message of the format that was expected.
        kind: &'static str,
        /// What the decoder said.
        source: prost::DecodeError,
    },
    /// Decoded, but a field that must be there is missing or out of range.
    #[error("a {kind} without a valid `{field}`")]
    Field {
        /// The message of the format.
        kind: &'static str,
        /// The field.
        field: &'static str,
    },
}

impl WireError {
    /// Wraps what the decoder said.
    pub fn malformed(kind: &'static str) -> impl FnOnce(prost::DecodeError) -> Self {
        move |source| Self::Malformed { kind, source }
    }
}

impl Message {
    /// The encoded `carillon.wire.v1.Message`.
    pub fn encode(&self) -> Bytes {
        let (session, user, producer) = match &self.sender {
            Sender::Anonymous => (String::new(), String::new(), String::new()),
            Sender::Producer(name) => (String::new(), String::new(), name.clone()),
            Sender::Session { session, user } => {
                (session.clone(), user.clone().unwrap_or_default(), String::new())
            }
        };
        MessageRecord {
            id: Bytes::copy_from_slice(self.id.0.as_bytes()),
            event: self.event.as_str().to_owned(),
            data: Some(match &self.data {
                Data::Json(json) => message::Data::Json(json.clone()),
                Data::Binary(binary) => message::Data::Binary(binary.clone()),
            }),
            accepted_at: self.accepted_at,
            traceparent: self.traceparent.clone(),
            tracestate: String::new(),
            copies: self.copies,
            session,
            user,
            producer,
        }
        .encode_to_vec()
        .into()
    }

    /// Reads an encoded `carillon.wire.v1.Message`. JSON data is trusted: it was checked where it entered.
    pub fn decode(bytes: Bytes) -> Result<Self, WireError> {
        const KIND: &str = "Message";
        let field = |field| WireError::Field { kind: KIND, field };
        let record = MessageRecord::decode(bytes).map_err(WireError::malformed(KIND))?;
        Ok(Self {
            id: MessageId(Uuid::from_slice(&record.id).map_err(|_| field("id"))?),
            event: EventName::new(&record.event).map_err(|_| field("event"))?,
            data: match record.data.ok_or_else(|| field("data"))? {
                message::Data::Json(json) => Data::Json(json),
                message::Data::Binary(binary) => Data::Binary(binary),
            },
            accepted_at: record.accepted_at,
            copies: record.copies.max(1),
            sender: match (record.session.is_empty(), record.producer.is_empty()) {
                (false, _) => Sender::Session {
                    session: record.session,
                    user: (!record.user.is_empty()).then_some(record.user),
                },
                (true, false) => Sender::Producer(record.producer),
                (true, true) => Sender::Anonymous,
            },
            traceparent: record.traceparent,
        })
    }
}

impl QueueEntry {
    /// One copy of an encoded message, for one room.
    pub fn of_message(room: &crate::Room, message: Bytes) -> Self {
        Self {
            content: Some(queue_entry::Content::Message(RoomMessage {
                room: room.as_str().to_owned(),
                message,
                traceparent: String::new(),
            })),
            gap: None,
        }
    }

    /// Says which trace the message is in, if that trace is recorded. Otherwise this costs nothing, here and at every
    /// hop that follows.
    #[must_use]
    pub fn traced(mut self, traceparent: &str) -> Self {
        if crate::trace::is_sampled(traceparent)
            && let Some(queue_entry::Content::Message(message)) = &mut self.content
        {
            traceparent.clone_into(&mut message.traceparent);
        }
        self
    }

    /// A probe.
    pub fn of_probe(probe: Probe) -> Self {
        Self {
            content: Some(queue_entry::Content::Probe(probe)),
            gap: None,
        }
    }

    /// A gap marker of a room.
    pub fn of_gap(room: &crate::Room, gap: crate::Gap) -> Self {
        let gap = Gap {
            room: room.as_str().to_owned(),
            ..gap.into()
        };
        Self {
            gap: Some(gap),
            ..Self::of_probe(Probe::default())
        }
    }

    /// A gap marker of a whole partition.
    pub fn of_partition_gap() -> Self {
        Self {
            gap: Some(Gap::default()),
            ..Self::of_probe(Probe::default())
        }
    }
}
