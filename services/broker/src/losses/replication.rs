//! How far the replicas of a server are.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

/// What a primary says of its replication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicationState {
    /// The present replication ID.
    pub replication_id: Arc<str>,
    /// The replicas that are attached.
    pub replicas: Vec<Replica>,
}

/// A replica as its primary sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Where it is: `host:port`.
    pub address: Arc<str>,
    /// It has every write below this replication offset.
    pub acknowledged: u64,
}

/// A replica that is away this long is not waited for: no failover would choose it.
const AWAY: Duration = Duration::from_secs(60);

/// The replicas of one replication ID, those included that went a moment ago: one of them may just be promoted.
#[derive(Debug, Default)]
pub(super) struct Replicas {
    of: Option<Arc<str>>,
    seen: Vec<(Replica, Instant)>,
}

impl Replicas {
    /// Takes in what a primary says; every replica has every write below the answer. `None`: there is no replica.
    pub(super) fn observe(&mut self, state: &ReplicationState, now: Instant) -> Option<u64> {
        if self.of.as_ref() != Some(&state.replication_id) {
            self.of = Some(Arc::clone(&state.replication_id));
            self.seen.clear();
        }
        let attached = |address: &str| state.replicas.iter().any(|replica| *replica.address == *address);
        self.seen
            .retain(|(replica, at)| !attached(&replica.address) && now.duration_since(*at) < AWAY);
        self.seen
            .extend(state.replicas.iter().map(|replica| (replica.clone(), now)));
        self.seen.iter().map(|(replica, _)| replica.acknowledged).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(id: &str, replicas: &[(&str, u64)]) -> ReplicationState {
        ReplicationState {
            replication_id: id.into(),
            replicas: replicas
                .iter()
                .map(|(address, acknowledged)| Replica {
                    address: (*address).into(),
                    acknowledged: *acknowledged,
                })
                .collect(),
        }
    }

    #[test]
    fn the_slowest_counts_also_when_it_has_just_gone() {
        let mut replicas = Replicas::default();
        let start = Instant::now();
        assert_eq!(replicas.observe(&state("x", &[]), start), None);
        let both = state("x", &[("b", 10), ("c", 30)]);
        assert_eq!(replicas.observe(&both, start), Some(10));
        let one = state("x", &[("c", 50)]);
        assert_eq!(replicas.observe(&one, start + AWAY / 2), Some(10));
        assert_eq!(replicas.observe(&one, start + AWAY), Some(50));
        let back = state("x", &[("b", 60), ("c", 70)]);
        assert_eq!(replicas.observe(&back, start + AWAY), Some(60));
        assert_eq!(
            replicas.observe(&state("y", &[("c", 80)]), start + AWAY),
            Some(80),
            "another replication ID"
        );
    }
}
