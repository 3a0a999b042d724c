//! Histories, last offsets and routes of rooms: the gateway's side of a partition.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use carillon_model::{Gap, Offset, Partition, Room};

use crate::{Incarnation, Life, Result};

/// Reads rooms and says who holds them.
#[async_trait]
pub trait Rooms: Send + Sync {
    /// Adds (or re-asserts) the route of rooms of one partition and, in the same step, reads their last offsets:
    /// adding a route is a join. The routes' own expiry (24 h) is renewed.
    async fn add_routes(
        &self,
        partition: Partition,
        rooms: &[Room],
        route: &Incarnation,
    ) -> Result<RoomsState>;

    /// Removes the route of rooms of one partition. Removing what is not there is fine.
    async fn remove_routes(&self, partition: Partition, rooms: &[Room], route: &Incarnation) -> Result<()>;

    /// Reads a page of a room's history and the state of its partition, in one step.
    async fn read_history(&self, room: &Room, query: HistoryQuery) -> Result<HistoryPage>;

    /// Reads the newest entries of a room's history and the state of its partition, in one step. Gaps are left out.
    async fn read_newest(&self, room: &Room, query: NewestQuery) -> Result<NewestPage>;
}

/// Which page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Entries above it; `None` reads no entries, only where the room stands.
    pub after: Option<Offset>,
    /// At most so many entries.
    pub entries: usize,
    /// Stop after so many bytes (but never before one entry).
    pub bytes: usize,
}

/// A page of history, and how complete it can be proved to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPage {
    /// The room's last offset; `None`: no message for 24 h (or never).
    pub last: Option<Offset>,
    /// Oldest first.
    pub items: Vec<HistoryItem>,
    /// Whether history goes on behind the page.
    pub more: bool,
    /// The partition, in the same step.
    pub partition: PartitionState,
}

/// Which of the newest entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewestQuery {
    /// Entries below it; `None`: the very newest.
    pub below: Option<Offset>,
    /// At most so many entries.
    pub entries: usize,
    /// Stop after so many bytes (but never before one entry).
    pub bytes: usize,
}

/// The newest entries of a room's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewestPage {
    /// Newest first.
    pub items: Vec<HistoryItem>,
    /// Whether history holds older ones.
    pub more: bool,
    /// The partition, in the same step.
    pub partition: PartitionState,
}

/// An entry of a room's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryItem {
    /// Its offset.
    pub offset: Offset,
    /// No message of the room lies strictly between this and its offset.
    pub prev: Offset,
    /// The encoded `carillon.wire.v1.Message`; empty for a gap.
    pub message: Bytes,
    /// It is no message: some were lost before it.
    pub gap: Option<Gap>,
}

/// Where rooms of a partition stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomsState {
    /// The rooms' last offsets, in the order asked for.
    pub last: Vec<Option<Offset>>,
    /// The partition, in the same step.
    pub partition: PartitionState,
}

/// What a partition knows of itself, at one moment of the server's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// The handled position (never below the birth).
    pub handled: Offset,
    /// The queue's last id: no offset of this partition's past is above it.
    pub queue_last: Offset,
    /// Nothing of this partition is older.
    pub birth: Offset,
    /// The server's clock, as an offset of that moment.
    pub now: Offset,
    /// Messages below it were lost of which nobody knows: for a cursor below it, nothing is complete.
    pub doubtful_upto: Offset,
    /// Who answered.
    pub life: Life,
}

/// How long a room's last offset is remembered: without one, no message came for this long.
pub const LAST_OFFSET_KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long a cursor is trusted where a room's last offset is gone, by the server's clock.
pub const CURSOR_TRUSTED: Duration = Duration::from_secs(12 * 3600);
/// By how much offsets jump above the server's clock after a failover.
pub const FAILOVER_RAISE: Duration = Duration::from_secs(600);
/// Routes expire by themselves after this time; gateways renew them every third of it.
pub const ROUTE_KEPT: Duration = Duration::from_secs(24 * 3600);
/// With each message a history that is above its limits loses as many of its oldest as make room for it, or this many: one
/// that its policy made shorter shrinks with its messages, and none of them pays for all of it.
pub const EVICTED_AT_ONCE: u64 = 64;
