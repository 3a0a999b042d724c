use async_trait::async_trait;
use carillon_model::{Partition, Room};

use super::consume_budget;
use crate::{
    HistoryPage, HistoryQuery, Incarnation, MemoryBroker, NewestPage, NewestQuery, Result, Rooms, RoomsState,
    memory::ops,
};

#[async_trait]
impl Rooms for MemoryBroker {
    async fn add_routes(
        &self,
        partition: Partition,
        rooms: &[Room],
        route: &Incarnation,
    ) -> Result<RoomsState> {
        consume_budget().await;
        self.of_partition(partition)
            .write(|state, now| ops::rooms::add_routes(state, now, partition, rooms, route))
    }

    async fn remove_routes(&self, partition: Partition, rooms: &[Room], route: &Incarnation) -> Result<()> {
        consume_budget().await;
        self.of_partition(partition)
            .write(|state, now| ops::rooms::remove_routes(state, now, partition, rooms, route));
        Ok(())
    }

    async fn read_history(&self, room: &Room, query: HistoryQuery) -> Result<HistoryPage> {
        consume_budget().await;
        let (partition, server) = self.of_room(room);
        Ok(server.read(|state, now| ops::rooms::read_history(state, now, partition, room, query)))
    }

    async fn read_newest(&self, room: &Room, query: NewestQuery) -> Result<NewestPage> {
        consume_budget().await;
        let (partition, server) = self.of_room(room);
        Ok(server.read(|state, now| ops::rooms::read_newest(state, now, partition, room, query)))
    }
}
