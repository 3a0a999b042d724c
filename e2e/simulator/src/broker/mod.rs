//! The broker's traits on the simulated network, for one process.

mod channels;
mod membership;
mod roles;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use carillon_broker::{
    Append, AppendOutcome, Broker, Fenced, FencingToken, HeadRead, HistoryPage, HistoryQuery, Incarnation,
    LeaseName, Life, NewestPage, NewestQuery, Queue, QueueRead, QueueReader, Record, RecordOutcome, Result,
    Rooms, RoomsState,
    losses::{GapAppend, GapOutcome, GapQueue, Lineage},
    memory::ops,
};
use carillon_model::{Message, Offset, Partition, PartitionCount, Room, wire};
use prost::Message as _;
use tokio::time::{Instant, timeout};

use crate::{
    network::{Condition, Connections, Network, Step},
    own_lane::OwnLane,
};

/// One process' way to the servers.
#[derive(Clone, Debug)]
pub struct SimulatedBroker(Arc<Connections>);

impl SimulatedBroker {
    /// A process in this condition, without a connection yet.
    pub fn new(network: &Arc<Network>, condition: &Arc<Condition>) -> Self {
        Self(Arc::new(Connections::new(network, condition)))
    }

    pub(crate) fn changes_lives(&self) -> bool {
        self.0.network.changes_lives()
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
        let connections = &self.0;
        let appended = self
            .0
            .call(server, true, |state, now, happened| {
                let outcome = ops::append::append(state, now, &append)?;
                let written = (state.life.clone(), connections.position(server, happened));
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
                Ok((outcome, written))
            })
            .await?;
        let (outcome, (life, position)) = appended?;
        let written = (&life, position);
        connections
            .losses
            .confirm(append.partition, written, &append.messages, &outcome, self)
            .await?;
        Ok(outcome)
    }

    async fn open_queue(&self, partition: Partition) -> Result<Box<dyn QueueReader>> {
        Ok(Box::new(SimulatedQueueReader {
            broker: self.clone(),
            partition,
            lane: OwnLane::default(),
        }))
    }

    async fn record(&self, record: Record) -> Result<Fenced<RecordOutcome>> {
        let server = self.of_partition(record.partition);
        if !record.entries.is_empty() {
            self.0.pass(Step::Record).await;
        }
        let record = Record {
            life: self.0.present(&record.life),
            ..record
        };
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
        parked: &[Incarnation],
    ) -> Result<Fenced<()>> {
        let server = self.of_partition(partition);
        if !parked.is_empty() {
            self.0.pass(Step::Park).await;
        }
        let life = &self.0.present(life);
        self.0
            .write(server, |state, now| {
                let trimmed = ops::queue::trim(state, now, partition, token, life, upto);
                if trimmed == Fenced::Done(()) {
                    ops::queue::park(state, now, partition, parked);
                }
                trimmed
            })
            .await
    }

    async fn unpark(
        &self,
        partition: Partition,
        token: FencingToken,
        life: &Life,
        gateways: &[Incarnation],
    ) -> Result<Fenced<()>> {
        let server = self.of_partition(partition);
        let life = &self.0.present(life);
        self.0
            .write(server, |state, now| {
                ops::queue::unpark(state, now, partition, token, life, gateways)
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

    async fn take_back_try(&self, partition: Partition, token: FencingToken) -> Result<()> {
        let server = self.of_partition(partition);
        self.0
            .write(server, |state, now| {
                ops::queue::take_back_try(state, now, partition, token);
            })
            .await
    }

    async fn mark_unknown_loss(&self, partition: Partition) -> Result<()> {
        self.0.losses.doubt(partition);
        self.0.losses.settle(partition, self).await.map(drop)
    }
}

#[async_trait]
impl GapQueue for SimulatedBroker {
    async fn lineage(&self, partition: Partition, known: Offset) -> Result<Lineage> {
        let server = self.of_partition(partition);
        let connections = &self.0;
        connections
            .call(server, true, |state, now, happened| Lineage {
                position: connections.position(server, happened),
                ..ops::gaps::lineage(state, now, partition, known)
            })
            .await
    }

    async fn append_gaps(&self, append: GapAppend) -> Result<GapOutcome> {
        let server = self.of_partition(append.partition);
        let connections = &self.0;
        connections
            .call(
                server,
                true,
                |state, now, happened| match ops::gaps::append_gaps(state, now, &append) {
                    GapOutcome::Written { offsets, .. } => GapOutcome::Written {
                        position: connections.position(server, happened),
                        offsets,
                    },
                    GapOutcome::LifeChanged => GapOutcome::LifeChanged,
                },
            )
            .await
    }
}

impl SimulatedBroker {
    /// What the watcher of a process that confirms messages does, as long as it lives.
    pub(crate) async fn watch_losses(self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let _ = self.0.discover().await;
            for server in 0..self.0.network.servers.servers() {
                // A server that does not answer is looked at the next time.
                let _ = self.0.observe(server).await;
            }
            if self.0.network.marks_gaps() {
                for partition in self.0.losses.unsettled() {
                    let _ = self.0.losses.settle(partition, &self).await;
                }
            }
        }
    }
}

/// Between two looks at the servers.
const LOOK_EVERY: Duration = Duration::from_millis(150);

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
    lane: OwnLane,
}

#[async_trait]
impl QueueReader for SimulatedQueueReader {
    async fn read_head(&mut self, token: FencingToken, limit: usize) -> Result<HeadRead> {
        let (server, partition) = (self.broker.of_partition(self.partition), self.partition);
        let connections = &self.broker.0;
        let mut read = connections
            .read(server, |state, now| {
                ops::queue::read_head(state, now, partition, token, limit)
            })
            .await?;
        read.life = connections.resolve(server, read.life).await;
        Ok(read)
    }

    async fn read_after(&mut self, after: Offset, limit: usize, block: Duration) -> Result<QueueRead> {
        let (server, partition) = (self.broker.of_partition(self.partition), self.partition);
        let until = Instant::now() + block;
        loop {
            let read = |state: &carillon_broker::memory::ServerState, now| {
                ops::queue::read_after(state, now, partition, after, limit)
            };
            let mut read = self.broker.0.read_on(&mut self.lane, server, read).await?;
            if !read.items.is_empty() || !self.broker.wait_for_write(server, until).await {
                read.life = self.broker.0.resolve(server, read.life).await;
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
        self.0.pass(Step::AddRoutes).await;
        let added = self.0.write(server, |state, now| {
            ops::rooms::add_routes(state, now, partition, rooms, route)
        });
        let mut state = added.await??;
        state.partition.life = self.0.resolve(server, state.partition.life).await;
        Ok(state)
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
        let read = self.0.read(server, |state, now| {
            ops::rooms::read_history(state, now, partition, room, query)
        });
        let mut page = read.await?;
        page.partition.life = self.0.resolve(server, page.partition.life).await;
        Ok(page)
    }

    async fn read_newest(&self, room: &Room, query: NewestQuery) -> Result<NewestPage> {
        let (partition, server) = self.of_room(room);
        let read = self.0.read(server, |state, now| {
            ops::rooms::read_newest(state, now, partition, room, query)
        });
        let mut page = read.await?;
        page.partition.life = self.0.resolve(server, page.partition.life).await;
        Ok(page)
    }
}
