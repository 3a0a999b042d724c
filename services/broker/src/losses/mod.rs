//! What a failover or a restart of Redis dropped of the messages that this process confirmed.
//!
//! Redis replicates asynchronously: a promoted replica may lack the last writes of its primary, and so may a server that
//! restarts from its disk. Whoever confirmed a message remembers it until every replica has it ([`UnreplicatedLog`]).
//! When the server of a partition has another identity, its [`Lineage`] says exactly which of the remembered offsets it
//! never had, and a *gap marker* goes into the queue for each room that lost ([`settle`]): behind it, nobody is told
//! `recovered: true` over a lost message, and nobody who missed nothing is told `false`. Where it cannot be known, a marker
//! for the whole partition is written.
//!
//! - [`lineage`]: which offsets a server's data has
//! - [`replication`]: how far replicas are
//! - [`entry`]: one append that was confirmed
//! - [`log`]: what was confirmed and may still be lost
//! - [`settle`]: from a changed identity to markers

mod entry;
mod lineage;
mod log;
mod metrics;
mod replication;
mod settle;

pub use entry::{Confirmed, Placed};
pub use lineage::{Fate, Holder, Lineage, Raise};
pub use log::{LogLimits, Superseded, UnreplicatedLog};
pub use metrics::LossMetrics;
pub use replication::{Replica, ReplicationState};
pub use settle::{GapAppend, GapOutcome, GapQueue, Losses, Settled};
