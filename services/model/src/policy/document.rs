//! The policy as written, and its checks. Every mistake is collected with its path before anything is refused.

use std::fmt;

use bytesize::ByteSize;
use indexmap::IndexMap;
use serde::Deserialize;

/// One mistake in a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    /// Where, like `rooms[2].history.age`; empty if the text is no policy at all.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Every mistake in a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyErrors(pub Vec<PolicyError>);

impl fmt::Display for PolicyErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, error) in self.0.iter().enumerate() {
            if place > 0 {
                formatter.write_str("\n")?;
            }
            if error.path.is_empty() {
                formatter.write_str(&error.message)?;
            } else {
                write!(formatter, "{}: {}", error.path, error.message)?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for PolicyErrors {}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Document {
    pub(super) anonymous: AnonymousDocument,
    pub(super) rooms: Vec<RoomDocument>,
    pub(super) producers: Vec<ProducerDocument>,
    pub(super) client_events: Option<IndexMap<String, ClientEventDocument>>,
    pub(super) intake: IntakeDocument,
    pub(super) cloudevents: Option<CloudEventsDocument>,
    pub(super) gateways: GatewaysDocument,
    /// Only by [`Document::permissive`]: what holds for rooms without a rule.
    #[serde(skip)]
    pub(super) open: bool,
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AnonymousDocument {
    pub(super) sessions: bool,
    pub(super) producers: bool,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RoomDocument {
    #[serde(rename = "match")]
    pub(super) pattern: String,
    pub(super) history: Option<HistoryDocument>,
    pub(super) join: Option<String>,
    pub(super) publish: Option<String>,
    #[serde(default)]
    pub(super) presence: bool,
    pub(super) slow: Option<String>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryDocument {
    pub(super) size: Option<u64>,
    pub(super) age: Option<String>,
    pub(super) bytes: Option<ByteSize>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProducerDocument {
    pub(super) name: String,
    pub(super) key_sha256: OneOrMany,
    pub(super) rooms: Vec<String>,
    pub(super) rate: Option<String>,
    pub(super) burst: Option<u32>,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientEventDocument {
    pub(super) room: String,
    pub(super) format: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct IntakeDocument {
    pub(super) lists: Vec<ListDocument>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListDocument {
    pub(super) list: String,
    pub(super) room: String,
    pub(super) event: String,
    pub(super) format: Option<String>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CloudEventsDocument {
    pub(super) to: EventTargetDocument,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventTargetDocument {
    pub(super) room: Option<String>,
    pub(super) user: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct GatewaysDocument {
    pub(super) drain_rate: Option<String>,
    pub(super) rebalance: Option<RebalanceDocument>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RebalanceDocument {
    pub(super) rate: String,
    pub(super) within: Option<u32>,
}

impl Document {
    pub(super) fn permissive() -> Self {
        Self {
            anonymous: AnonymousDocument {
                sessions: true,
                producers: true,
            },
            open: true,
            ..Self::default()
        }
    }
}
