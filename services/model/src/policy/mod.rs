//! What is allowed and kept, per room pattern and producer. It may change at any time.
//!
//! The same form comes from a watched file and from the snapshot that the operator compiles from custom resources
//! (DESIGN §11). [`Policy::parse_yaml`] checks all of it and reports every mistake at once; what comes out can be
//! used without further checks.

mod checks;
mod cloud_events;
mod diagnosis;
mod document;
mod format;
mod gateways;
mod rule;

use std::sync::Arc;

use indexmap::IndexMap;
use subtle::{Choice, ConstantTimeEq};

pub use cloud_events::EventRoute;
pub use document::{PolicyError, PolicyErrors};
pub use format::Format;
pub use gateways::{GatewayKnobs, Rebalance};
pub use rule::{Access, HistoryLimits, Producer, RateLimit, RoomPattern, RoomRule, SlowSessions};

use crate::{EventName, Room};

/// A checked policy. Cheap to share; services swap the `Arc` atomically.
#[derive(Clone, Debug)]
pub struct Policy {
    /// A short hash of its content: equal content, equal revision.
    pub revision: Arc<str>,
    /// Whether sessions without identity may connect.
    pub anonymous_sessions: bool,
    /// Whether producers without a key may publish.
    pub anonymous_producers: bool,
    rooms: Vec<Arc<RoomRule>>,
    unmatched: Arc<RoomRule>,
    producers: Vec<Arc<Producer>>,
    client_events: IndexMap<EventName, Arc<ClientEvent>>,
    lists: Vec<Arc<ListIntake>>,
    cloud_events: Option<EventRoute>,
    gateways: GatewayKnobs,
}

/// What an event of a client becomes.
#[derive(Clone, Debug)]
pub struct ClientEvent {
    /// Where it goes.
    pub room: Room,
    /// How its data is put, if not as it is. Knows `session`, `user` and `data`.
    pub format: Option<Format>,
}

/// A plain Redis list that dispatchers take messages from.
#[derive(Clone, Debug)]
pub struct ListIntake {
    /// The list's key, as it is in Redis (without our prefix).
    pub list: String,
    /// Where its items go.
    pub room: Room,
    /// Under which event.
    pub event: EventName,
    /// How an item is put, if not as a JSON string of itself. Knows `data`.
    pub format: Option<Format>,
}

impl Policy {
    /// Parses and checks a policy; every mistake is in the error, with its path.
    pub fn parse_yaml(text: &str) -> Result<Self, PolicyErrors> {
        checks::parse(text)
    }

    /// What holds where nothing was said: nobody anonymous, `chat message` to `all`.
    pub fn default_policy() -> Self {
        checks::built(document::Document::default())
    }

    /// The policy of `carillon dev`: everybody may do everything. For loopback only.
    pub fn permissive() -> Self {
        checks::built(document::Document::permissive())
    }

    /// The rule of a room: the first match decides.
    pub fn room(&self, room: &Room) -> &Arc<RoomRule> {
        self.rooms
            .iter()
            .find(|rule| rule.pattern.matches(room))
            .unwrap_or(&self.unmatched)
    }

    /// The place of the rule that decides about a room, from 0; `None`: none of them does.
    pub fn rule_of(&self, room: &Room) -> Option<usize> {
        self.rooms.iter().position(|rule| rule.pattern.matches(room))
    }

    /// The producer whose key has this SHA-256. Takes the same time whichever it is, and whether it is one.
    pub fn producer_of_key(&self, sha256: &[u8; 32]) -> Option<&Arc<Producer>> {
        self.producers.iter().fold(None, |found, producer| {
            let is_it = producer
                .key_hashes
                .iter()
                .fold(Choice::from(0), |is_it, hash| is_it | hash.ct_eq(sha256));
            found.or(bool::from(is_it).then_some(producer))
        })
    }

    /// All producers.
    pub fn producers(&self) -> &[Arc<Producer>] {
        &self.producers
    }

    /// What an event of a client becomes; `None` refuses it.
    pub fn client_event(&self, event: &str) -> Option<&Arc<ClientEvent>> {
        self.client_events
            .iter()
            .find(|(name, _)| name.as_str() == event)
            .map(|(_, becomes)| becomes)
    }

    /// What gateways do differently while they run.
    pub fn gateways(&self) -> &GatewayKnobs {
        &self.gateways
    }

    /// The lists to take from.
    pub fn lists(&self) -> &[Arc<ListIntake>] {
        &self.lists
    }

    /// Where CloudEvents go; `None` refuses them.
    pub fn cloud_events(&self) -> Option<&EventRoute> {
        self.cloud_events.as_ref()
    }
}
