//! What a producer or a client sends.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// The name of a Socket.IO event: 1–200 bytes of UTF-8 without control characters. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventName(Arc<str>);

/// A text that can't name an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEventName {
    /// Nothing there.
    #[error("an event's name must not be empty")]
    Empty,
    /// Over the limit.
    #[error("an event's name has at most {max} bytes, this one has {0}", max = EventName::MAX_BYTES)]
    TooLong(usize),
    /// A control character, given by its place in bytes.
    #[error("an event's name must not contain control characters; there is one at byte {0}")]
    ControlCharacter(usize),
    /// Socket.IO and Carillon keep these for themselves; stock clients refuse or misread them.
    #[error("the event name `{0}` is reserved; choose another one")]
    Reserved(String),
}

impl EventName {
    /// The longest name, in bytes of UTF-8.
    pub const MAX_BYTES: usize = 200;

    /// Names a stock client raises itself, or that Carillon sends: a message must not look like one.
    const RESERVED: [&'static str; 12] = [
        "connect",
        "connect_error",
        "connecting",
        "disconnect",
        "disconnecting",
        "newListener",
        "removeListener",
        "cursors",
        "token_expired",
        "presence",
        "presence_join",
        "presence_leave",
    ];

    /// Checks a name.
    pub fn new(name: impl AsRef<str>) -> Result<Self, InvalidEventName> {
        let name = name.as_ref();
        if name.is_empty() {
            return Err(InvalidEventName::Empty);
        }
        if name.len() > Self::MAX_BYTES {
            return Err(InvalidEventName::TooLong(name.len()));
        }
        if let Some((at, _)) = name.char_indices().find(|(_, character)| character.is_control()) {
            return Err(InvalidEventName::ControlCharacter(at));
        }
        if Self::RESERVED.contains(&name) {
            return Err(InvalidEventName::Reserved(name.to_owned()));
        }
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for EventName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, formatter)
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Serialize for EventName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for EventName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::new(name).map_err(serde::de::Error::custom)
    }
}

/// A message's id: a UUID given at acceptance, the same in every room it goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(pub Uuid);

impl MessageId {
    /// Ids that come from producer and idempotency key are UUIDs version 5 in this name space, so that a repeat has
    /// the id of the first try on whichever process it arrives.
    const IDEMPOTENCY_NAMESPACE: Uuid = Uuid::from_u128(0x6361_7269_6c6c_4f6e_8000_6964_656d_706f);

    /// A fresh id, ordered by time (UUID version 7).
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id of what this producer sent under this idempotency key.
    pub fn of_idempotency_key(producer: &str, key: &str) -> Self {
        let name = format!("{}:{producer}:{key}", producer.len());
        Self(Uuid::new_v5(&Self::IDEMPOTENCY_NAMESPACE, name.as_bytes()))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The content of a message. JSON stays the text the producer wrote.
#[derive(Clone, PartialEq, Eq)]
pub enum Data {
    /// Valid JSON text, checked once where it entered.
    Json(Bytes),
    /// Bytes; a Socket.IO client gets a binary attachment.
    Binary(Bytes),
}

impl Data {
    /// The JSON `null`.
    pub const NULL: Self = Self::Json(Bytes::from_static(b"null"));

    /// A JSON string of this text.
    pub fn text(text: &str) -> Self {
        Self::Json(serde_json::Value::from(text).to_string().into())
    }

    /// The raw JSON text of a parsed-through value.
    pub fn raw(value: &serde_json::value::RawValue) -> Self {
        Self::Json(Bytes::copy_from_slice(value.get().as_bytes()))
    }

    /// The size of the content in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Json(bytes) | Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether there are no bytes at all (never true of JSON).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Payloads never reach a log: only their kind and size do.
impl fmt::Debug for Data {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(bytes) => write!(formatter, "Json({} bytes)", bytes.len()),
            Self::Binary(bytes) => write!(formatter, "Binary({} bytes)", bytes.len()),
        }
    }
}

/// Who sent a message.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Sender {
    /// Nobody known: an anonymous producer.
    #[default]
    Anonymous,
    /// A producer, by name.
    Producer(String),
    /// A client's session, with its user if it has one.
    Session {
        /// The session's id.
        session: String,
        /// The session's user.
        user: Option<String>,
    },
}

/// A message, apart from its place in any room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The same in every room.
    pub id: MessageId,
    /// The Socket.IO event.
    pub event: EventName,
    /// The content.
    pub data: Data,
    /// Milliseconds since 1970 at acceptance; for people, never for decisions.
    pub accepted_at: u64,
    /// How many rooms it goes to.
    pub copies: u32,
    /// Who sent it.
    pub sender: Sender,
    /// W3C trace context (`traceparent`), empty if there is none.
    pub traceparent: String,
}
