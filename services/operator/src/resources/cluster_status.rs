//! What is seen of an installation.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;

/// How an installation is. Numbers that always move are brought up to date every ten seconds.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PushClusterStatus {
    /// `Accepted` and `Programmed`.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
    /// The policy in force.
    #[serde(default)]
    pub policy: PolicyStatus,
    /// The gateways.
    #[serde(default)]
    pub gateways: GatewaysStatus,
    /// The dispatchers.
    #[serde(default)]
    pub dispatchers: ServiceStatus,
    /// The doors for producers.
    #[serde(default)]
    pub ingest: ServiceStatus,
    /// Messages that wait in the queues.
    #[serde(default)]
    pub lag: i64,
}

/// The snapshot in Redis and who applies it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// The revision of the snapshot, a hash of its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// PushRooms in it.
    #[serde(default)]
    pub rooms: i32,
    /// PushProducers in it.
    #[serde(default)]
    pub producers: i32,
    /// How many services apply it, of how many, like `3/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<String>,
    /// Who applies it, by name; the first fifty.
    #[serde(default)]
    pub applied_by: Vec<String>,
    /// Who does not yet, by name; the first fifty.
    #[serde(default)]
    pub pending: Vec<String>,
}

/// The gateways.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaysStatus {
    /// Pods of their Deployment.
    #[serde(default)]
    pub replicas: i32,
    /// Which pods these are, as a label selector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Those that live, by Redis' clock.
    #[serde(default)]
    pub alive: i32,
    /// Those of them that hand their sessions over.
    #[serde(default)]
    pub draining: i32,
    /// Sessions of all.
    #[serde(default)]
    pub connections: i64,
    /// Sessions all could hold.
    #[serde(default)]
    pub capacity: i64,
    /// By how much the fullest is above the mean, like `12 %`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skew: Option<String>,
    /// Why they are not scaled as the spec wants, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<String>,
}

/// Another service.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Pods of its Deployment.
    #[serde(default)]
    pub replicas: i32,
    /// Those that live, by Redis' clock.
    #[serde(default)]
    pub alive: i32,
    /// Why it is not scaled as the spec wants, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<String>,
}
