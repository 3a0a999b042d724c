//! Who is where, and what waits, for people and the operator who look. No message's way depends on it.

use std::time::Duration;

use async_trait::async_trait;
use carillon_model::{Partition, Room};

use crate::{Incarnation, Result};

/// Lists rooms and the gateways that hold them, and what lies in queues. What it tells may be over before it is read: a message takes the routes
/// that [`Queue::record`](crate::Queue::record) reads in its own step, never these.
#[async_trait]
pub trait Inspection: Send + Sync {
    /// The gateways that hold a room, the dead among them that nobody has met since, in order.
    async fn routes(&self, room: &Room) -> Result<Vec<Incarnation>>;

    /// Rooms that gateways hold, a page at a time, by about `limit` looks at the broker's keys. Every room that is held
    /// all the while is on some page, perhaps on two; a page may be empty although others follow.
    async fn held_rooms(&self, after: Option<&RoomsCursor>, limit: usize) -> Result<RoomsPage>;

    /// What waits in the queues of these partitions, in their order. One round trip per partition, so ask every few
    /// seconds, not more often.
    async fn backlogs(&self, partitions: &[Partition]) -> Result<Vec<Backlog>>;
}

/// What waits in a partition's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Entries that are not handled.
    pub entries: u64,
    /// How long its head has waited, by the server's clock; zero without one. In the ten minutes after a failover, or an
    /// installation's birth, offsets run ahead of the clock and this is zero: look at the entries too.
    pub age: Duration,
}

/// Where a list of rooms goes on. Only the broker that gave it can read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomsCursor(pub String);

/// Some rooms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomsPage {
    /// In no order.
    pub rooms: Vec<Room>,
    /// What to ask with for the next page; `None`: that was all.
    pub next: Option<RoomsCursor>,
}
