use async_trait::async_trait;
use carillon_model::{Partition, Room};

use super::consume_budget;
use crate::{
    Incarnation, Life, MemoryBroker, Presence, PresenceRead, PresenceStatement, PresenceVersion, Result,
    memory::ops::presence,
};

#[async_trait]
impl Presence for MemoryBroker {
    async fn state_presence(
        &self,
        partition: Partition,
        gateway: &Incarnation,
        number: u64,
        statements: &[PresenceStatement],
    ) -> Result<Life> {
        consume_budget().await;
        self.of_partition(partition)
            .write(|state, now| presence::state_presence(state, now, partition, gateway, number, statements))
    }

    async fn read_presence(
        &self,
        partition: Partition,
        rooms: &[(Room, Option<PresenceVersion>)],
    ) -> Result<PresenceRead> {
        consume_budget().await;
        Ok(self
            .of_partition(partition)
            .read(|state, now| presence::read_presence(state, now, partition, rooms)))
    }

    async fn forget_presence(&self, partition: Partition, rooms: &[Room], dead: &Incarnation) -> Result<()> {
        consume_budget().await;
        self.of_partition(partition)
            .write(|state, now| presence::forget_presence(state, now, partition, rooms, dead));
        Ok(())
    }

    async fn living(&self, incarnations: &[Incarnation]) -> Result<Vec<bool>> {
        consume_budget().await;
        Ok(incarnations
            .iter()
            .map(|incarnation| self.lives(incarnation))
            .collect())
    }
}
