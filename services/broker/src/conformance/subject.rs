//! What the suite is run against.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use carillon_model::Partition;

use crate::SharedBroker;

/// A kind of broker, and a place to install it.
#[async_trait]
pub trait Subject: Send + Sync {
    /// For reports.
    fn name(&self) -> String;

    /// What can be done to its installations from outside.
    fn capabilities(&self) -> Vec<Capability>;

    /// A new, empty installation.
    async fn install(&self) -> Box<dyn Installation>;
}

/// What can be done to an installation from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// [`Installation::pass_time`].
    PassTime,
    /// [`Installation::push_list`], [`Installation::occupy_list`].
    PushList,
    /// [`Installation::write_raw`].
    WriteRaw,
    /// [`Installation::restart`].
    Restart,
    /// [`Installation::mark`], [`Installation::fail_over`].
    FailOver,
    /// [`Installation::flush`].
    Flush,
    /// [`Installation::move_partition`].
    MovePartition,
    /// [`Installation::limit_memory`].
    LimitMemory,
}

/// One installation of a broker. Methods of capabilities the subject has not are never called.
#[async_trait]
pub trait Installation: Send + Sync {
    /// A broker of this installation as another process would have it, with connections of its own.
    async fn broker(&self) -> SharedBroker;

    /// A list's key that no other installation uses. Lists have no prefix of ours.
    fn list(&self, name: &str) -> String {
        name.to_owned()
    }

    /// Lets time pass on the servers' clocks, hours if need be.
    async fn pass_time(&self, time: Duration) {
        unsupported(&time)
    }

    /// What an old producer does: `RPUSH`.
    async fn push_list(&self, list: &str, item: Bytes) {
        unsupported(&(list, item))
    }

    /// Puts something that is no list at a list's key.
    async fn occupy_list(&self, list: &str) {
        unsupported(&list)
    }

    /// Writes an entry into a partition's queue past the broker. What a reader makes of it is up to the broker, but
    /// it must show up in the queue's order, so that it can be buried.
    async fn write_raw(&self, partition: Partition, entry: Bytes) {
        unsupported(&(partition, entry))
    }

    /// Restarts the servers. They keep what they have, and have another life. Returns when they answer again.
    async fn restart(&self) {
        unsupported(&())
    }

    /// From now on nothing reaches the replicas: [`fail_over`](Self::fail_over) comes back to this moment.
    async fn mark(&self) {
        unsupported(&())
    }

    /// The servers are lost; replicas that stand where [`mark`](Self::mark) was called take over, in another life
    /// and with clocks that may be behind. Returns when they answer.
    async fn fail_over(&self) {
        unsupported(&())
    }

    /// The servers lose everything, without another life if that is how it is (`FLUSHALL`).
    async fn flush(&self) {
        unsupported(&())
    }

    /// Moves a partition to another server while it is in use. Returns when it has moved.
    async fn move_partition(&self, partition: Partition) {
        unsupported(&partition)
    }

    /// Leaves the servers so many more bytes than they hold now; `None` lifts the limit.
    async fn limit_memory(&self, more: Option<u64>) {
        unsupported(&more)
    }

    /// Cleans up after a case.
    async fn remove(&self) {}
}

fn unsupported<T: std::fmt::Debug>(arguments: &T) {
    panic!("the subject names a capability it does not implement (called with {arguments:?})")
}
