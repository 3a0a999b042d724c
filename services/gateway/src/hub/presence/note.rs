//! What clients are told of a room's presence.

use std::{collections::BTreeSet, sync::Arc};

use carillon_model::Room;
use serde::Serialize;

use crate::hub::session::Refusal;

/// Who is in a room at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PresenceSummary {
    /// The room.
    pub room: Room,
    /// Its users, each once, in order; not all of them if there are very many.
    pub users: Vec<Arc<str>>,
    /// Sessions, those without a user included.
    pub sessions: u64,
    /// Whether there are more users than are named.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

impl PresenceSummary {
    pub(super) fn new(room: &Room, users: &BTreeSet<Arc<str>>, sessions: u64, limit: usize) -> Self {
        Self {
            room: room.clone(),
            users: users.iter().take(limit).cloned().collect(),
            sessions,
            truncated: users.len() > limit,
        }
    }
}

/// An event for those who watch a room, encoded once for all of them.
#[derive(Debug, PartialEq, Eq)]
pub struct PresenceNote {
    /// The event's name.
    pub event: &'static str,
    /// Its one argument, as JSON.
    pub argument: Box<str>,
}

#[derive(Serialize)]
struct OneUser<'a> {
    room: &'a Room,
    user: &'a str,
}

#[derive(Serialize)]
struct Ended<'a> {
    room: &'a Room,
    error: &'a Refusal,
}

impl PresenceNote {
    fn new(event: &'static str, argument: &impl Serialize) -> Self {
        let argument = serde_json::to_string(argument).unwrap_or_else(|error| {
            tracing::error!(%error, event, "presence that is no JSON");
            "null".to_owned()
        });
        Self {
            event,
            argument: argument.into(),
        }
    }

    /// Everything: what was told before is replaced by it.
    pub(super) fn all(summary: &PresenceSummary) -> Self {
        Self::new("presence", summary)
    }

    pub(super) fn join(room: &Room, user: &str) -> Self {
        Self::new("presence_join", &OneUser { room, user })
    }

    pub(super) fn leave(room: &Room, user: &str) -> Self {
        Self::new("presence_leave", &OneUser { room, user })
    }

    /// Nothing more will be told.
    pub(super) fn ended(room: &Room, error: &Refusal) -> Self {
        Self::new("presence", &Ended { room, error })
    }

    /// What it counts in an outbox, in bytes.
    pub fn weight(&self) -> usize {
        self.argument.len() + self.event.len() + 16
    }
}
