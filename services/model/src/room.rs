//! The one thing a message can be sent to.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A room's name: 1–200 bytes of UTF-8 without control characters. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Room(Arc<str>);

/// What a room's name says about who is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomKind<'a> {
    /// Every session.
    All,
    /// Every session of the user with this id.
    User(&'a str),
    /// The one session with this id.
    Session(&'a str),
    /// A room that sessions join by request.
    Named(&'a str),
}

/// A text that can't name a room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRoom {
    /// Nothing there.
    #[error("a room's name must not be empty")]
    Empty,
    /// Over the limit.
    #[error("a room's name has at most {max} bytes, this one has {0}", max = Room::MAX_BYTES)]
    TooLong(usize),
    /// A control character, given by its place in bytes.
    #[error("a room's name must not contain control characters; there is one at byte {0}")]
    ControlCharacter(usize),
    /// `user:` or `session:` without an id.
    #[error("`{0}` needs an id after the colon")]
    MissingId(&'static str),
}

impl Room {
    /// The longest name, in bytes of UTF-8.
    pub const MAX_BYTES: usize = 200;

    /// Checks a name.
    pub fn new(name: impl AsRef<str>) -> Result<Self, InvalidRoom> {
        let name = name.as_ref();
        if name.is_empty() {
            return Err(InvalidRoom::Empty);
        }
        if name.len() > Self::MAX_BYTES {
            return Err(InvalidRoom::TooLong(name.len()));
        }
        if let Some((at, _)) = name.char_indices().find(|(_, character)| character.is_control()) {
            return Err(InvalidRoom::ControlCharacter(at));
        }
        match name {
            "user:" => Err(InvalidRoom::MissingId("user:")),
            "session:" => Err(InvalidRoom::MissingId("session:")),
            _ => Ok(Self(name.into())),
        }
    }

    /// The room of every session.
    pub fn all() -> Self {
        Self("all".into())
    }

    /// The room of a user's sessions.
    pub fn of_user(user: &str) -> Result<Self, InvalidRoom> {
        Self::new(format!("user:{user}"))
    }

    /// The room of one session.
    pub fn of_session(session: &str) -> Result<Self, InvalidRoom> {
        Self::new(format!("session:{session}"))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the name says about who is in it.
    pub fn kind(&self) -> RoomKind<'_> {
        if &*self.0 == "all" {
            RoomKind::All
        } else if let Some(user) = self.0.strip_prefix("user:") {
            RoomKind::User(user)
        } else if let Some(session) = self.0.strip_prefix("session:") {
            RoomKind::Session(session)
        } else {
            RoomKind::Named(&self.0)
        }
    }

    /// Whether sessions are in it by identity, never on request: `all`, `user:…`, `session:…`.
    pub fn is_reserved(&self) -> bool {
        !matches!(self.kind(), RoomKind::Named(_))
    }

    /// Whether its messages have a place that can be recovered from. Session rooms die with their connection.
    pub fn has_offsets(&self) -> bool {
        !matches!(self.kind(), RoomKind::Session(_))
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, formatter)
    }
}

impl fmt::Display for Room {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl TryFrom<String> for Room {
    type Error = InvalidRoom;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(name)
    }
}

impl Serialize for Room {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Room {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::new(name).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!(Room::new(""), Err(InvalidRoom::Empty));
        assert_eq!(Room::new("x".repeat(201)), Err(InvalidRoom::TooLong(201)));
        assert_eq!(Room::new("a\u{7}b"), Err(InvalidRoom::ControlCharacter(1)));
        assert_eq!(Room::new("user:"), Err(InvalidRoom::MissingId("user:")));
        assert!(Room::new("é".repeat(100)).is_ok());
    }

    #[test]
    fn the_name_says_who_is_in_it() {
        assert_eq!(Room::all().kind(), RoomKind::All);
        assert_eq!(Room::of_user("42").unwrap().kind(), RoomKind::User("42"));
        assert!(!Room::of_session("a").unwrap().has_offsets());
        assert!(!Room::new("allotment").unwrap().is_reserved());
    }
}
