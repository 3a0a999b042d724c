//! Where shards leave what they hold, and the channel's reader looks up for whom a frame is.

use carillon_model::{Partition, Room, collections::LookupMap};
use indexmap::{IndexMap, IndexSet};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// Whether a shard holds a room: its latest word.
    pub(super) holds: IndexMap<(Room, usize), bool>,
    /// Partitions whose rooms are all to be joined again.
    pub(super) reassert: IndexSet<Partition>,
}

/// Where shards leave what they hold, and the channel's reader looks up for whom a frame is.
#[derive(Debug, Default)]
pub(super) struct RouteTable {
    pub(super) wishes: Mutex<Wishes>,
    pub(super) changed: Notify,
    /// The shards that hold each room, lingering ones included.
    pub(super) held: RwLock<LookupMap<Room, u64>>,
}

impl RouteTable {
    /// A shard has its first member of a room. It will hear [`Answer::Routed`]. Never waits.
    pub(super) fn hold(&self, room: &Room, shard: usize) {
        self.wishes.lock().holds.insert((room.clone(), shard), true);
        self.changed.notify_one();
    }

    /// A shard has no member of a room any more.
    pub(super) fn release(&self, room: &Room, shard: usize) {
        self.wishes.lock().holds.insert((room.clone(), shard), false);
        self.changed.notify_one();
    }

    /// Joins all rooms of these partitions again.
    pub(super) fn reassert(&self, partitions: impl IntoIterator<Item = Partition>) {
        self.wishes.lock().reassert.extend(partitions);
        self.changed.notify_one();
    }

    /// The shards that hold a room, as bits.
    pub(super) fn shards_of(&self, room: &Room) -> u64 {
        self.held.read().get(room).copied().unwrap_or(0)
    }

    /// How many rooms are held.
    pub(super) fn rooms(&self) -> usize {
        self.held.read().len()
    }
}
