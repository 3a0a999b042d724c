//! The broker on Redis: standalone, behind Sentinel, or a Cluster.
//!
//! The library (`redis` with `deadpool`) speaks the protocol and keeps connections. Where a key lives and what a lost
//! answer means is ours, because the promises rest on it: no call is ever repeated across a reconnect, every
//! connection knows the process at its other end, and `WAIT` follows a write on the same connection.
//!
//! - [`keys`]: names and slots
//! - [`addresses`], [`clients`]: how servers are connected to
//! - [`node`]: one server's connections
//! - [`server_identity`], [`identities`]: whose data an answer is, and which changes of it are failovers
//! - [`asking`], [`discovery`], [`topology`]: which server holds a slot
//! - [`call`]: one call, with the redirections after which nothing was executed
//! - [`own_lane`]: reads that wait, cut off when their key moves
//! - [`scripts`]: what runs inside Redis, each a file in `scripts/`
//! - [`classify`]: what an error means
//! - [`requirements`]: what a server must be, looked at before anything is written there
//! - the rest: the broker's traits, by role

mod addresses;
mod asking;
mod call;
mod channels;
mod classify;
mod clients;
mod dead_letters;
mod diagnosis;
mod discovery;
mod foreign;
mod health;
mod identities;
mod inspection;
mod keys;
mod leases;
mod lists;
mod losses;
mod membership;
mod metrics;
mod node;
mod options;
mod own_lane;
mod policy;
mod presence;
mod queue;
mod record;
mod replication;
mod reply;
mod requirements;
mod rooms;
mod scripts;
mod server_identity;
mod topology;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use carillon_model::PartitionCount;

pub use asking::{Answer, Asked, HighestEpoch, Ranges, ask_all};
pub use diagnosis::Finding;
pub use foreign::ForeignKeys;
pub use identities::{Change, Identities, Observed};
pub use metrics::RedisMetrics;
pub use options::{Mode, RedisOptions};
pub use server_identity::ServerIdentity;

use self::{call::Call, keys::Keys, topology::Topology};
use crate::{
    Broker, BrokerError, PartitionState, Result,
    losses::{LogLimits, Losses},
};

/// A broker on Redis. Clones share connections.
#[derive(Clone, Debug)]
pub struct RedisBroker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: RedisOptions,
    keys: Keys,
    topology: Topology,
    metrics: RedisMetrics,
    losses: Losses,
    /// Whether a task writes gap markers.
    settling: AtomicBool,
    /// Whether the installation was found to be the one that was set.
    fits: AtomicBool,
}

impl RedisBroker {
    /// A broker with these options. Nothing is connected yet: Redis may be away, and each call says so.
    pub fn new(options: RedisOptions) -> Result<Self> {
        let keys = Keys::new(&options.prefix, options.partitions)?;
        let metrics = RedisMetrics::new()?;
        let topology = Topology::new(&options, metrics.clone())?;
        let losses = Losses::new(LogLimits::default(), metrics.losses().clone());
        let fits = AtomicBool::new(false);
        Ok(Self {
            shared: Arc::new(Shared {
                options,
                keys,
                topology,
                metrics,
                losses,
                settling: AtomicBool::new(false),
                fits,
            }),
        })
    }

    /// The key of a partition's queue, for people and tools that look into Redis.
    pub fn queue_key(&self, partition: carillon_model::Partition) -> String {
        self.keys().queue(partition)
    }

    /// What its connections count.
    pub fn metrics(&self) -> &RedisMetrics {
        &self.shared.metrics
    }

    fn keys(&self) -> &Keys {
        &self.shared.keys
    }

    fn topology(&self) -> &Topology {
        &self.shared.topology
    }

    fn options(&self) -> &RedisOptions {
        &self.shared.options
    }

    /// A call on the server of a slot, once it is known that this installation is the one that was set: with another
    /// number of partitions, messages would go where nobody looks for them.
    async fn call(&self, call: Call) -> Result<redis::Value> {
        self.fit().await?;
        call.run(self.topology(), self.options()).await
    }

    /// Where a partition stands, as `stand` in the scripts' prelude answers it.
    async fn partition_state(&self, answer: redis::Value) -> Result<PartitionState> {
        let state = reply::partition(answer)?;
        let life = self.topology().resolve(&state.life.0).await;
        Ok(PartitionState { life, ..state })
    }

    async fn fit(&self) -> Result<()> {
        if self.shared.fits.load(Ordering::Acquire) {
            return Ok(());
        }
        // Into a server that can't be the right one, nothing is written.
        self.check_servers(false).await?;
        self.check_installation().await?;
        self.shared.fits.store(true, Ordering::Release);
        Ok(())
    }

    /// What is fixed for ever: the first service writes it down, all others must agree.
    async fn check_installation(&self) -> Result<()> {
        let key = self.keys().meta();
        for (field, value) in self.fixed() {
            let set = Call::command("HSETNX", &key)
                .arg(&key)
                .arg(field)
                .arg(&value)
                .writing();
            set.run(self.topology(), self.options()).await?;
            let get = Call::command("HGET", &key).arg(&key).arg(field);
            let Some(kept) = reply::present(get.run(self.topology(), self.options()).await?) else {
                let text = format!(
                    "Redis does not have what it has just written to `{key}`: {}",
                    node::SHARED_CONNECTION
                );
                return Err(BrokerError::Misconfigured(text));
            };
            let kept = reply::text(kept)?;
            if kept != value {
                let text = self.other_installation(field, &kept, &value);
                return Err(BrokerError::Misconfigured(text));
            }
        }
        Ok(())
    }
}

impl Broker for RedisBroker {
    fn partitions(&self) -> PartitionCount {
        self.options().partitions
    }
}
