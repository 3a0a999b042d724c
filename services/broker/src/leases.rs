//! Who owns a partition or a list. A lease makes work exclusive most of the time; its fencing token makes sure.

use std::time::Duration;

use async_trait::async_trait;
use carillon_model::{Offset, Partition};

use crate::{FencingToken, Incarnation, Life, Result};

/// Takes, keeps and gives back ownership.
#[async_trait]
pub trait Leases: Send + Sync {
    /// Takes a partition nobody holds. `None`: somebody does. The server's life is checked as by an append, with
    /// `known`: where it changed, the queue's last id is raised at once.
    async fn acquire_partition(
        &self,
        partition: Partition,
        owner: &Incarnation,
        lasts: Duration,
        known: Offset,
    ) -> Result<Option<PartitionGrant>>;

    /// Takes a list nobody holds. `None`: somebody does.
    async fn acquire_list(&self, list: &str, owner: &Incarnation, lasts: Duration) -> Result<Option<Grant>>;

    /// Prolongs a lease. `false`: another one has it, or it ran out.
    async fn renew_lease(&self, lease: &LeaseName, token: FencingToken, lasts: Duration) -> Result<bool>;

    /// Gives a lease back at once, if it is still held. Its token is worth nothing from then on.
    async fn release_lease(&self, lease: &LeaseName, token: FencingToken) -> Result<()>;
}

/// What a lease is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeaseName {
    /// A partition's queue.
    Partition(Partition),
    /// A plain Redis list, by its key.
    List(String),
}

/// Ownership of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The owner's proof, greater than every one before.
    pub token: FencingToken,
}

/// Ownership of a partition, and where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionGrant {
    /// The owner's proof, greater than every one before.
    pub token: FencingToken,
    /// The life it was granted in.
    pub life: Life,
    /// The handled position: the first horizon.
    pub handled: Offset,
}
