//! The embedded broker: the same promises as Redis, in the memory of one process.
//!
//! It is what `carillon dev` runs on, and the heart of the simulator. Three layers, each knowing only the one below:
//!
//! - [`state`]: what a *server* holds. A [`ServerState`] can be cloned at any moment, cheaply, because its parts are
//!   shared until they are written to. That is what a snapshot, a replica or an old primary is in the simulator.
//! - [`ops`]: what a Redis script would do, as plain synchronous functions of a state and a moment. They are the
//!   only code that reads or writes a state, and they can be run against any state, a broker's own or a copy.
//! - [`MemoryBroker`]: servers behind locks, and the broker's traits on top. A method locks, calls one operation,
//!   wakes whoever waits for what it wrote, and is done. No polling, no threads, no wall clock.
//!
//! Time is `tokio::time::Instant` on top of a base given at construction, plus a skew per server, so a paused clock
//! makes a run repeat exactly. Memory is bounded by [`MemoryOptions::memory_limit`], as `maxmemory` bounds Redis.

pub mod ops;
mod options;
mod roles;
mod server;
pub mod state;
mod wake;

use std::sync::Arc;

use carillon_model::{Partition, PartitionCount, Room};

pub use options::MemoryOptions;
pub use state::ServerState;

use crate::{
    Broker, Incarnation, LeaseName, Life, Result,
    losses::{LogLimits, LossMetrics, Losses},
};
use server::Server;

/// A broker in memory. Clones share one installation.
#[derive(Clone, Debug)]
pub struct MemoryBroker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    partitions: PartitionCount,
    servers: Vec<Server>,
    losses: Losses,
}

impl MemoryBroker {
    /// An empty installation.
    pub fn new(options: MemoryOptions) -> Self {
        let clock = server::Clock::starting_at(options.base_ms);
        let count = options.servers.max(1);
        let servers = (0..count)
            .map(|index| {
                let held = options
                    .partitions
                    .partitions()
                    .filter(|partition| holder(*partition, options.partitions, count) == index);
                let life = Life(format!("memory-{index}-1").into());
                let state = ServerState::new(life, options.memory_limit, held, clock.now(0));
                Server::new(state, clock, options.recent_versions)
            })
            .collect();
        Self {
            inner: Arc::new(Inner {
                partitions: options.partitions,
                servers,
                losses: Losses::new(LogLimits::default(), LossMetrics::default()),
            }),
        }
    }

    /// How many servers there are.
    pub fn servers(&self) -> usize {
        self.inner.servers.len()
    }

    /// The server that holds a partition.
    pub fn server_of(&self, partition: Partition) -> usize {
        holder(partition, self.inner.partitions, self.servers())
    }

    /// The server that holds a process' life and a gateway's channel.
    pub fn server_of_incarnation(&self, incarnation: &Incarnation) -> usize {
        self.server_of_key(incarnation.as_str())
    }

    /// The server that holds a list.
    pub fn server_of_list(&self, list: &str) -> usize {
        self.server_of_key(list)
    }

    /// A copy of a server's state, as a replica that is up to date would have it.
    pub fn server_state(&self, server: usize) -> ServerState {
        self.at(server).read(|state, _| state.clone())
    }

    /// The states of a server before each of its last writes, oldest first: what a replica that lags may hold.
    /// Empty unless [`MemoryOptions::recent_versions`] says to keep them.
    pub fn recent_states(&self, server: usize) -> Vec<ServerState> {
        self.at(server).versions()
    }

    /// A failover or restart: the server goes on from this state, with another life and another clock (`skew`
    /// milliseconds from the common one). Whoever waits on it looks again.
    pub fn replace_server_state(&self, server: usize, state: ServerState, life: Life, skew: i64) {
        self.at(server).replace(state, life, skew);
    }

    /// Sets how far a server's clock is from the common one, in milliseconds.
    pub fn set_skew(&self, server: usize, skew: i64) {
        self.at(server).set_skew(skew);
    }

    /// How far a server's clock is from the common one, in milliseconds.
    pub fn skew(&self, server: usize) -> i64 {
        self.at(server).skew()
    }

    /// A server's clock, in milliseconds.
    pub fn now(&self, server: usize) -> u64 {
        self.at(server).now()
    }

    /// Runs one operation of [`ops`] that writes against a server's present state, as its scripts run: alone.
    pub fn write<R>(&self, server: usize, operation: impl FnOnce(&mut ServerState, u64) -> R) -> R {
        let server = self.at(server);
        let result = server.write(operation);
        server.wake.everyone();
        result
    }

    /// Runs one operation of [`ops`] that only reads.
    pub fn read<R>(&self, server: usize, operation: impl FnOnce(&ServerState, u64) -> R) -> R {
        self.at(server).read(operation)
    }

    /// What an old producer does to a plain list: `RPUSH`.
    pub fn push_list(&self, list: &str, item: impl Into<bytes::Bytes>) -> Result<()> {
        let item = item.into();
        self.of_list(list)
            .write(|state, _| ops::lists::push(state, list, item))
    }

    fn server_of_key(&self, key: &str) -> usize {
        usize::from(crc16::State::<crc16::XMODEM>::calculate(key.as_bytes())) % self.servers()
    }

    fn at(&self, server: usize) -> &Server {
        &self.inner.servers[server % self.inner.servers.len()]
    }

    fn of_partition(&self, partition: Partition) -> &Server {
        self.at(self.server_of(partition))
    }

    fn of_room(&self, room: &Room) -> (Partition, &Server) {
        let partition = self.inner.partitions.partition_of(room);
        (partition, self.of_partition(partition))
    }

    fn of_incarnation(&self, incarnation: &Incarnation) -> &Server {
        self.at(self.server_of_incarnation(incarnation))
    }

    fn of_list(&self, list: &str) -> &Server {
        self.at(self.server_of_list(list))
    }

    fn of_lease(&self, lease: &LeaseName) -> &Server {
        match lease {
            LeaseName::Partition(partition) => self.of_partition(*partition),
            LeaseName::List(list) => self.of_list(list),
        }
    }

    /// Holds what belongs to nobody in particular: the index of processes and the policy.
    fn common(&self) -> &Server {
        self.at(0)
    }
}

impl Broker for MemoryBroker {
    fn partitions(&self) -> PartitionCount {
        self.inner.partitions
    }
}

/// Neighbours share a server, as neighbouring slots do.
fn holder(partition: Partition, partitions: PartitionCount, servers: usize) -> usize {
    partition.index() * servers / usize::from(partitions.get())
}
