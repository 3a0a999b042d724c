//! The policy as it is written down: one text for one meaning.

use std::collections::BTreeMap;

use bytesize::ByteSize;
use serde::Serialize;

use crate::{
    resources::{
        PushProducerSpec,
        cluster::{DefaultPolicy, Gateways},
        room::{History, RoomRule},
    },
    time::duration,
};

/// The policy's form (see [`carillon_model::policy`]), every field said, in one order.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Document {
    anonymous: AnonymousDocument,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateways: Option<GatewaysDocument>,
    pub(super) rooms: Vec<RoomDocument>,
    pub(super) producers: Vec<ProducerDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_events: Option<BTreeMap<String, ClientEventDocument>>,
    intake: IntakeDocument,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct AnonymousDocument {
    sessions: bool,
    producers: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct GatewaysDocument {
    #[serde(skip_serializing_if = "Option::is_none")]
    drain_rate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rebalance: Option<RebalanceDocument>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct RebalanceDocument {
    rate: String,
    within: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct RoomDocument {
    #[serde(rename = "match")]
    pattern: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<HistoryDocument>,
    join: &'static str,
    publish: &'static str,
    presence: bool,
    slow: &'static str,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct HistoryDocument {
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct ProducerDocument {
    pub(super) name: String,
    key_sha256: Vec<String>,
    rooms: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    burst: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct ClientEventDocument {
    room: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct IntakeDocument {
    lists: Vec<ListDocument>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct ListDocument {
    list: String,
    room: String,
    event: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<String>,
}

impl Document {
    /// What a PushCluster says, without PushRooms and PushProducers.
    pub(crate) fn of_cluster(policy: &DefaultPolicy, gateways: Option<&Gateways>) -> Self {
        let gateways = gateways.map(|gateways| GatewaysDocument {
            drain_rate: gateways.drain_rate.clone(),
            rebalance: gateways.rebalance.as_ref().map(|rebalance| RebalanceDocument {
                rate: rebalance.rate.clone(),
                within: rebalance.within,
            }),
        });
        Self {
            anonymous: AnonymousDocument {
                sessions: policy.anonymous.sessions,
                producers: policy.anonymous.producers,
            },
            gateways: gateways
                .filter(|gateways| gateways.drain_rate.is_some() || gateways.rebalance.is_some()),
            rooms: policy.rooms.iter().map(RoomDocument::of).collect(),
            producers: Vec::new(),
            client_events: policy.client_events.as_ref().map(|events| {
                let becomes = |event: &crate::resources::cluster::ClientEvent| ClientEventDocument {
                    room: event.room.clone(),
                    format: event.format.clone(),
                };
                events
                    .iter()
                    .map(|(name, event)| (name.clone(), becomes(event)))
                    .collect()
            }),
            intake: IntakeDocument {
                lists: policy
                    .intake
                    .lists
                    .iter()
                    .map(|list| ListDocument {
                        list: list.list.clone(),
                        room: list.room.clone(),
                        event: list.event.clone(),
                        format: list.format.clone(),
                    })
                    .collect(),
            },
        }
    }

    /// Only a rule, to be checked by itself.
    pub(crate) fn of_room(rule: &RoomRule) -> Self {
        Self {
            rooms: vec![RoomDocument::of(rule)],
            ..Self::default()
        }
    }

    /// Only a producer, to be checked by itself.
    pub(crate) fn of_producer(name: &str, spec: &PushProducerSpec) -> Self {
        Self {
            producers: vec![ProducerDocument::of(name, spec, Vec::new())],
            ..Self::default()
        }
    }

    /// The text.
    pub(crate) fn text(&self) -> Result<String, serde_saphyr::ser::Error> {
        serde_saphyr::to_string(self)
    }
}

impl RoomDocument {
    pub(super) fn of(rule: &RoomRule) -> Self {
        Self {
            pattern: rule.pattern.clone(),
            history: rule.history.as_ref().map(HistoryDocument::of),
            join: rule.join.as_str(),
            publish: rule.publish.as_str(),
            presence: rule.presence,
            slow: rule.slow.as_str(),
        }
    }
}

impl HistoryDocument {
    fn of(history: &History) -> Self {
        let age = |text: &String| match duration(text) {
            Some(age) => humantime::format_duration(age).to_string(),
            // Said in the refusal, as it was written.
            None => text.clone(),
        };
        Self {
            size: history.size,
            age: history.age.as_ref().map(age),
            bytes: history.bytes.as_deref().and_then(bytes),
        }
    }
}

impl ProducerDocument {
    pub(super) fn of(name: &str, spec: &PushProducerSpec, mut key_sha256: Vec<String>) -> Self {
        key_sha256.sort();
        Self {
            name: name.to_owned(),
            key_sha256,
            rooms: spec.rooms.clone(),
            rate: spec.rate.clone(),
            burst: spec.burst,
        }
    }
}

fn bytes(text: &str) -> Option<u64> {
    text.parse::<ByteSize>().ok().map(|size| size.as_u64())
}
