//! Who is where and what waits, for people and the operator who look. No message's way depends on it.

use async_trait::async_trait;
use carillon_model::Room;

use crate::{Incarnation, Result};

/// Lists rooms and the gateways that hold them, and measures the queues. What it tells may be over before it is read: a message takes the routes
/// that [`Queue::record`](crate::Queue::record) reads in its own step, never these.
#[async_trait]
pub trait Inspection: Send + Sync {
    /// The gateways that hold a room, the dead among them that nobody has met since, in order.
    async fn routes(&self, room: &Room) -> Result<Vec<Incarnation>>;

    /// Rooms that gateways hold, a page at a time, by about `limit` looks at the broker's keys. Every room that is held
    /// all the while is on some page, perhaps on two; a page may be empty although others follow.
    async fn held_rooms(&self, after: Option<&RoomsCursor>, limit: usize) -> Result<RoomsPage>;

    /// How many messages wait in each partition's queue, in the partitions' order: what is not yet handled.
    async fn waiting(&self) -> Result<Vec<u64>>;
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
