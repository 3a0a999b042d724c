//! How the broker's servers are.

use async_trait::async_trait;
use carillon_model::Partition;

use crate::{BrokerError, Incarnation, Life, Result};

/// Looks at the servers behind the broker.
#[async_trait]
pub trait Health: Send + Sync {
    /// The lives of the servers that hold the partitions and, if asked, a gateway's channel. Asked each second; it
    /// looks at the present primaries, all at once, and gives up connections to servers that are not primaries any more.
    ///
    /// A server that does not answer keeps the life it had, and [`Lives::problem`] says so.
    async fn lives(&self, channel: Option<&Incarnation>) -> Result<Lives>;

    /// How full the fullest server is. All primaries are asked at once, and one that is silent holds up nobody's answer;
    /// an error where none answered.
    async fn pressure(&self) -> Result<Pressure>;

    /// Checks version, eviction policy, persistence and mode; the error says what to change.
    async fn check(&self) -> Result<()>;
}

/// Lives by what they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lives {
    /// One for each partition, in order.
    pub partitions: Vec<Life>,
    /// The server of the channel that was asked for.
    pub channel: Option<Life>,
    /// Why not every server answered, if one did not.
    pub problem: Option<BrokerError>,
}

/// What readiness says where answers come from another server, or other data, than looks at Redis show.
pub const IDENTITY_DIFFERS: &str = "answers come from another Redis server than the one found by looking (run_id or \
    replication ID differ); is a proxy or a load balancer between Carillon and Redis?";

/// Looks at Redis within which answers and looks have to agree, before readiness says so.
pub const LOOKS_UNTIL_IDENTITY_DIFFERS: u32 = 3;

impl Lives {
    /// The life of a partition's server.
    pub fn of(&self, partition: Partition) -> Option<&Life> {
        self.partitions.get(partition.index())
    }
}

/// Memory in use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pressure {
    /// Used share of `maxmemory` on the fullest server, from 0 to 1 (and a little above); 0 without a limit.
    pub memory: f64,
    /// Whether every server answered; the fullest may be one that did not.
    pub complete: bool,
}
