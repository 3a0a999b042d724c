//! Two replicas of each server, as far as whoever confirms messages sees them.

use carillon_broker::{
    Life, Result,
    losses::{Replica, ReplicationState},
};

use crate::connections::{Connections, Happened};

/// How many writes the shorter of a server's two replicas is behind. It is the one that is promoted: a failover takes back
/// so many writes at most.
const LAG: u64 = 24;

impl Connections {
    /// How many writes a server had before the one under way.
    pub(crate) fn position(&self, server: usize, happened: Happened) -> u64 {
        match happened {
            Happened::Present => self.network.writes(server).saturating_sub(1),
            // Beyond everything that anybody looks at.
            Happened::OldPrimary => u64::MAX,
        }
    }

    /// What the primary that was looked at says of its replicas.
    fn replication(&self, server: usize, life: &Life) -> ReplicationState {
        let acknowledged = match self.network.writes_of_old(server, life) {
            // The shorter one is the new primary; the longer one still follows, and acknowledges everything.
            Some(writes) => vec![("longer", writes)],
            None => {
                let writes = self.network.writes(server);
                vec![("shorter", writes.saturating_sub(LAG)), ("longer", writes)]
            }
        };
        ReplicationState {
            replication_id: life.replication_id().into(),
            replicas: acknowledged
                .into_iter()
                .map(|(name, acknowledged)| Replica {
                    address: name.into(),
                    acknowledged,
                })
                .collect(),
        }
    }

    /// A look at a server, as [`Connections::look`], that tells what this process confirmed and may have lost.
    pub(crate) async fn observe(&self, server: usize) -> Result<()> {
        let (_, life) = self.look(server).await?;
        let replication = self.replication(server, &life);
        let servers = &self.network.servers;
        for partition in carillon_broker::Broker::partitions(servers).partitions() {
            if servers.server_of(partition) == server {
                self.losses.observed(partition, &life, Some(&replication));
            }
        }
        Ok(())
    }
}
