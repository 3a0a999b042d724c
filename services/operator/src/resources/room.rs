//! `PushRoom`: the policy of the rooms that match a pattern.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{condition::Condition, rules};

/// What is kept of the rooms that match a pattern, and who may do what there.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "carillon.dev",
    version = "v1alpha1",
    kind = "PushRoom",
    plural = "pushrooms",
    shortname = "pr",
    category = "push",
    namespaced,
    status = "PushRoomStatus",
    derive = "PartialEq",
    doc = "Policy of the rooms that match a pattern: what is kept, who may join and publish.",
    printcolumn(name = "Match", type_ = "string", json_path = ".spec.match"),
    printcolumn(name = "Join", type_ = "string", json_path = ".spec.join"),
    printcolumn(name = "Publish", type_ = "string", json_path = ".spec.publish"),
    printcolumn(name = "History", type_ = "integer", json_path = ".spec.history.size"),
    printcolumn(
        name = "Priority",
        type_ = "integer",
        json_path = ".spec.priority",
        priority = 1
    ),
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
    validation = Rule::new("!self.match.startsWith('session:') || !has(self.history)")
        .message("rooms `session:…` end with their connection and keep no history: leave history out")
)]
#[serde(rename_all = "camelCase")]
pub struct PushRoomSpec {
    /// Which rooms: a glob over room names. Of two PushRooms with the same one the older counts, so it can't be changed.
    #[serde(rename = "match")]
    #[schemars(length(min = 1, max = 200))]
    #[x_kube(
        validation = rules::pattern("match"),
        validation = Rule::new("self == oldSelf")
            .message("match can't be changed, because the older of two PushRooms with the same match counts; delete this PushRoom and make another")
    )]
    pub pattern: String,
    /// Where several patterns match a room, the highest priority decides, then the older object.
    #[serde(default)]
    #[schemars(range(min = -1_000_000, max = 1_000_000))]
    pub priority: i32,
    /// What is kept of these rooms. Without it: 100 messages, 10 minutes, 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
    /// Who may join. Rooms by identity (`all`, `user:…`, `session:…`) need no rule.
    #[serde(default = "Access::authenticated")]
    pub join: Access,
    /// Which sessions may publish.
    #[serde(default = "Access::nobody")]
    pub publish: Access,
    /// Whether members may be listed.
    #[serde(default)]
    pub presence: bool,
    /// What a session that falls behind gets.
    #[serde(default)]
    pub slow: Slow,
}

/// The policy of the rooms that match a pattern, where no PushRoom says otherwise.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!self.match.startsWith('session:') || !has(self.history)")
        .message("rooms `session:…` end with their connection and keep no history: leave history out")
)]
#[serde(rename_all = "camelCase")]
pub struct RoomRule {
    /// Which rooms: a glob over room names.
    #[serde(rename = "match")]
    #[schemars(length(min = 1, max = 200))]
    #[x_kube(validation = rules::pattern("match"))]
    pub pattern: String,
    /// What is kept of these rooms. Without it: 100 messages, 10 minutes, 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
    /// Who may join.
    #[serde(default = "Access::authenticated")]
    pub join: Access,
    /// Which sessions may publish.
    #[serde(default = "Access::nobody")]
    pub publish: Access,
    /// Whether members may be listed.
    #[serde(default)]
    pub presence: bool,
    /// What a session that falls behind gets.
    #[serde(default)]
    pub slow: Slow,
}

impl PushRoomSpec {
    /// The rule without what orders it among others.
    pub fn rule(&self) -> RoomRule {
        RoomRule {
            pattern: self.pattern.clone(),
            history: self.history.clone(),
            join: self.join,
            publish: self.publish,
            presence: self.presence,
            slow: self.slow,
        }
    }
}

/// How much of a room is kept, whichever bound is met first.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// Messages; 0 keeps none, and the room is at most once across reconnects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub size: Option<u32>,
    /// All of it is forgotten when nothing was added for this long; at most 12h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = rules::duration("history.age", "1s", "12h"))]
    pub age: Option<String>,
    /// Bytes of messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = rules::size("history.bytes"))]
    pub bytes: Option<String>,
}

/// Who may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Every session.
    Anyone,
    /// Sessions with a user.
    Authenticated,
    /// No session.
    Nobody,
}

impl Access {
    fn authenticated() -> Self {
        Self::Authenticated
    }

    fn nobody() -> Self {
        Self::Nobody
    }

    /// The policy's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anyone => "anyone",
            Self::Authenticated => "authenticated",
            Self::Nobody => "nobody",
        }
    }
}

/// What a session that falls behind gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Slow {
    /// What it missed, from history.
    #[default]
    CatchUp,
    /// Only what comes after; it is told of the gap.
    Latest,
    /// Its transport closed.
    Close,
}

impl Slow {
    /// The policy's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CatchUp => "catch_up",
            Self::Latest => "latest",
            Self::Close => "close",
        }
    }
}

/// What became of a PushRoom.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PushRoomStatus {
    /// `Accepted` and `Programmed`.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
}
