//! The routes of this gateway's rooms: who holds each, and what is due.

use std::collections::{BTreeMap, VecDeque};

use carillon_model::{Partition, Room};
use indexmap::{IndexMap, IndexSet};
use tokio::time::Instant;

use super::{HubSettings, marker_ahead::MarkerAhead, standing::Epoch};

/// One room's route.
#[derive(Debug, Default)]
pub(super) struct Route {
    /// Shards with members.
    pub(super) holders: u64,
    /// Shards that have been told of the room and may keep its state.
    pub(super) informed: u64,
    /// The epoch in which it stands.
    pub(super) confirmed: Option<Epoch>,
    /// When it is removed unless somebody joins.
    pub(super) lingers_until: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct PartitionRoutes {
    pub(super) rooms: IndexMap<Room, Route>,
    pub(super) to_add: IndexSet<Room>,
    pub(super) to_remove: IndexSet<Room>,
    pub(super) busy: bool,
    /// No call before this: the last one failed.
    pub(super) not_before: Option<Instant>,
    /// The partition has a marker of unknown losses that was not handled yet.
    pub(super) marker: Option<MarkerAhead>,
}

/// All routes, by partition, and the rooms that linger, in the order in which their time ends.
#[derive(Default)]
pub(super) struct Routes {
    pub(super) partitions: BTreeMap<Partition, PartitionRoutes>,
    pub(super) lingering: VecDeque<(Instant, Partition, Room)>,
}

impl Routes {
    /// Rooms whose time to linger is over are due for removal.
    pub(super) fn end_lingering(&mut self) {
        let now = Instant::now();
        while let Some((_, partition, room)) = self.lingering.pop_front_if(|(until, ..)| *until <= now) {
            let Some(routes) = self.partitions.get_mut(&partition) else {
                continue;
            };
            // A join in between cancelled it; the entry of a later leave is further back.
            if let Some(route) = routes.rooms.get_mut(&room)
                && route.lingers_until.is_some_and(|until| until <= now)
            {
                route.lingers_until = None;
                routes.to_remove.insert(room);
            }
        }
    }

    pub(super) fn next_wake(&self) -> Option<Instant> {
        let lingering = self.lingering.front().map(|(until, ..)| *until);
        let idle = self.partitions.values().filter(|routes| !routes.busy);
        let markers = self.partitions.values().filter_map(|routes| routes.marker);
        idle.filter_map(|routes| routes.not_before)
            .chain(lingering)
            .chain(markers.map(|marker| marker.look_again_at))
            .min()
    }

    /// Partitions whose marker may have been handled by now.
    pub(super) fn due_markers(&mut self, settings: &HubSettings) -> Vec<Partition> {
        let partitions = self.partitions.iter_mut();
        let due = partitions.filter_map(|(partition, routes)| {
            let marker = routes.marker.as_mut()?;
            marker.is_due(settings).then_some(*partition)
        });
        due.collect()
    }
}
