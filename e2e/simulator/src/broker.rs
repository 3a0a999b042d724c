//! The broker's traits on the simulated network, for one process.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use carillon_broker::{
    Append, AppendOutcome, Broker, ChannelAppend, ChannelRead, ChannelReader, Channels, DeadLetter,
    DeadLetterId, DeadLetterSource, DeadLetters, Fenced, FencingToken, Grant, HeadRead, Health, HistoryItem,
    HistoryPage, HistoryQuery, Incarnation, LeaseName, Leases, Life, Lists, Lives, Member, Membership,
    PartitionGrant, PolicySnapshot, PolicyStore, Pressure, Queue, QueueRead, QueueReader, Record,
    RecordOutcome, Result, Rooms, RoomsState, ServiceKind, TakeOutcome, memory::ops,
};
use carillon_model::{Message, Offset, Partition, PartitionCount, Room, wire};
use prost::Message as _;
use tokio::time::{Instant, timeout};

use crate::network::{Condition, Connections, Network};

/// One process' way to the servers.
#[derive(Clone, Debug)]
pub struct SimulatedBroker(Arc<Connections>);

impl SimulatedBroker {
    /// A process in this condition, without a connection yet.
    pub fn new(network: &Arc<Network>, condition: &Arc<Condition>) -> Self {
        Self(Arc::new(Connections::new(network, condition)))
    }

    pub(crate) fn connections(&self) -> &Connections {
        &self.0
    }

    pub(crate) fn of_partition(&self, partition: Partition) -> usize {
        self.0.network.servers.server_of(partition)
    }

    fn of_incarnation(&self, incarnation: &Incarnation) -> usize {
        self.0.network.servers.server_of_incarnation(incarnation)
    }

    fn of_room(&self, room: &Room) -> (Partition, usize) {
        let partition = self.partitions().partition_of(room);
        (partition, self.of_partition(partition))
    }

    fn of_lease(&self, lease: &LeaseName) -> usize {
        match lease {
            LeaseName::Partition(partition) => self.of_partition(*partition),
            LeaseName::List(list) => self.0.network.servers.server_of_list(list),
        }
    }
}

impl Broker for SimulatedBroker {
    fn partitions(&self) -> PartitionCount {
        Broker::partitions(&self.0.network.servers)
    }
}

#[async_trait]
impl Queue for SimulatedBroker {
    async fn append(&self, append: Append) -> Result<AppendOutcome> {
        let server = self.of_partition(append.partition);
        let network = &self.0.network;
        self.0
            .call(server, true, |state, now, happened| {
                let outcome = ops::append::append(state, now, &append)?;
                if let AppendOutcome::Appended(placed) = &outcome {
                    let fresh = append
                        .messages
                        .iter()
                        .zip(placed)
                        .filter(|(_, placed)| !placed.repeated);
                    let entries = fresh.flat_map(|(message, _)| &message.entries);
                    let ids = entries.filter_map(|(_, entry)| message_id(entry)).collect();
                    network.note_append(server, happened, ids);
                }
                Ok(outcome)
            })
            .await?
    }

    async fn open_queue(&self, partition: Partition) -> Result<Box<dyn QueueReader>> {
        Ok(Box::new(SimulatedQueueReader {
            broker: self.clone(),
            partition,
        }))
    }

    async fn record(&self, record: Record) -> Result<Fenced<RecordOutcome>> {
        let server = self.of_partition(record.partition);
        self.0
            .write(server, |state, now| ops::record::record(state, now, &record))
            .await?
    }

    async fn trim(
        &self,
        partition: Partition,
        token: FencingToken,
        life: &Life,
        upto: Offset,
    ) -> Result<Fenced<()>> {
        let server = self.of_partition(partition);
        self.0
            .write(server, |state, now| {
                ops::queue::trim(state, now, partition, token, life, upto)
            })
            .await
    }

    async fn count_try(
        &self,
        partition: Partition,
        token: FencingToken,
        head: Offset,
    ) -> Result<Fenced<u32>> {
        let server = self.of_partition(partition);
        self.0
            .write(server, |state, now| {
                ops::queue::count_try(state, now, partition, token, head)
            })
            .await
    }
}

/// The message of a queue entry.
fn message_id(entry: &Bytes) -> Option<carillon_model::MessageId> {
    let entry = wire::QueueEntry::decode(entry.clone()).ok()?;
    match entry.content? {
        wire::queue_entry::Content::Message(message) => {
            Message::decode(message.message).ok().map(|message| message.id)
        }
        wire::queue_entry::Content::Probe(_) => None,
    }
}

struct SimulatedQueueReader {
    broker: SimulatedBroker,
    partition: Partition,
}

#[async_trait]
impl QueueReader for SimulatedQueueReader {
    async fn read_head(&mut self, token: FencingToken, limit: usize) -> Result<HeadRead> {
        let (server, partition) = (self.broker.of_partition(self.partition), self.partition);
        self.broker
            .0
            .read(server, |state, now| {
                ops::queue::read_head(state, now, partition, token, limit)
            })
            .await
    }

    async fn read_after(&mut self, after: Offset, limit: usize, block: Duration) -> Result<QueueRead> {
        let (server, partition) = (self.broker.of_partition(self.partition), self.partition);
        let until = Instant::now() + block;
        loop {
            let read = |state: &carillon_broker::memory::ServerState, now| {
                ops::queue::read_after(state, now, partition, after, limit)
            };
            let read = self.broker.0.read(server, read).await?;
            if !read.items.is_empty() || !self.broker.wait_for_write(server, until).await {
                return Ok(read);
            }
        }
    }
}

impl SimulatedBroker {
    /// Waits for a write to the server; `false` when the time is up.
    async fn wait_for_write(&self, server: usize, until: Instant) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        // A write between the read and this is seen at the next look, which comes soon enough.
        !left.is_zero() && {
            let _ = timeout(
                left.min(Duration::from_millis(100)),
                self.0.network.written(server),
            )
            .await;
            Instant::now() < until
        }
    }
}

#[async_trait]
impl Rooms for SimulatedBroker {
    async fn add_routes(
        &self,
        partition: Partition,
        rooms: &[Room],
        route: &Incarnation,
    ) -> Result<RoomsState> {
        let server = self.of_partition(partition);
        self.0
            .write(server, |state, now| {
                ops::rooms::add_routes(state, now, partition, rooms, route)
            })
            .await?
    }

    async fn remove_routes(&self, partition: Partition, rooms: &[Room], route: &Incarnation) -> Result<()> {
        let server = self.of_partition(partition);
        self.0
            .write(server, |state, now| {
                ops::rooms::remove_routes(state, now, partition, rooms, route);
            })
            .await
    }

    async fn read_history(&self, room: &Room, query: HistoryQuery) -> Result<HistoryPage> {
        let (partition, server) = self.of_room(room);
        self.0
            .read(server, |state, now| {
                ops::rooms::read_history(state, now, partition, room, query)
            })
            .await
    }

    async fn read_newest(
        &self,
        room: &Room,
        below: Option<Offset>,
        limit: usize,
    ) -> Result<Vec<HistoryItem>> {
        let (partition, server) = self.of_room(room);
        self.0
            .read(server, |state, now| {
                ops::rooms::read_newest(state, now, partition, room, below, limit)
            })
            .await
    }
}

#[async_trait]
impl Channels for SimulatedBroker {
    async fn append_channel(&self, gateway: &Incarnation, entry: Bytes, limit: u64) -> Result<ChannelAppend> {
        let server = self.of_incarnation(gateway);
        self.0
            .write(server, |state, now| {
                ops::channels::append_channel(state, now, gateway, entry, limit)
            })
            .await?
    }

    async fn open_channel(&self, gateway: &Incarnation) -> Result<Box<dyn ChannelReader>> {
        Ok(Box::new(SimulatedChannelReader {
            broker: self.clone(),
            gateway: gateway.clone(),
            position: Offset::ZERO,
        }))
    }
}

struct SimulatedChannelReader {
    broker: SimulatedBroker,
    gateway: Incarnation,
    position: Offset,
}

#[async_trait]
impl ChannelReader for SimulatedChannelReader {
    async fn read(&mut self, limit: usize, block: Duration) -> Result<ChannelRead> {
        let server = self.broker.of_incarnation(&self.gateway);
        let until = Instant::now() + block;
        loop {
            let (gateway, position) = (&self.gateway, self.position);
            let read = self.broker.0.read(server, |state, _| {
                let unread = ops::channels::read_channel(state, gateway, position, limit);
                (unread, ops::channels::has_read_entries(state, gateway, position))
            });
            let ((read, reached), trim) = read.await?;
            if trim && !read.lost {
                let trimmed = self.broker.0.write(server, |state, _| {
                    ops::channels::trim_channel(state, gateway, position);
                });
                trimmed.await?;
            }
            if read.lost || !read.items.is_empty() || !self.broker.wait_for_write(server, until).await {
                self.position = reached;
                return Ok(read);
            }
        }
    }
}

#[async_trait]
impl Membership for SimulatedBroker {
    async fn register(&self, member: &Member, alive_for: Duration) -> Result<()> {
        let server = self.of_incarnation(&member.incarnation);
        self.0
            .write(server, |state, now| {
                ops::membership::start_life(state, now, member, alive_for)
            })
            .await??;
        self.0
            .write(0, |state, _| ops::membership::list_member(state, member))
            .await?
    }

    async fn renew(&self, incarnation: &Incarnation, alive_for: Duration) -> Result<bool> {
        let server = self.of_incarnation(incarnation);
        self.0
            .write(server, |state, now| {
                ops::membership::renew(state, now, incarnation, alive_for)
            })
            .await
    }

    async fn report(&self, member: &Member) -> Result<()> {
        let server = self.of_incarnation(&member.incarnation);
        let incarnation = &member.incarnation;
        if self
            .0
            .read(server, |state, now| {
                ops::membership::is_alive(state, now, incarnation)
            })
            .await?
        {
            self.0
                .write(0, |state, _| ops::membership::list_member(state, member))
                .await??;
        }
        Ok(())
    }

    async fn deregister(&self, incarnation: &Incarnation) -> Result<()> {
        let server = self.of_incarnation(incarnation);
        self.0
            .write(server, |state, _| ops::membership::end_life(state, incarnation))
            .await?;
        self.0
            .write(0, |state, _| ops::membership::forget(state, incarnation))
            .await
    }

    async fn members(&self, kind: ServiceKind) -> Result<Vec<Member>> {
        let members = self
            .0
            .read(0, |state, _| ops::membership::listed(state, kind))
            .await?;
        let mut alive = Vec::new();
        for member in members {
            let server = self.of_incarnation(&member.incarnation);
            let incarnation = &member.incarnation;
            if self
                .0
                .read(server, |state, now| {
                    ops::membership::is_alive(state, now, incarnation)
                })
                .await?
            {
                alive.push(member);
            }
        }
        Ok(alive)
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
        self.0
            .write(server, |state, now| {
                ops::leases::acquire_partition(state, now, partition, owner, lasts, known)
            })
            .await
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

    async fn drop_dead_letter(&self, id: DeadLetterId) -> Result<bool> {
        let server = self.of_partition(id.partition);
        self.0
            .write(server, |state, now| {
                ops::dead_letters::drop_dead_letter(state, now, id)
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

#[async_trait]
impl Health for SimulatedBroker {
    async fn lives(&self, channel: Option<&Incarnation>) -> Result<Lives> {
        let mut lives = Vec::new();
        for server in 0..self.0.network.servers.servers() {
            lives.push(self.0.present_life(server).await?);
        }
        Ok(Lives {
            partitions: self
                .partitions()
                .partitions()
                .map(|partition| lives[self.of_partition(partition)].clone())
                .collect(),
            channel: channel.map(|gateway| lives[self.of_incarnation(gateway)].clone()),
        })
    }

    async fn pressure(&self) -> Result<Pressure> {
        Ok(Pressure { memory: 0.0 })
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }
}
