//! `PushProducer`: a credential for ingest, with its key in a Secret.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{condition::Condition, rules};

/// A producer: where it may send, how much, and how its key is changed.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "carillon.dev",
    version = "v1alpha1",
    kind = "PushProducer",
    plural = "pushproducers",
    shortname = "pp",
    category = "push",
    namespaced,
    status = "PushProducerStatus",
    derive = "PartialEq",
    doc = "A producer: the rooms it may send to, its quota, and its key in a Secret that is made and rotated for it.",
    validation = Rule::new("self.metadata.name.size() <= 63")
        .message("the name of a PushProducer must have at most 63 characters: it becomes a label of its Secret"),
    printcolumn(name = "Secret", type_ = "string", json_path = ".status.secretName"),
    printcolumn(name = "Rate", type_ = "string", json_path = ".spec.rate"),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend"),
    printcolumn(name = "Rotated", type_ = "date", json_path = ".status.rotatedAt"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Accepted")].status"#
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Programmed")].status"#
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("!has(self.burst) || has(self.rate)")
        .message("a burst is part of a rate: say rate too, like 200/s"),
    validation = Rule::new("has(self.secretName) == has(oldSelf.secretName) && (!has(self.secretName) || self.secretName == oldSelf.secretName)")
        .message("secretName can't be changed, because programs read the Secret by its name; make another PushProducer and delete this one when nobody uses it")
)]
#[serde(rename_all = "camelCase")]
pub struct PushProducerSpec {
    /// Rooms it may send to: globs over room names, such as `user:*` or `all`.
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 200)))]
    #[x_kube(validation = rules::patterns("each of rooms"))]
    pub rooms: Vec<String>,
    /// Messages per time at most, like `200/s`. Without it there is no quota.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24))]
    #[x_kube(validation = rules::rate("rate"))]
    pub rate: Option<String>,
    /// Messages that may come at once after a pause; the rate's count if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub burst: Option<u32>,
    /// How its key changes.
    #[serde(default)]
    pub rotation: Rotation,
    /// Refuses the producer within seconds, whatever its key, until this is false again. The key stays.
    #[serde(default)]
    pub suspend: bool,
    /// The name of the Secret with the key; the producer's name followed by `-key` if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(
        validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')")
            .message("secretName must be the name of a Secret: lower case letters, digits, - and .")
    )]
    pub secret_name: Option<String>,
}

/// How a key changes. The annotation `carillon.dev/rotate` with a new value changes it at once.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!has(self.interval) || !has(self.overlap) || !self.interval.matches('^([0-9]+(h|m|s|ms))+$') || !self.overlap.matches('^([0-9]+(h|m|s|ms))+$') || duration(self.interval) > duration(self.overlap)")
        .message("rotation.interval must be longer than rotation.overlap: a key must not outlive its successor")
)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// How often a new key is made. Without it only on demand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = rules::duration("rotation.interval", "1m", "17520h"))]
    pub interval: Option<String>,
    /// How long the former key is accepted beside the new one.
    #[serde(default = "Rotation::usual_overlap")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = rules::duration("rotation.overlap", "0s", "720h"))]
    pub overlap: String,
}

impl Rotation {
    fn usual_overlap() -> String {
        "1h".to_owned()
    }
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            interval: None,
            overlap: Self::usual_overlap(),
        }
    }
}

/// What became of a PushProducer.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PushProducerStatus {
    /// `Accepted` and `Programmed`.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
    /// The Secret that holds the key under `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// The first digits of the key's SHA-256, to tell keys apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Since when the key is the one in the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated_at: Option<String>,
    /// When the next one is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_rotation: Option<String>,
    /// Until when a former key is still accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_until: Option<String>,
}
