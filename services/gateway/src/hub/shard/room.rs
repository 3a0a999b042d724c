//! What a shard knows of a room.

use std::sync::Arc;

use carillon_model::{Offset, Partition};
use indexmap::IndexSet;
use tokio::time::Instant;

use super::{SessionKey, tail::Tail};
use crate::hub::{standing::Epoch, ticks::Tick};

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
    /// Since when reads have said that the last offset is above everything the queue ever held.
    pub(super) doubted: Option<Instant>,
    /// The members as a fan-out walks them, made anew after a change.
    snapshot: Option<Arc<[SessionKey]>>,
}

impl ShardRoom {
    pub(super) fn new(partition: Partition, tail: Tail) -> Self {
        Self {
            partition,
            members: IndexSet::new(),
            routed: None,
            last: None,
            moved: Tick::default(),
            tail,
            doubted: None,
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
