//! From a changed identity to gap markers.

use async_trait::async_trait;
use carillon_model::{Gap, Offset, Partition, Room};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    Confirmed, Holder, Lineage, LogLimits, LossMetrics, Placed, ReplicationState, UnreplicatedLog,
    entry::Lost,
};
use crate::{AppendOutcome, BrokerError, Life, NewMessage, Result};

/// Rooms that get their marker in one call.
const ROOMS_PER_CALL: usize = 200;

/// What settling asks of a broker.
#[async_trait]
pub trait GapQueue: Send + Sync {
    /// What the present server of a partition has. Where its identity is not that of the partition's offsets, they are
    /// raised first, above `known` too.
    async fn lineage(&self, partition: Partition, known: Offset) -> Result<Lineage>;

    /// Appends gap markers, whatever the memory in use and the queue's length, if the server has still this identity.
    async fn append_gaps(&self, append: GapAppend) -> Result<GapOutcome>;
}

/// Gap markers on their way into a queue.
#[derive(Clone, Debug)]
pub struct GapAppend {
    /// Which partition's.
    pub partition: Partition,
    /// The identity that the server must have.
    pub life: Life,
    /// Rooms that lost something.
    pub rooms: Vec<(Room, Gap)>,
    /// Whether to mark the whole partition as well.
    pub partition_gap: bool,
}

/// What became of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GapOutcome {
    /// They are in the queue.
    Written {
        /// The server's replication offset just before.
        position: u64,
        /// One for each room, then the partition's if it was asked for.
        offsets: Vec<Offset>,
    },
    /// The server has another identity; nothing was written.
    LifeChanged,
}

/// What came of settling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Nothing is owed.
    Done,
    /// The server was replaced meanwhile, or the answer was of one that was replaced: again, from the start.
    Again,
}

/// What one process confirmed, and what was lost of it.
#[derive(Debug)]
pub struct Losses {
    log: Mutex<UnreplicatedLog>,
    metrics: LossMetrics,
}

impl Losses {
    /// Nothing was confirmed yet.
    pub fn new(limits: LogLimits, metrics: LossMetrics) -> Self {
        Self {
            log: Mutex::new(UnreplicatedLog::new(limits)),
            metrics,
        }
    }

    /// What is counted.
    pub fn metrics(&self) -> &LossMetrics {
        &self.metrics
    }

    /// Registers an append that a server answered, before the caller hears of it. Whether there is something to
    /// [settle](Self::settle). An error: the server was replaced meanwhile, and its successor may not have it.
    ///
    /// A server that was replaced may be the present one again: slots of a Cluster are moved back. Then the queue is asked.
    pub async fn confirm(
        &self,
        partition: Partition,
        (life, position): (&Life, u64),
        messages: &[NewMessage],
        outcome: &AppendOutcome,
        queue: &dyn GapQueue,
    ) -> Result<bool> {
        let AppendOutcome::Appended(placed) = outcome else {
            return Ok(false);
        };
        let entries = messages
            .iter()
            .zip(placed)
            .flat_map(|(message, placed)| message.entries.iter().zip(&placed.offsets));
        let places = entries
            .filter(|((room, _), _)| room.has_offsets())
            .map(|((room, _), offset)| (room.clone(), *offset));
        let entry = Confirmed {
            holder: Holder::Gave(life.clone()),
            position,
            what: Placed::Messages(places.collect()),
        };
        let replaced = self.log.lock().was_replaced(partition, life, Instant::now());
        if replaced && let Err(error) = self.judge(partition, queue).await {
            tracing::debug!(%partition, %error, "a server answered that was replaced; its successor cannot be asked");
        }
        let now = Instant::now();
        self.log.lock().confirmed(partition, entry, now).map_err(|_| {
            self.metrics.superseded.inc();
            BrokerError::Unknown("the server was replaced before its answer came".to_owned())
        })
    }

    /// The server of a partition was seen with this identity. Whether there is something to [settle](Self::settle).
    pub fn observed(
        &self,
        partition: Partition,
        life: &Life,
        replication: Option<&ReplicationState>,
    ) -> bool {
        let now = Instant::now();
        let mut log = self.log.lock();
        let unsettled = log.observed(partition, life, now);
        if let Some(state) = replication {
            log.replicated(partition, state, now);
        }
        unsettled
    }

    /// Partitions that are to be settled.
    pub fn unsettled(&self) -> Vec<Partition> {
        self.log.lock().unsettled()
    }

    /// How many appends are remembered.
    pub fn remembered(&self) -> usize {
        self.log.lock().len()
    }

    /// Asks a partition's server what it has, and writes a marker for every room that lost something. After an error
    /// whatever is still owed is owed.
    pub async fn settle(&self, partition: Partition, queue: &dyn GapQueue) -> Result<Settled> {
        let Some(lineage) = self.judge(partition, queue).await? else {
            return Ok(Settled::Again);
        };
        loop {
            let owed = {
                let log = self.log.lock();
                if log.is_to_be_judged(partition) {
                    return Ok(Settled::Again);
                }
                log.owed(partition, ROOMS_PER_CALL)
            };
            if owed.is_empty() {
                return Ok(Settled::Done);
            }
            let append = GapAppend {
                partition,
                life: lineage.life.clone(),
                rooms: owed
                    .rooms
                    .iter()
                    .map(|(room, lost)| (room.clone(), lost.gap))
                    .collect(),
                partition_gap: owed.unknown,
            };
            match queue.append_gaps(append).await? {
                GapOutcome::Written { position, offsets } => {
                    self.marked(partition, &lineage.life, position, &owed, &offsets);
                }
                GapOutcome::LifeChanged => return Ok(Settled::Again),
            }
        }
    }

    /// Asks a partition's server what it has, and finds what was lost. None: the answer was of one that was replaced.
    async fn judge(&self, partition: Partition, queue: &dyn GapQueue) -> Result<Option<Lineage>> {
        let known = self.log.lock().known(partition);
        let lineage = queue.lineage(partition, known).await?;
        let judged = self.log.lock().judge(partition, &lineage, Instant::now());
        let Some(found) = judged else {
            return Ok(None);
        };
        if found.messages > 0 || found.unknown {
            let (lost, unknown) = (found.messages, found.unknown);
            tracing::warn!(%partition, lost, unknown, "Redis lost messages that were accepted; marking the gaps");
            self.metrics.lost.inc_by(lost);
            self.metrics.unknown.inc_by(u64::from(unknown));
        }
        Ok(Some(lineage))
    }

    /// Nobody knows what a partition lost: it is to be [settled](Self::settle).
    pub fn doubt(&self, partition: Partition) {
        self.log.lock().doubt(partition);
        self.metrics.unknown.inc();
    }

    /// Markers can be lost as well: they are remembered as messages are.
    fn marked(&self, partition: Partition, life: &Life, position: u64, owed: &Lost, offsets: &[Offset]) {
        let mut log = self.log.lock();
        log.marked(partition, owed);
        let places = owed.rooms.keys().cloned().zip(offsets.iter().copied());
        let gaps = Placed::Gaps(places.collect());
        let whole = offsets.last().filter(|_| owed.unknown).copied();
        for what in [Some(gaps), whole.map(Placed::PartitionGap)]
            .into_iter()
            .flatten()
        {
            let entry = Confirmed {
                holder: Holder::Gave(life.clone()),
                position,
                what,
            };
            log.remember(partition, entry);
        }
    }
}

#[cfg(test)]
mod tests;
