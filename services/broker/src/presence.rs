//! Who is in which room, as all gateways together see it.
//!
//! Nothing of it is a message. Each gateway *states* who of its own sessions is in a room, under its incarnation, with
//! absolute numbers, so that saying it twice changes nothing and saying all of it heals everything. Whoever reads
//! leaves out what dead incarnations stated: the ghosts of a killed gateway vanish with its life. Readers bring the
//! version they know and get an answer only where something changed, so looking often is cheap.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use carillon_model::{Partition, Room};

use crate::{Incarnation, Life, Result};

/// Keeps and tells who is in rooms.
#[async_trait]
pub trait Presence: Send + Sync {
    /// States who of a gateway is in rooms of one partition. A statement whose number is not above the last one of this
    /// incarnation and room changes nothing: it was overtaken on its way.
    async fn state_presence(
        &self,
        partition: Partition,
        gateway: &Incarnation,
        number: u64,
        statements: &[PresenceStatement],
    ) -> Result<Life>;

    /// Who is in rooms of one partition, where that is not known in this version. Answers the first of the rooms, at
    /// least one; if that is not all, the rest is to be asked for again.
    async fn read_presence(
        &self,
        partition: Partition,
        rooms: &[(Room, Option<PresenceVersion>)],
    ) -> Result<PresenceRead>;

    /// Removes what a dead gateway stated of rooms of one partition.
    async fn forget_presence(&self, partition: Partition, rooms: &[Room], dead: &Incarnation) -> Result<()>;

    /// Which of these incarnations live, in their order.
    async fn living(&self, incarnations: &[Incarnation]) -> Result<Vec<bool>>;
}

/// A user; `None` stands for all sessions without one.
pub type Person = Option<Arc<str>>;

/// What a gateway says of one room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceStatement {
    /// The room.
    pub room: Room,
    /// Whether this is all: whoever of this gateway is not named is not there.
    pub whole: bool,
    /// People and how many sessions each has here; `None` is gone. A user with none may still be named: one who left a
    /// moment ago and may be back.
    pub people: Vec<(Person, Option<u32>)>,
}

/// Which statements an answer contains, in which life of the server: a failover may give a number again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceVersion(pub Arc<str>);

/// An answer for the first rooms that were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceRead {
    /// `None` where the version is the known one.
    pub rooms: Vec<Option<RoomPresence>>,
    /// Who answered.
    pub life: Life,
}

/// Everything stated of a room, by the living and the dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomPresence {
    /// Its version.
    pub version: PresenceVersion,
    /// Who stated whom.
    pub gateways: BTreeMap<Incarnation, BTreeMap<Person, u32>>,
}

/// Who is in a room, counted over all living gateways.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PresenceCount {
    /// Users, each once.
    pub users: std::collections::BTreeSet<Arc<str>>,
    /// Sessions, those without a user included.
    pub sessions: u64,
}

impl PresenceCount {
    /// Counts what some gateways stated.
    pub fn of<'a>(gateways: impl IntoIterator<Item = &'a BTreeMap<Person, u32>>) -> Self {
        let mut count = Self::default();
        for people in gateways {
            for (person, sessions) in people {
                count.users.extend(person.clone());
                count.sessions += u64::from(*sessions);
            }
        }
        count
    }
}

/// Looks once who is in a room.
pub async fn who_is_in(
    broker: &(impl Presence + ?Sized),
    partition: Partition,
    room: &Room,
) -> Result<PresenceCount> {
    let read = broker.read_presence(partition, &[(room.clone(), None)]).await?;
    let Some(found) = read.rooms.into_iter().next().flatten() else {
        return Ok(PresenceCount::default());
    };
    let gateways: Vec<Incarnation> = found.gateways.keys().cloned().collect();
    let living = broker.living(&gateways).await?;
    let of_living = found.gateways.values().zip(living).filter(|(_, lives)| *lives);
    Ok(PresenceCount::of(of_living.map(|(people, _)| people)))
}

/// How long what was stated is kept without being stated again.
pub const PRESENCE_KEPT: Duration = Duration::from_secs(3600);
/// How long an empty room's version is kept: longer than a call may be under way.
pub const EMPTY_PRESENCE_KEPT: Duration = Duration::from_secs(60);
/// People in one answer, after which it ends with the room it is at.
pub const PEOPLE_PER_READ: usize = 20_000;
