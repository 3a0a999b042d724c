//! A partition: its queue, and all that lives in its slot.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
    sync::Arc,
};

use bytes::Bytes;
use carillon_model::{Offset, Room};

use super::{Lease, OVERHEAD, RoomData, milliseconds, next_id};
use crate::{
    DeadLetterSource, FencingToken, Incarnation, Life, PartitionState, QueueItem,
    losses::{Lineage, Raise},
    rooms::FAILOVER_RAISE,
};

/// How often rooms are searched for what expired, in milliseconds.
const SWEEP_EVERY: u64 = 60_000;

#[derive(Clone, Debug)]
pub(in crate::memory) struct PartitionData {
    /// Nothing of it is older; every offset is above.
    pub(in crate::memory) birth: Offset,
    /// The life of the server its ids belong to.
    run: Option<Life>,
    /// The newest raises, oldest first.
    raises: VecDeque<Raise>,
    /// Whether older raises were forgotten.
    raises_forgotten: bool,
    /// Below it messages were lost that nobody knows.
    pub(in crate::memory) doubtful_upto: Offset,
    pub(in crate::memory) queue: VecDeque<QueueItem>,
    pub(in crate::memory) queue_last: Offset,
    queue_bytes: u64,
    pub(in crate::memory) lease: Lease,
    /// The head that was tried, and the owners that did and never took it back.
    pub(in crate::memory) tries: Option<(Offset, BTreeSet<FencingToken>)>,
    /// Gateways whose channels did not get what was acknowledged.
    pub(in crate::memory) parked: BTreeSet<Incarnation>,
    rooms: BTreeMap<Room, Arc<RoomData>>,
    rooms_bytes: u64,
    keys: BTreeMap<Arc<ProducerKey>, Remembered>,
    /// In the order they were written, so that those that expired are found without a search.
    keys_by_age: VecDeque<(u64, Arc<ProducerKey>)>,
    keys_bytes: u64,
    pub(in crate::memory) buried: BTreeMap<Offset, Buried>,
    buried_last: Offset,
    buried_bytes: u64,
    next_sweep: u64,
}

/// Producer and idempotency key.
type ProducerKey = (String, String);

/// What an idempotency key stands for.
#[derive(Clone, Debug)]
pub(in crate::memory) struct Remembered {
    pub(in crate::memory) fingerprint: Bytes,
    pub(in crate::memory) offsets: Vec<Offset>,
    expires: u64,
}

/// Above every offset that may have been given by a clock like this one.
fn raised(now: u64) -> Offset {
    Offset::new(now.saturating_add(milliseconds(FAILOVER_RAISE)), 0)
}

/// A dead letter.
#[derive(Clone, Debug)]
pub(in crate::memory) struct Buried {
    pub(in crate::memory) source: DeadLetterSource,
    pub(in crate::memory) reason: String,
    pub(in crate::memory) entry: Bytes,
    pub(in crate::memory) at: u64,
}

impl PartitionData {
    /// A partition that begins now. Without a known life everything may have been deleted: its birth lies above every
    /// offset that may have been given, and its first offsets are raised as after a failover.
    pub(in crate::memory) fn born(now: u64, run: Option<Life>) -> Self {
        let (birth, queue_last) = match run {
            Some(_) => (Offset::new(now, 0), Offset::new(now, 0)),
            None => (raised(now), Offset::ZERO),
        };
        Self {
            birth,
            run,
            raises: VecDeque::new(),
            raises_forgotten: false,
            doubtful_upto: Offset::ZERO,
            queue: VecDeque::new(),
            queue_last,
            queue_bytes: 0,
            lease: Lease::default(),
            tries: None,
            parked: BTreeSet::new(),
            rooms: BTreeMap::new(),
            rooms_bytes: 0,
            keys: BTreeMap::new(),
            keys_by_age: VecDeque::new(),
            keys_bytes: 0,
            buried: BTreeMap::new(),
            buried_last: Offset::ZERO,
            buried_bytes: 0,
            next_sweep: now.saturating_add(SWEEP_EVERY),
        }
    }

    /// Everything up to it is done.
    pub(in crate::memory) fn handled(&self) -> Offset {
        self.queue
            .front()
            .map_or(self.queue_last, |head| head.offset.just_below())
            .max(self.birth)
    }

    /// Where it stands.
    pub(in crate::memory) fn stand(&self, now: u64, life: &Life) -> PartitionState {
        PartitionState {
            handled: self.handled(),
            queue_last: self.queue_last.max(self.birth),
            birth: self.birth,
            now: Offset::new(now, 0),
            doubtful_upto: self.doubtful_upto,
            life: life.clone(),
        }
    }

    /// Which offsets it has, after a [raise](Self::raise) for this life.
    pub(in crate::memory) fn lineage(&self, life: &Life) -> Lineage {
        Lineage {
            life: life.clone(),
            position: 0,
            raises: self.raises.iter().cloned().collect(),
            whole: !self.raises_forgotten,
        }
    }

    /// Whether its offsets belong to this life.
    pub(in crate::memory) fn is_of(&self, life: &Life) -> bool {
        self.run.as_ref() == Some(life)
    }

    /// After a failover, and only then: raises the queue's last id above everything that may have been given.
    pub(in crate::memory) fn raise(&mut self, now: u64, life: &Life, known: Offset) {
        if self.run.as_ref() != Some(life) {
            let former = self.run.replace(life.clone());
            let before = self.queue_last;
            self.queue_last = before.max(known).max(raised(now));
            // Before its first raise a partition has given no offset: what is known is of one that was deleted.
            if former.is_none() && known >= self.birth {
                self.birth = self.queue_last;
            }
            if self.raises.len() >= Lineage::RAISES_KEPT {
                self.raises.pop_front();
                self.raises_forgotten = true;
            }
            self.raises.push_back(Raise {
                life: life.clone(),
                before,
                raised: self.queue_last,
            });
        }
    }

    /// Takes a life for its own without raising anything: what a broker without the raise rule would do.
    pub(super) fn adopt(&mut self, life: &Life) {
        self.run = Some(life.clone());
    }

    /// Adds an entry at the queue's end.
    pub(in crate::memory) fn push(&mut self, now: u64, entry: Bytes) -> Offset {
        self.queue_last = next_id(now, self.queue_last);
        self.queue_bytes += entry.len() as u64 + OVERHEAD;
        self.queue.push_back(QueueItem {
            offset: self.queue_last,
            entry,
        });
        self.queue_last
    }

    /// Removes the head.
    pub(in crate::memory) fn pop(&mut self) -> Option<QueueItem> {
        let head = self.queue.pop_front()?;
        self.queue_bytes -= head.entry.len() as u64 + OVERHEAD;
        Some(head)
    }

    /// Entries after an offset.
    pub(in crate::memory) fn after(&self, after: Offset, limit: usize) -> Vec<QueueItem> {
        let start = self.queue.partition_point(|item| item.offset <= after);
        self.queue.iter().skip(start).take(limit).cloned().collect()
    }

    pub(in crate::memory) fn room(&self, room: &Room) -> Option<&RoomData> {
        self.rooms.get(room).map(|data| &**data)
    }

    /// Its rooms in order, after one.
    pub(in crate::memory) fn rooms_after(
        &self,
        after: Option<&Room>,
    ) -> impl Iterator<Item = (&Room, &RoomData)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.rooms
            .range::<Room, _>((from, Bound::Unbounded))
            .map(|(room, data)| (room, &**data))
    }

    /// Changes a room and keeps count of its bytes.
    pub(in crate::memory) fn with_room<R>(
        &mut self,
        room: &Room,
        change: impl FnOnce(&mut RoomData) -> R,
    ) -> R {
        let data = match self.rooms.get_mut(room) {
            Some(data) => {
                self.rooms_bytes -= data.used();
                data
            }
            None => self.rooms.entry(room.clone()).or_default(),
        };
        let data = Arc::make_mut(data);
        let result = change(data);
        self.rooms_bytes += data.used();
        result
    }

    /// What an idempotency key stands for, if it was used not long ago.
    pub(in crate::memory) fn remembered(&self, now: u64, producer: &str, key: &str) -> Option<&Remembered> {
        self.keys
            .get(&(producer.to_owned(), key.to_owned()))
            .filter(|remembered| now < remembered.expires)
    }

    /// Remembers what a key stands for.
    pub(in crate::memory) fn remember(
        &mut self,
        producer: &str,
        key: &str,
        fingerprint: Bytes,
        offsets: Vec<Offset>,
        expires: u64,
    ) {
        let name = Arc::new((producer.to_owned(), key.to_owned()));
        let remembered = Remembered {
            fingerprint,
            offsets,
            expires,
        };
        self.keys_bytes += key_cost(&name, &remembered);
        self.keys_by_age.push_back((expires, name.clone()));
        if let Some(old) = self.keys.insert(name.clone(), remembered) {
            self.keys_bytes -= key_cost(&name, &old);
        }
    }

    /// Adds a dead letter.
    pub(in crate::memory) fn bury(&mut self, now: u64, source: DeadLetterSource, entry: Bytes, reason: &str) {
        self.buried_last = next_id(now, self.buried_last);
        let letter = Buried {
            source,
            reason: reason.to_owned(),
            entry,
            at: now,
        };
        self.buried_bytes += letter_cost(&letter);
        self.buried.insert(self.buried_last, letter);
    }

    /// Removes a dead letter.
    pub(in crate::memory) fn unbury(&mut self, id: Offset) -> bool {
        match self.buried.remove(&id) {
            Some(letter) => {
                self.buried_bytes -= letter_cost(&letter);
                true
            }
            None => false,
        }
    }

    /// Its bytes, about.
    pub(in crate::memory) fn used(&self) -> u64 {
        self.queue_bytes + self.rooms_bytes + self.keys_bytes + self.buried_bytes
    }

    /// Frees what is expired: keys at once, rooms every minute.
    pub(in crate::memory) fn sweep(&mut self, now: u64) {
        while let Some((expires, name)) = self.keys_by_age.front()
            && *expires <= now
        {
            // A key that was used again since has a later place in the order as well.
            if self
                .keys
                .get(name)
                .is_some_and(|remembered| remembered.expires <= now)
                && let Some(old) = self.keys.remove(name)
            {
                self.keys_bytes -= key_cost(name, &old);
            }
            self.keys_by_age.pop_front();
        }
        if now >= self.next_sweep {
            self.next_sweep = now.saturating_add(SWEEP_EVERY);
            self.sweep_rooms(now);
        }
    }

    fn sweep_rooms(&mut self, now: u64) {
        self.rooms.retain(|_, data| Arc::make_mut(data).sweep(now));
        self.rooms_bytes = self.rooms.values().map(|data| data.used()).sum();
    }
}

fn key_cost(name: &ProducerKey, remembered: &Remembered) -> u64 {
    let bytes = name.0.len() + name.1.len() + remembered.fingerprint.len() + 16 * remembered.offsets.len();
    bytes as u64 + 2 * OVERHEAD
}

fn letter_cost(letter: &Buried) -> u64 {
    (letter.entry.len() + letter.reason.len()) as u64 + OVERHEAD
}
