//! The words of Carillon as types: messages, rooms, offsets, partitions, targets and policy.
//!
//! This crate does no I/O and knows no clock but the one for people. Everything the services agree on is here, so
//! that they can meet in the broker without importing each other.

pub mod collections;
pub mod gap;
pub mod message;
pub mod offset;
pub mod partition;
pub mod policy;
pub mod publish;
pub mod room;
pub mod target;
pub mod time;
pub mod trace;
pub mod wire;

pub use gap::Gap;
pub use message::{Data, EventName, Message, MessageId, Sender};
pub use offset::Offset;
pub use partition::{Partition, PartitionCount};
pub use room::{Room, RoomKind};
pub use target::Target;
