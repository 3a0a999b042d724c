use async_trait::async_trait;
use carillon_model::{Partition, Room};

use super::consume_budget;
use crate::{
    Broker, BrokerError, Incarnation, Inspection, MemoryBroker, Result,
    inspection::{RoomsCursor, RoomsPage},
    memory::ops,
};

#[async_trait]
impl Inspection for MemoryBroker {
    async fn routes(&self, room: &Room) -> Result<Vec<Incarnation>> {
        consume_budget().await;
        let (partition, server) = self.of_room(room);
        let rooms = std::slice::from_ref(room);
        let found = server.read(|state, now| ops::rooms::routes(state, now, partition, rooms));
        Ok(found
            .into_iter()
            .flat_map(|(_, routes)| routes.to_vec())
            .collect())
    }

    async fn held_rooms(&self, after: Option<&RoomsCursor>, limit: usize) -> Result<RoomsPage> {
        let (first, mut after) = match after {
            None => (0, None),
            Some(cursor) => place(cursor)?,
        };
        let mut page = RoomsPage::default();
        for partition in Broker::partitions(self).partitions().skip(first) {
            consume_budget().await;
            let left = limit.max(1) - page.rooms.len();
            let rooms = self
                .of_partition(partition)
                .read(|state, now| ops::rooms::held(state, now, partition, after.take().as_ref(), left));
            page.rooms.extend(rooms);
            if page.rooms.len() >= limit.max(1) {
                page.next = page.rooms.last().map(|room| cursor(partition, room));
                break;
            }
        }
        Ok(page)
    }

    async fn waiting(&self) -> Result<Vec<u64>> {
        let mut lengths = Vec::new();
        for partition in Broker::partitions(self).partitions() {
            consume_budget().await;
            let server = self.of_partition(partition);
            lengths.push(server.read(|state, now| ops::queue::waiting(state, now, partition)));
        }
        Ok(lengths)
    }
}

/// The partition and the room that were last on a page.
fn cursor(partition: Partition, room: &Room) -> RoomsCursor {
    RoomsCursor(format!("{partition}:{room}"))
}

fn place(cursor: &RoomsCursor) -> Result<(usize, Option<Room>)> {
    let parsed = cursor
        .0
        .split_once(':')
        .and_then(|(partition, room)| Some((partition.parse().ok()?, Some(Room::new(room).ok()?))));
    parsed
        .ok_or_else(|| BrokerError::Misconfigured(format!("`{}` is no place in the list of rooms", cursor.0)))
}
