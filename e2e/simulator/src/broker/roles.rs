//! The roles that are not on a message's way: who is in a room, who owns what, lists, dead letters, policy and health.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use carillon_broker::{
    Backlog, Broker, DeadLetter, DeadLetterId, DeadLetterSource, DeadLetters, Fenced, FencingToken, Grant,
    Health, Incarnation, Inspection, LeaseName, Leases, Life, Lists, Lives, PartitionGrant, PolicySnapshot,
    PolicyStore, Presence, PresenceRead, PresenceStatement, PresenceVersion, Pressure, Result, RoomsCursor,
    RoomsPage, TakeOutcome, memory::ops,
};
use carillon_model::{Offset, Partition, Room};

use super::SimulatedBroker;

#[async_trait]
impl Presence for SimulatedBroker {
    async fn state_presence(
        &self,
        partition: Partition,
        gateway: &Incarnation,
        number: u64,
        statements: &[PresenceStatement],
    ) -> Result<Life> {
        let server = self.of_partition(partition);
        let stated = self.0.write(server, |state, now| {
            ops::presence::state_presence(state, now, partition, gateway, number, statements)
        });
        Ok(self.0.resolve(server, stated.await??).await)
    }

    async fn read_presence(
        &self,
        partition: Partition,
        rooms: &[(Room, Option<PresenceVersion>)],
    ) -> Result<PresenceRead> {
        let server = self.of_partition(partition);
        let read = self.0.read(server, |state, now| {
            ops::presence::read_presence(state, now, partition, rooms)
        });
        let mut read = read.await?;
        read.life = self.0.resolve(server, read.life).await;
        Ok(read)
    }

    async fn forget_presence(&self, partition: Partition, rooms: &[Room], dead: &Incarnation) -> Result<()> {
        let server = self.of_partition(partition);
        self.0
            .write(server, |state, now| {
                ops::presence::forget_presence(state, now, partition, rooms, dead);
            })
            .await
    }

    async fn living(&self, incarnations: &[Incarnation]) -> Result<Vec<bool>> {
        let mut living = Vec::new();
        for incarnation in incarnations {
            self.0.network.heard_of(incarnation).await;
            living.push(self.lives(incarnation).await?);
        }
        Ok(living)
    }
}

#[async_trait]
impl Leases for SimulatedBroker {
    async fn acquire_partition(
        &self,
        partition: Partition,
        owner: &Incarnation,
        lasts: Duration,
        known: Offset,
    ) -> Result<Option<PartitionGrant>> {
        let server = self.of_partition(partition);
        let acquired = self.0.write(server, |state, now| {
            ops::leases::acquire_partition(state, now, partition, owner, lasts, known)
        });
        let Some(mut grant) = acquired.await? else {
            return Ok(None);
        };
        grant.life = self.0.resolve(server, grant.life).await;
        Ok(Some(grant))
    }

    async fn acquire_list(&self, list: &str, owner: &Incarnation, lasts: Duration) -> Result<Option<Grant>> {
        let server = self.0.network.servers.server_of_list(list);
        self.0
            .write(server, |state, now| {
                ops::leases::acquire_list(state, now, list, owner, lasts)
            })
            .await
    }

    async fn renew_lease(&self, lease: &LeaseName, token: FencingToken, lasts: Duration) -> Result<bool> {
        let server = self.of_lease(lease);
        self.0
            .write(server, |state, now| {
                ops::leases::renew_lease(state, now, lease, token, lasts)
            })
            .await
    }

    async fn release_lease(&self, lease: &LeaseName, token: FencingToken) -> Result<()> {
        let server = self.of_lease(lease);
        self.0
            .write(server, |state, now| {
                ops::leases::release_lease(state, now, lease, token)
            })
            .await
    }
}

#[async_trait]
impl Lists for SimulatedBroker {
    async fn take(&self, list: &str, token: FencingToken, limit: usize) -> Result<TakeOutcome> {
        let server = self.0.network.servers.server_of_list(list);
        self.0
            .write(server, |state, now| {
                ops::lists::take(state, now, list, token, limit)
            })
            .await
    }

    async fn settle(&self, list: &str, numbers: &[u64]) -> Result<()> {
        let server = self.0.network.servers.server_of_list(list);
        self.0
            .write(server, |state, _| ops::lists::settle(state, list, numbers))
            .await
    }
}

#[async_trait]
impl DeadLetters for SimulatedBroker {
    async fn bury_head(
        &self,
        partition: Partition,
        token: FencingToken,
        life: &Life,
        head: Offset,
        reason: &str,
    ) -> Result<Fenced<()>> {
        let server = self.of_partition(partition);
        let life = &self.0.present(life);
        self.0
            .write(server, |state, now| {
                ops::dead_letters::bury_head(state, now, partition, token, life, head, reason)
            })
            .await
    }

    async fn bury(
        &self,
        partition: Partition,
        source: DeadLetterSource,
        entry: Bytes,
        reason: &str,
    ) -> Result<()> {
        let server = self.of_partition(partition);
        self.0
            .write(server, |state, now| {
                ops::dead_letters::bury(state, now, partition, &source, entry, reason)
            })
            .await?
    }

    async fn dead_letters(
        &self,
        partition: Partition,
        after: Option<Offset>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>> {
        let server = self.of_partition(partition);
        self.0
            .read(server, |state, now| {
                ops::dead_letters::dead_letters(state, now, partition, after, limit)
            })
            .await
    }

    async fn dead_letter(&self, id: DeadLetterId) -> Result<Option<DeadLetter>> {
        let server = self.of_partition(id.partition);
        self.0
            .read(server, |state, now| {
                ops::dead_letters::dead_letter(state, now, id)
            })
            .await
    }

    async fn drop_dead_letters(&self, partition: Partition, letters: &[Offset]) -> Result<u64> {
        let server = self.of_partition(partition);
        self.0
            .write(server, |state, now| {
                ops::dead_letters::drop_dead_letters(state, now, partition, letters)
            })
            .await
    }

    async fn cap_dead_letters(&self, partition: Partition, keep: u64) -> Result<u64> {
        let server = self.of_partition(partition);
        self.0
            .write(server, |state, now| {
                ops::dead_letters::cap_dead_letters(state, now, partition, keep)
            })
            .await
    }
}

#[async_trait]
impl PolicyStore for SimulatedBroker {
    async fn load_policy(&self) -> Result<Option<PolicySnapshot>> {
        self.0.read(0, |state, _| ops::policy::load_policy(state)).await
    }

    async fn store_policy(&self, snapshot: &PolicySnapshot) -> Result<()> {
        self.0
            .write(0, |state, _| ops::policy::store_policy(state, snapshot))
            .await
    }
}

/// Nothing in the simulation looks.
#[async_trait]
impl Inspection for SimulatedBroker {
    async fn routes(&self, _: &Room) -> Result<Vec<Incarnation>> {
        Ok(Vec::new())
    }

    async fn held_rooms(&self, _: Option<&RoomsCursor>, _: usize) -> Result<RoomsPage> {
        Ok(RoomsPage::default())
    }

    async fn backlogs(&self, partitions: &[Partition]) -> Result<Vec<Backlog>> {
        Ok(vec![Backlog::default(); partitions.len()])
    }
}

#[async_trait]
impl Health for SimulatedBroker {
    async fn lives(&self, channel: Option<&Incarnation>) -> Result<Lives> {
        let (lives, problem) = self.0.survey().await?;
        Ok(Lives {
            partitions: self
                .partitions()
                .partitions()
                .map(|partition| lives[self.of_partition(partition)].clone())
                .collect(),
            channel: channel.map(|gateway| lives[self.of_incarnation(gateway)].clone()),
            problem,
        })
    }

    async fn pressure(&self) -> Result<Pressure> {
        Ok(Pressure {
            memory: 0.0,
            complete: true,
        })
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }
}
