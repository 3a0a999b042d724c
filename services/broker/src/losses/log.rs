//! What this process confirmed and a failover may still take back.
//!
//! Pure and bounded: no I/O, no clock of its own. What every replica has is dropped; over the bound the oldest go, and if
//! one of those turns out to be lost, that is not a silent loss but an unknown one.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use carillon_model::{Offset, Partition};
use tokio::time::Instant;

use super::{
    entry::{Confirmed, Judgement, Lost, Placed},
    lineage::{Fate, Holder, Lineage},
    replication::{Replicas, ReplicationState},
};
use crate::Life;

/// How much is remembered.
#[derive(Clone, Copy, Debug)]
pub struct LogLimits {
    /// Appends at most, over all partitions.
    pub entries: usize,
    /// Bytes at most, about.
    pub bytes: usize,
    /// Appends at most in a partition whose server has no replicas: a restart from disk takes back the newest only.
    pub without_replicas: usize,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            entries: 65_536,
            bytes: 16 << 20,
            without_replicas: 1024,
        }
    }
}

/// The server was replaced before its answer came: nobody can say whether the successor has the append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superseded;

/// The log of one process.
#[derive(Debug, Default)]
pub struct UnreplicatedLog {
    limits: LogLimits,
    partitions: BTreeMap<Partition, PartitionLog>,
    entries: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct PartitionLog {
    /// The server's identity, as last seen.
    life: Option<Life>,
    /// Identities before it, and until when they are taken for replaced, newest last.
    former: VecDeque<(Life, Instant)>,
    entries: VecDeque<Confirmed>,
    /// The newest that is remembered no more.
    dropped: Option<(Holder, Offset)>,
    /// The greatest offset seen.
    known: Offset,
    /// Where the present server raised the offsets to, if it was asked.
    raised: Offset,
    replicas: Replicas,
    /// What was lost and has no marker yet.
    lost: Lost,
    /// The server has another identity than some entry.
    to_judge: bool,
}

/// Identities before the present one that are recognized.
const FORMER_LIVES: usize = 8;
/// How long. A server that is still seen later was not replaced: what was seen first was a late look at another one.
const FORMER_FOR: Duration = Duration::from_secs(10);

impl UnreplicatedLog {
    /// An empty log.
    pub fn new(limits: LogLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Remembers an append, before anybody is told that it is kept. Whether something is to be judged. The error: it must
    /// not be told so.
    pub fn confirmed(
        &mut self,
        partition: Partition,
        entry: Confirmed,
        now: Instant,
    ) -> Result<bool, Superseded> {
        if self.was_replaced(partition, entry.holder.life(), now) {
            return Err(Superseded);
        }
        self.remember(partition, entry);
        Ok(self.is_to_be_judged(partition))
    }

    /// Whether the server with this identity was replaced a moment ago.
    pub(super) fn was_replaced(&self, partition: Partition, life: &Life, now: Instant) -> bool {
        let log = self.partitions.get(&partition);
        log.is_some_and(|log| log.was_replaced(life, now))
    }

    /// Remembers an append, whichever server wrote it.
    pub(super) fn remember(&mut self, partition: Partition, entry: Confirmed) {
        let log = self.partitions.entry(partition).or_default();
        let present = log.life.get_or_insert_with(|| entry.holder.life().clone());
        let Some(last) = entry.what.last() else {
            return;
        };
        // Of a server that is ahead of the watcher, behind it, or was never seen as primary by this process.
        log.to_judge |= present != entry.holder.life();
        log.known = log.known.max(last);
        self.entries += 1;
        self.bytes += entry.weight();
        log.entries.push_back(entry);
        self.fit();
    }

    /// A server was seen with this identity. Whether anything may have been lost.
    pub fn observed(&mut self, partition: Partition, life: &Life, now: Instant) -> bool {
        let log = self.partitions.entry(partition).or_default();
        // A late look at a server that was given up says nothing new.
        if !log.was_replaced(life, now) {
            log.becomes(life, now);
        }
        log.to_judge || !log.lost.is_empty()
    }

    /// The replicas of the server of a partition are so far: what all of them have is dropped.
    pub fn replicated(&mut self, partition: Partition, state: &ReplicationState, now: Instant) {
        let Some(log) = self.partitions.get_mut(&partition) else {
            return;
        };
        let acknowledged = log.replicas.observe(state, now);
        let limit = self.limits.without_replicas;
        let is_due = |log: &PartitionLog| {
            let oldest = log.entries.front();
            let of_it = oldest.filter(|entry| entry.holder.life().replication_id() == &*state.replication_id);
            of_it.is_some_and(|entry| match acknowledged {
                Some(acknowledged) => entry.position < acknowledged,
                None => log.entries.len() > limit,
            })
        };
        while is_due(log) {
            let weight = log.drop_oldest();
            self.entries -= 1;
            self.bytes -= weight;
        }
    }

    /// Judges everything remembered of a partition by what its present server has. None: the answer is of a server that was
    /// replaced.
    pub(super) fn judge(
        &mut self,
        partition: Partition,
        lineage: &Lineage,
        now: Instant,
    ) -> Option<Judgement> {
        let log = self.partitions.get_mut(&partition)?;
        if log.was_replaced(&lineage.life, now) && !log.is_succeeded_by(lineage) {
            return None;
        }
        log.becomes(&lineage.life, now);
        log.raised = lineage.raises.last().map_or(log.raised, |newest| newest.raised);
        log.to_judge = false;
        let mut found = Judgement::default();
        let has = Holder::Has(lineage.life.clone());
        if let Some((holder, offset)) = &mut log.dropped {
            found.unknown = lineage.fate(holder, *offset) != Fate::Kept;
            holder.clone_from(&has);
        }
        let mut kept = VecDeque::with_capacity(log.entries.len());
        for mut entry in std::mem::take(&mut log.entries) {
            let weight = entry.weight();
            if *entry.holder.life() != lineage.life {
                let lost = entry.judge(lineage, &mut log.lost);
                if matches!(entry.what, Placed::Messages(_)) {
                    found.messages += lost.messages;
                }
                found.unknown |= lost.unknown;
                // It is there, below what the server has written by now.
                entry.holder.clone_from(&has);
                entry.position = lineage.position;
            }
            if entry.what.last().is_some() {
                self.bytes = self.bytes - weight + entry.weight();
                kept.push_back(entry);
            } else {
                self.bytes -= weight;
                self.entries -= 1;
            }
        }
        log.entries = kept;
        log.lost.unknown |= found.unknown;
        Some(found)
    }

    /// What a partition lost and has no marker yet: up to so many rooms.
    pub(super) fn owed(&self, partition: Partition, rooms: usize) -> Lost {
        let Some(log) = self.partitions.get(&partition) else {
            return Lost::default();
        };
        let some = log.lost.rooms.iter().take(rooms);
        Lost {
            rooms: some.map(|(room, lost)| (room.clone(), lost.clone())).collect(),
            unknown: log.lost.unknown,
        }
    }

    /// These have markers now.
    pub(super) fn marked(&mut self, partition: Partition, lost: &Lost) {
        let Some(log) = self.partitions.get_mut(&partition) else {
            return;
        };
        log.lost.unknown &= !lost.unknown;
        for (room, lost) in &lost.rooms {
            if log.lost.rooms.get(room) == Some(lost) {
                log.lost.rooms.remove(room);
            }
        }
    }

    /// A partition lost something of which nobody knows what.
    pub(super) fn doubt(&mut self, partition: Partition) {
        self.partitions.entry(partition).or_default().lost.unknown = true;
    }

    /// Partitions whose server has to be asked, or that are owed markers.
    pub(super) fn unsettled(&self) -> Vec<Partition> {
        let unsettled = |log: &PartitionLog| log.to_judge || !log.lost.is_empty();
        let found = self.partitions.iter().filter(|(_, log)| unsettled(log));
        found.map(|(partition, _)| *partition).collect()
    }

    /// Whether the server of a partition has to be asked what it has.
    pub(super) fn is_to_be_judged(&self, partition: Partition) -> bool {
        self.partitions.get(&partition).is_some_and(|log| log.to_judge)
    }

    /// The greatest offset of a partition that was seen here.
    pub(super) fn known(&self, partition: Partition) -> Offset {
        self.partitions
            .get(&partition)
            .map_or(Offset::ZERO, |log| log.known)
    }

    /// How many appends are remembered.
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Over a limit the oldest of the longest go, several at a time, because the longest has to be looked for.
    fn fit(&mut self) {
        while self.entries > self.limits.entries || self.bytes > self.limits.bytes {
            let Some(log) = self.partitions.values_mut().max_by_key(|log| log.entries.len()) else {
                return;
            };
            for _ in 0..(log.entries.len() / 64).max(1) {
                self.bytes -= log.drop_oldest();
                self.entries -= 1;
            }
        }
    }
}

impl PartitionLog {
    /// Whether a server with this identity was replaced a moment ago, so that its answers and looks at it come late.
    fn was_replaced(&self, life: &Life, now: Instant) -> bool {
        self.former
            .iter()
            .any(|(former, until)| former == life && now < *until)
    }

    /// Whether the server of this answer took over from the present one, even if it was the present one before.
    fn is_succeeded_by(&self, lineage: &Lineage) -> bool {
        let present = self.life.as_ref();
        present.is_some_and(|life| lineage.succeeds(life, self.raised))
    }

    /// The server has this identity from now on.
    fn becomes(&mut self, life: &Life, now: Instant) {
        let Some(before) = self.life.replace(life.clone()) else {
            return;
        };
        if before == *life {
            return;
        }
        if self.former.len() >= FORMER_LIVES {
            self.former.pop_front();
        }
        self.former.retain(|(former, _)| former != life);
        self.former.push_back((before, now + FORMER_FOR));
        self.to_judge |= !self.entries.is_empty() || self.dropped.is_some();
    }

    /// Forgets the oldest entry; its weight.
    fn drop_oldest(&mut self) -> usize {
        let Some(entry) = self.entries.pop_front() else {
            return 0;
        };
        let weight = entry.weight();
        if let Some(last) = entry.what.last()
            && self.dropped.as_ref().is_none_or(|(_, before)| *before <= last)
        {
            self.dropped = Some((entry.holder, last));
        }
        weight
    }
}

#[cfg(test)]
mod tests;
