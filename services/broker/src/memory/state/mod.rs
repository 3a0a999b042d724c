//! What a server holds. Only [`ops`](super::ops) reads and writes it.
//!
//! Parts are shared between copies of a state until one of them writes (`Arc::make_mut`), so keeping a copy for each
//! of the last writes costs what these writes touched and no more.

mod channel;
mod lease;
mod list;
mod partition;
mod presence;
mod room;

use std::{collections::BTreeMap, sync::Arc};

use carillon_model::{Offset, Partition};

pub(in crate::memory) use channel::Channel;
pub(in crate::memory) use lease::Lease;
pub(in crate::memory) use list::List;
pub(in crate::memory) use partition::{Buried, PartitionData};
pub(in crate::memory) use presence::PresenceData;
pub(in crate::memory) use room::RoomData;

use crate::{BrokerError, Incarnation, Life, Member, PolicySnapshot, QueueItem, Result};

/// What every entry, key or member costs besides its bytes, about.
pub(in crate::memory) const OVERHEAD: u64 = 96;

/// Everything a server holds, and which life it is in.
#[derive(Clone, Debug)]
pub struct ServerState {
    /// The life this state is served in. Another one is given with every failover and restart.
    pub life: Life,
    /// How many bytes it may hold.
    pub memory_limit: u64,
    pub(in crate::memory) partitions: BTreeMap<Partition, Arc<PartitionData>>,
    pub(in crate::memory) lists: BTreeMap<String, Arc<List>>,
    pub(in crate::memory) channels: BTreeMap<Incarnation, Arc<Channel>>,
    /// Until when each process is alive, by this server's clock. It stays here when that time is over, and is
    /// removed when somebody looks.
    pub(in crate::memory) alive: BTreeMap<Incarnation, u64>,
    /// Processes that left in order, and until when that is remembered.
    pub(in crate::memory) left: BTreeMap<Incarnation, u64>,
    pub(in crate::memory) members: BTreeMap<Incarnation, Member>,
    pub(in crate::memory) policy: Option<PolicySnapshot>,
}

impl ServerState {
    /// A new server of a new installation, whose partitions are born now.
    pub fn new(life: Life, memory_limit: u64, partitions: impl Iterator<Item = Partition>, now: u64) -> Self {
        let mut state = Self::empty(life.clone(), memory_limit);
        state.partitions = partitions
            .map(|partition| (partition, Arc::new(PartitionData::born(now, Some(life.clone())))))
            .collect();
        state
    }

    /// A server that lost everything, as after a flush. Its partitions are born again when they are next written
    /// to, and their first offsets are raised, because nobody can know what was given before.
    pub fn empty(life: Life, memory_limit: u64) -> Self {
        Self {
            life,
            memory_limit,
            partitions: BTreeMap::new(),
            lists: BTreeMap::new(),
            channels: BTreeMap::new(),
            alive: BTreeMap::new(),
            left: BTreeMap::new(),
            members: BTreeMap::new(),
            policy: None,
        }
    }

    /// Breaks the raise rule on purpose, for tests that prove it is needed: every partition takes the present life for
    /// its own, so that offsets go on from wherever the queue and the clock stand.
    pub fn adopt_life(&mut self) {
        let life = self.life.clone();
        for partition in self.partitions.values_mut() {
            Arc::make_mut(partition).adopt(&life);
        }
    }

    /// The partitions that were ever written to here.
    pub fn partitions(&self) -> impl Iterator<Item = Partition> {
        self.partitions.keys().copied()
    }

    /// Everything in a partition's queue, for audits.
    pub fn queue(&self, partition: Partition) -> Vec<QueueItem> {
        self.partitions
            .get(&partition)
            .map(|data| data.queue.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// The last id of a partition's queue, for audits.
    pub fn queue_last(&self, partition: Partition) -> Option<Offset> {
        self.partitions.get(&partition).map(|data| data.queue_last)
    }

    /// The bytes it holds, about.
    pub fn used(&self) -> u64 {
        let partitions: u64 = self.partitions.values().map(|data| data.used()).sum();
        let lists: u64 = self.lists.values().map(|list| list.bytes).sum();
        let channels: u64 = self.channels.values().map(|channel| channel.used()).sum();
        partitions + lists + channels
    }

    /// Refuses when `more` bytes would go over the limit. Producers are refused earlier than dispatchers, so that
    /// there is always room to drain: a tenth of the limit is theirs.
    pub(in crate::memory) fn admit(&self, more: u64, from: Admission) -> Result<()> {
        let limit = match from {
            Admission::Producer => self.memory_limit - self.memory_limit / 10,
            Admission::Drain => self.memory_limit,
        };
        let used = self.used();
        if used.saturating_add(more) > limit {
            return Err(BrokerError::OutOfMemory(format!(
                "the embedded broker holds {used} of at most {} bytes",
                self.memory_limit
            )));
        }
        Ok(())
    }

    /// A partition to read from; one that was never written to looks as if it were born now.
    pub(in crate::memory) fn partition(&self, partition: Partition, now: u64) -> Arc<PartitionData> {
        self.partitions
            .get(&partition)
            .cloned()
            .unwrap_or_else(|| Arc::new(PartitionData::born(now, None)))
    }

    /// A partition to write to. What expired in it is cleaned up now and then.
    pub(in crate::memory) fn partition_mut(&mut self, partition: Partition, now: u64) -> &mut PartitionData {
        let data = self
            .partitions
            .entry(partition)
            .or_insert_with(|| Arc::new(PartitionData::born(now, None)));
        let data = Arc::make_mut(data);
        data.sweep(now);
        data
    }

    /// A list to write to.
    pub(in crate::memory) fn list_mut(&mut self, list: &str) -> &mut List {
        Arc::make_mut(self.lists.entry(list.to_owned()).or_default())
    }
}

/// Who wants to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::memory) enum Admission {
    /// Brings something new.
    Producer,
    /// Moves on what is here already.
    Drain,
}

/// The id Redis gives an entry: its clock's milliseconds, and always above the last.
pub(in crate::memory) fn next_id(now: u64, last: Offset) -> Offset {
    if now > last.milliseconds {
        Offset::new(now, 0)
    } else {
        last.just_above()
    }
}

/// A duration in milliseconds.
pub(in crate::memory) fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
