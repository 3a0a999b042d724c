//! How an embedded broker is built.

use carillon_model::PartitionCount;

/// Settings of a [`MemoryBroker`](super::MemoryBroker).
#[derive(Clone, Debug)]
pub struct MemoryOptions {
    /// How many partitions the installation is born with.
    pub partitions: PartitionCount,
    /// How many servers share them; each is lost and replaced as a whole.
    pub servers: usize,
    /// What the servers' clocks show at construction, in milliseconds since 1970.
    pub base_ms: u64,
    /// How many bytes a server may hold; what counts as `maxmemory` does in Redis.
    pub memory_limit: u64,
    /// How many states to keep of each server, one for each write, for failovers that lose a tail. 0: none.
    pub recent_versions: usize,
}

impl MemoryOptions {
    /// 256 MiB.
    pub const MEMORY_LIMIT: u64 = 256 << 20;

    /// One server without a past, whose clock starts here.
    pub const fn new(partitions: PartitionCount, base_ms: u64) -> Self {
        Self {
            partitions,
            servers: 1,
            base_ms,
            memory_limit: Self::MEMORY_LIMIT,
            recent_versions: 0,
        }
    }
}
