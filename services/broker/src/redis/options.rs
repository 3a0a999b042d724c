//! How a broker on Redis is reached.

use std::{path::PathBuf, time::Duration};

use carillon_model::PartitionCount;

/// What stands behind the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One server, with or without replicas that nobody promotes by itself.
    Standalone,
    /// Sentinels that know the master of this name.
    Sentinel {
        /// The master's name.
        master: String,
    },
    /// A Redis Cluster.
    Cluster,
}

/// Settings of a [`RedisBroker`](super::RedisBroker).
#[derive(Clone)]
pub struct RedisOptions {
    /// The server, a sentinel, or a node of the cluster: `redis://user:password@host:port`, `rediss://` for TLS.
    pub url: String,
    /// What stands there.
    pub mode: Mode,
    /// Further sentinels or nodes, as `host:port`.
    pub nodes: Vec<String>,
    /// The sentinels' user, if they have users.
    pub sentinel_user: Option<String>,
    /// The sentinels' password, if they want one: the server's is never shown to them.
    pub sentinel_password: Option<String>,
    /// Certificates of authorities to trust instead of the system's, in PEM.
    pub tls_ca_file: Option<PathBuf>,
    /// What all keys begin with.
    pub prefix: String,
    /// How many partitions the installation has.
    pub partitions: PartitionCount,
    /// Connections to each server at most, beside those that wait.
    pub connections: usize,
    /// How long a call may take.
    pub timeout: Duration,
    /// Replicas that must hold a write before it counts.
    pub wait_replicas: u32,
    /// Whether a server that keeps nothing on disk is accepted.
    pub allow_no_persistence: bool,
}

impl RedisOptions {
    /// A standalone server with the defaults of DESIGN §13.
    pub fn new(url: impl Into<String>, partitions: PartitionCount) -> Self {
        Self {
            url: url.into(),
            mode: Mode::Standalone,
            nodes: Vec::new(),
            sentinel_user: None,
            sentinel_password: None,
            tls_ca_file: None,
            prefix: "carillon:".to_owned(),
            partitions,
            connections: 16,
            timeout: Duration::from_secs(2),
            wait_replicas: 0,
            allow_no_persistence: false,
        }
    }
}

/// Addresses hold passwords: they are never shown.
impl std::fmt::Debug for RedisOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("RedisOptions")
            .field("mode", &self.mode)
            .field("nodes", &self.nodes)
            .field("prefix", &self.prefix)
            .field("partitions", &self.partitions)
            .field("timeout", &self.timeout)
            .field("wait_replicas", &self.wait_replicas)
            .finish_non_exhaustive()
    }
}
