//! What is counted of losses.

use prometheus::{IntCounter, Registry};

/// Counters of what failovers and restarts of Redis dropped of what this process confirmed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LossMetrics {
    pub(super) lost: IntCounter,
    pub(super) unknown: IntCounter,
    pub(super) superseded: IntCounter,
}

impl Default for LossMetrics {
    #[allow(clippy::expect_used)] // constants
    fn default() -> Self {
        let counter = |name: &str, help: &str| IntCounter::new(name, help).expect("a valid name");
        Self {
            lost: counter(
                "carillon_redis_lost_messages_total",
                "Messages that were accepted and that Redis lost with a failover or a restart. Their rooms are told.",
            ),
            unknown: counter(
                "carillon_redis_unknown_losses_total",
                "Partitions of which it is not known which accepted messages Redis lost. All their rooms are told.",
            ),
            superseded: counter(
                "carillon_redis_superseded_appends_total",
                "Appends whose server was replaced before its answer came: their outcome is unknown.",
            ),
        }
    }
}

impl LossMetrics {
    /// Shows them in a registry; fails if a name is taken.
    pub fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.lost.clone()))?;
        registry.register(Box::new(self.unknown.clone()))?;
        registry.register(Box::new(self.superseded.clone()))
    }

    /// Messages that were accepted and lost.
    pub fn lost(&self) -> u64 {
        self.lost.get()
    }

    /// Partitions of which nobody knows what they lost.
    pub fn unknown(&self) -> u64 {
        self.unknown.get()
    }
}
