//! `PushCluster`: the knobs of an installation that may change while it runs.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{cluster_status::PushClusterStatus, room::RoomRule, rules};

/// What may change while an installation runs.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "carillon.dev",
    version = "v1alpha1",
    kind = "PushCluster",
    plural = "pushclusters",
    shortname = "pcl",
    category = "push",
    namespaced,
    status = "PushClusterStatus",
    derive = "PartialEq",
    doc = "The knobs of an installation of Carillon that may change while it runs, and how it is.",
    scale(
        spec_replicas_path = ".spec.gateways.replicas",
        status_replicas_path = ".status.gateways.replicas",
        label_selector_path = ".status.gateways.selector"
    ),
    printcolumn(name = "Gateways", type_ = "integer", json_path = ".status.gateways.alive"),
    printcolumn(
        name = "Connections",
        type_ = "integer",
        json_path = ".status.gateways.connections"
    ),
    printcolumn(name = "Skew", type_ = "string", json_path = ".status.gateways.skew"),
    printcolumn(name = "Lag", type_ = "integer", json_path = ".status.lag"),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.policy.revision"),
    printcolumn(name = "Applied", type_ = "string", json_path = ".status.policy.applied"),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Programmed")].status"#
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("!(has(self.gateways) && has(self.gateways.replicas) && has(self.autoscaling) && has(self.autoscaling.gateways))")
        .message("gateways.replicas and autoscaling.gateways both say how many gateways there are: leave one of them out")
)]
#[serde(rename_all = "camelCase")]
pub struct PushClusterSpec {
    /// The gateways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateways: Option<Gateways>,
    /// Who decides how many pods there are. Without it the operator does not; don't use it beside a HorizontalPodAutoscaler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// Policy that is not said by PushRooms and PushProducers.
    #[serde(default)]
    pub policy: DefaultPolicy,
}

/// How gateways hand sessions over.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gateways {
    /// How many there should be. `kubectl scale pushcluster` sets it. Without it their Deployment says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub replicas: Option<i32>,
    /// Sessions a draining gateway hands over, like `100/s`; instead of the setting `gateway.drain.rate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24))]
    #[x_kube(validation = rules::rate("gateways.drainRate"))]
    pub drain_rate: Option<String>,
    /// Whether a gateway with too many sessions hands some over. Without it none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebalance: Option<Rebalance>,
}

/// How gateways even out their sessions.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rebalance {
    /// Sessions a gateway closes, like `10/s`.
    #[schemars(length(max = 24))]
    #[x_kube(validation = rules::rate("gateways.rebalance.rate"))]
    pub rate: String,
    /// It closes while it holds more than the mean of all plus this many percent.
    #[serde(default = "Rebalance::usual_within")]
    #[schemars(range(min = 5, max = 100))]
    pub within: u32,
}

impl Rebalance {
    const fn usual_within() -> u32 {
        15
    }
}

/// How many pods there are.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Autoscaling {
    /// Gateways, by connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateways: Option<GatewayScaling>,
    /// Dispatchers, by messages that wait. Never more than there are partitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispatchers: Option<DispatcherScaling>,
}

/// Gateways follow connections.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = rules::bounds())]
#[serde(rename_all = "camelCase")]
pub struct GatewayScaling {
    /// Never fewer.
    #[schemars(range(min = 1, max = 10_000))]
    pub min: i32,
    /// Never more.
    #[schemars(range(min = 1, max = 10_000))]
    pub max: i32,
    /// Connections one gateway should have.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub connections: u32,
    /// How long a need must last.
    #[serde(default)]
    pub stabilization: Stabilization,
}

/// Dispatchers follow the queues.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = rules::bounds())]
#[serde(rename_all = "camelCase")]
pub struct DispatcherScaling {
    /// Never fewer.
    #[schemars(range(min = 1, max = 1024))]
    pub min: i32,
    /// Never more, nor more than there are partitions.
    #[schemars(range(min = 1, max = 1024))]
    pub max: i32,
    /// Messages that may wait for each dispatcher.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub lag: u32,
    /// How long a need must last.
    #[serde(default)]
    pub stabilization: Stabilization,
}

/// How long a need must last before it is met.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stabilization {
    /// Before pods are added.
    #[serde(default = "Stabilization::usual_up")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = rules::duration("stabilization.up", "0s", "1h"))]
    pub up: String,
    /// Before pods are taken away.
    #[serde(default = "Stabilization::usual_down")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = rules::duration("stabilization.down", "0s", "24h"))]
    pub down: String,
}

impl Stabilization {
    fn usual_up() -> String {
        "15s".to_owned()
    }

    fn usual_down() -> String {
        "5m".to_owned()
    }
}

impl Default for Stabilization {
    fn default() -> Self {
        Self {
            up: Self::usual_up(),
            down: Self::usual_down(),
        }
    }
}

/// Policy beside PushRooms and PushProducers.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DefaultPolicy {
    /// Who may come without saying who it is.
    #[serde(default)]
    pub anonymous: Anonymous,
    /// What other events of clients become, by their name. Without it: `chat message` goes to the room `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 100))]
    #[x_kube(validation = Rule::new("self.all(name, size(name) <= 200 && !(name in ['join', 'leave', 'publish', 'refresh', 'history', 'presence', 'cursors', 'connect', 'connect_error', 'connecting', 'disconnect', 'disconnecting', 'newListener', 'removeListener', 'token_expired', 'presence_join', 'presence_leave']))")
        .message("a name in clientEvents has a meaning of its own in Socket.IO or Carillon, or more than 200 characters; choose another event"))]
    pub client_events: Option<BTreeMap<String, ClientEvent>>,
    /// What dispatchers take messages from beside the queues.
    #[serde(default)]
    pub intake: Intake,
    /// Rules for rooms that no PushRoom matches; the first match decides.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub rooms: Vec<RoomRule>,
}

/// Who may come without saying who it is.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Anonymous {
    /// Sessions without a user.
    #[serde(default)]
    pub sessions: bool,
    /// Producers without a key.
    #[serde(default)]
    pub producers: bool,
}

/// What an event of a client becomes.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientEvent {
    /// The room it goes to.
    #[schemars(length(min = 1, max = 200))]
    pub room: String,
    /// How its data is put, such as `{session}: {data}`; as it is if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub format: Option<String>,
}

/// What dispatchers take messages from.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Intake {
    /// Plain Redis lists.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub lists: Vec<List>,
}

/// A plain Redis list.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct List {
    /// Its key in Redis, without Carillon's prefix.
    #[schemars(length(min = 1, max = 500))]
    pub list: String,
    /// The room its items go to.
    #[schemars(length(min = 1, max = 200))]
    pub room: String,
    /// The event they become.
    #[schemars(length(min = 1, max = 200))]
    pub event: String,
    /// How an item is put, such as `sever_push: {data}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub format: Option<String>,
}
