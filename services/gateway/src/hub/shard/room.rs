//! What a shard knows of a room.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use carillon_model::{Offset, Partition};
use indexmap::IndexSet;

use super::SessionKey;
use crate::hub::{outbox::Delivery, standing::Epoch, ticks::Tick};

/// A room with members in this shard, or one that lingers.
#[derive(Debug)]
pub(super) struct ShardRoom {
    pub(super) partition: Partition,
    pub(super) members: IndexSet<SessionKey>,
    /// The epoch in which its route stands, as far as this shard heard.
    pub(super) routed: Option<Epoch>,
    /// The last offset this shard saw or read.
    last: Option<Offset>,
    /// When `last` moved.
    moved: Tick,
    pub(super) tail: Tail,
    /// The members as a fan-out walks them, made anew after a change.
    snapshot: Option<Arc<[SessionKey]>>,
}

impl ShardRoom {
    pub(super) fn new(partition: Partition) -> Self {
        Self {
            partition,
            members: IndexSet::new(),
            routed: None,
            last: None,
            moved: Tick::default(),
            tail: Tail::default(),
            snapshot: None,
        }
    }

    pub(super) fn last(&self) -> Option<Offset> {
        self.last
    }

    pub(super) fn set_last(&mut self, last: Offset, now: Tick) {
        if self.last != Some(last) {
            self.last = Some(last);
            self.moved = now;
        }
    }

    /// Whether the last offset has stayed where it is since something was issued.
    pub(super) fn unmoved_since(&self, issued: Tick) -> bool {
        self.moved < issued
    }

    pub(super) fn insert(&mut self, session: SessionKey) {
        if self.members.insert(session) {
            self.snapshot = None;
        }
    }

    pub(super) fn remove(&mut self, session: SessionKey) {
        if self.members.swap_remove(&session) {
            self.snapshot = None;
        }
    }

    /// The members at this moment, shared.
    pub(super) fn members(&mut self) -> Arc<[SessionKey]> {
        let members = &self.members;
        Arc::clone(
            self.snapshot
                .get_or_insert_with(|| members.iter().copied().collect()),
        )
    }
}

/// The newest messages of a room without a break, in memory: a reconnect within it costs Redis nothing.
#[derive(Debug, Default)]
pub(super) struct Tail {
    messages: VecDeque<Arc<Delivery>>,
    bytes: usize,
    /// All tails of the gateway together.
    total: TailBudget,
}

/// Bytes that all tails of a gateway hold.
#[derive(Clone, Debug, Default)]
pub(super) struct TailBudget(Option<Arc<AtomicUsize>>);

impl TailBudget {
    pub(super) fn of(total: &Arc<AtomicUsize>) -> Self {
        Self(Some(Arc::clone(total)))
    }

    fn add(&self, bytes: usize) -> usize {
        self.0
            .as_ref()
            .map_or(0, |total| total.fetch_add(bytes, Ordering::Relaxed) + bytes)
    }

    fn subtract(&self, bytes: usize) {
        if let Some(total) = &self.0 {
            total.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

impl Tail {
    pub(super) fn with_budget(total: TailBudget) -> Self {
        Self {
            messages: VecDeque::new(),
            bytes: 0,
            total,
        }
    }

    /// Adds the room's newest message. `contiguous`: nothing lies between it and the one before.
    pub(super) fn push(
        &mut self,
        delivery: &Arc<Delivery>,
        contiguous: bool,
        limit: usize,
        total_limit: usize,
    ) {
        if !contiguous || delivery.prev.is_none() {
            self.clear();
        }
        if delivery.prev.is_none() || delivery.weight > limit {
            self.clear();
            return;
        }
        self.bytes += delivery.weight;
        let total = self.total.add(delivery.weight);
        self.messages.push_back(Arc::clone(delivery));
        while self.bytes > limit {
            self.drop_oldest();
        }
        if total > total_limit {
            self.clear();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.messages.pop_front() {
            self.bytes -= oldest.weight;
            self.total.subtract(oldest.weight);
        }
    }

    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.total.subtract(std::mem::take(&mut self.bytes));
    }

    /// Everything after a cursor, if it is proved that nothing is missing between; `last` is the room's last offset.
    pub(super) fn after(&self, cursor: Offset, last: Offset) -> Option<Vec<Arc<Delivery>>> {
        if cursor == last {
            return Some(Vec::new());
        }
        let oldest = self.messages.front()?;
        let newest = self.messages.back()?;
        let proved = newest.offset == last && cursor < last && oldest.prev.is_some_and(|prev| prev <= cursor);
        proved.then(|| {
            self.messages
                .iter()
                .filter(|message| message.offset > cursor)
                .cloned()
                .collect()
        })
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.clear();
    }
}
