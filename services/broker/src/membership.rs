//! Who is alive, by the server's clock alone.

use std::time::Duration;

use async_trait::async_trait;
use carillon_model::Offset;
use serde::{Deserialize, Serialize};

use crate::{Incarnation, Result};

/// Registers processes and tells which are alive.
#[async_trait]
pub trait Membership: Send + Sync {
    /// Makes a process known and alive for `alive_for`. For a gateway this also makes its channel.
    async fn register(&self, member: &Member, alive_for: Duration) -> Result<()>;

    /// As [`register`](Self::register), for a process that was declared dead and lives: what it confirmed as `former` is
    /// accounted for.
    async fn register_again(&self, member: &Member, alive_for: Duration, former: &Incarnation) -> Result<()>;

    /// Prolongs a life. `false`: it was declared dead and never comes back; take another incarnation.
    async fn renew(&self, incarnation: &Incarnation, alive_for: Duration) -> Result<bool>;

    /// Updates what others see of a living member, without prolonging its life.
    async fn report(&self, member: &Member) -> Result<()>;

    /// Ends a life at once: the process goes in order, and what it confirmed is accounted for. Its channel is deleted.
    async fn deregister(&self, incarnation: &Incarnation) -> Result<()>;

    /// The living members of a kind, and who else is listed. Entries of dead members of that kind are cleaned up on the way.
    async fn list_members(&self, kind: ServiceKind) -> Result<MemberList>;

    /// The living members of a kind, ordered by incarnation. Entries of the dead are cleaned up on the way.
    async fn members(&self, kind: ServiceKind) -> Result<Vec<Member>> {
        Ok(self.list_members(kind).await?.living)
    }

    /// How each of these processes is, in the same order.
    async fn process_states(&self, incarnations: &[Incarnation]) -> Result<Vec<ProcessState>>;
}

/// How often a process lists itself again: the server that keeps the list may have lost it.
pub const LISTED_EVERY: Duration = Duration::from_secs(6);
/// How long it is remembered that a process left in order.
pub(crate) const LEFT_FOR: Duration = Duration::from_secs(600);

/// What the index of processes says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberList {
    /// The living members of the kind that was asked for, ordered by incarnation.
    pub living: Vec<Member>,
    /// All entries of every kind, living or not.
    pub listed: Vec<(ServiceKind, Incarnation)>,
}

/// How a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessState {
    /// It lives.
    Alive,
    /// It left in order, or lives on as another incarnation.
    Left,
    /// Neither is known: it may have died with what it alone knew.
    Dead,
}

/// A process as the others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// What it does.
    pub kind: ServiceKind,
    /// Its life.
    #[serde(with = "incarnation_text")]
    pub incarnation: Incarnation,
    /// Where others reach it (`host:port`); empty if they need not.
    pub address: String,
    /// Carillon's version.
    pub version: String,
    /// For a gateway: how many sessions it may hold.
    pub capacity: u64,
    /// For a gateway: how many sessions it holds.
    pub sessions: u64,
    /// For a gateway: the newest probe that came through its channel, by its offset's clock.
    pub last_probe: Option<Offset>,
    /// Whether it is on its way out.
    pub draining: bool,
    /// The revision of the policy it applies.
    pub policy_revision: String,
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceKind {
    /// Holds sessions.
    Gateway,
    /// Works off queues.
    Dispatcher,
    /// Takes messages.
    Ingest,
}

mod incarnation_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::Incarnation;

    pub(super) fn serialize<S: Serializer>(
        incarnation: &Incarnation,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(incarnation.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Incarnation, D::Error> {
        let text = String::deserialize(deserializer)?;
        Incarnation::parse(&text).ok_or_else(|| D::Error::custom("not an incarnation"))
    }
}
