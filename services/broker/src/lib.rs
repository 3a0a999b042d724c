//! Where the services meet.
//!
//! A broker keeps the queues, histories, routes and channels of DESIGN §5. Its traits are small and split by role, so
//! that a service's signature says what it touches: ingest needs a [`Queue`], a gateway [`Rooms`], [`Channels`] and
//! [`Membership`], a dispatcher nearly all of them. Two implementations keep the same promises and pass the same
//! [conformance] suite: [`redis`] (standalone, Sentinel, Cluster) and [`memory`] (embedded, and the heart of the
//! simulator).
//!
//! Three rules hold for every method:
//! - **An answer is certain or says that it is not.** [`BrokerError::Unknown`] means the write may have happened;
//!   every other error means it did not. Nothing is retried across a reconnect behind the caller's back.
//! - **A server's life is part of the answer.** A failover can take writes back. What was read from one [`Life`] is
//!   worth nothing on the next, so reads name the life they came from and fenced writes check it.
//! - **Every call ends.** Calls have a time-out; blocking reads take theirs as an argument.

pub mod channels;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod dead_letters;
pub mod error;
pub mod health;
pub mod identity;
pub mod inspection;
pub mod leases;
pub mod lists;
pub mod losses;
pub mod membership;
pub mod memory;
pub mod memory_gate;
pub mod policy;
pub mod presence;
pub mod queue;
pub mod redis;
pub mod rooms;

use std::sync::Arc;

pub use channels::{ChannelAppend, ChannelItem, ChannelRead, ChannelReader, Channels};
pub use dead_letters::{DeadLetter, DeadLetterId, DeadLetterSource, DeadLetters};
pub use error::{BrokerError, Result};
pub use health::{Health, IDENTITY_DIFFERS, LOOKS_UNTIL_IDENTITY_DIFFERS, Lives, Pressure};
pub use identity::{FencingToken, Incarnation, Life};
pub use inspection::{Backlog, Inspection, RoomsCursor, RoomsPage};
pub use leases::{Grant, LeaseName, Leases, PartitionGrant};
pub use lists::{ListItem, Lists, TakeOutcome};
pub use membership::{Member, MemberList, Membership, ProcessState, ServiceKind};
pub use memory::{MemoryBroker, MemoryOptions};
pub use memory_gate::{Growth, MemoryFull, MemoryGate, MemoryLimits};
pub use policy::{PolicySnapshot, PolicyStore};
pub use presence::{
    Person, Presence, PresenceCount, PresenceRead, PresenceStatement, PresenceVersion, RoomPresence,
};
pub use queue::{
    Append, AppendOutcome, Appended, Fenced, HeadRead, IdempotencyKey, NewMessage, Queue, QueueItem,
    QueueRead, QueueReader, Record, RecordEntry, RecordOutcome, Recorded,
};
pub use rooms::{
    HistoryItem, HistoryPage, HistoryQuery, NewestPage, NewestQuery, PartitionState, Rooms, RoomsState,
};

use carillon_model::PartitionCount;

/// Everything a broker does. Services name the roles they need; only wiring names this.
pub trait Broker:
    Queue
    + Rooms
    + Presence
    + Channels
    + Membership
    + Leases
    + Lists
    + DeadLetters
    + PolicyStore
    + Health
    + Inspection
    + std::fmt::Debug
{
    /// How many partitions this installation was born with.
    fn partitions(&self) -> PartitionCount;
}

/// A broker shared by the tasks of a process.
pub type SharedBroker = Arc<dyn Broker>;
