//! How a dispatcher is, for its readiness.

use carillon_model::Partition;
use tokio::time::Instant;

/// A look at a dispatcher, renewed with each survey.
#[derive(Clone, Debug, Default)]
pub struct DispatcherStatus {
    /// Why the broker did not answer the last time it was asked for its servers' lives.
    pub broker_error: Option<String>,
    /// Whether lives are known and this process is registered; no lease is taken before.
    pub registered: bool,
    /// When the lease loop last went round.
    pub surveyed: Option<Instant>,
    /// Living dispatchers, this one included.
    pub living: usize,
    /// Partitions that this one should own.
    pub wanted: usize,
    /// Partitions it owns.
    pub owned: usize,
    /// Of those that this one should own, how many another one held when it last asked for them.
    pub held_by_others: usize,
    /// Whether queues were read for a while from other servers than those that looks at Redis show.
    pub identity_differs: bool,
    /// Partitions it owns without making progress.
    pub stuck: Vec<Partition>,
}

impl DispatcherStatus {
    /// Why it is not ready, one sentence each; none if it is. The lease loop is asleep when it has not gone round
    /// for `asleep_after`.
    pub fn problems(&self, asleep_after: std::time::Duration) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(error) = &self.broker_error {
            problems.push(format!("redis: {error}"));
        }
        if !self.registered {
            problems.push("not registered among the dispatchers yet".to_owned());
        }
        match self.surveyed {
            Some(at) if at.elapsed() <= asleep_after => {}
            Some(at) => problems.push(format!(
                "the lease loop has not gone round for {:?}",
                at.elapsed()
            )),
            None => problems.push("the lease loop has not gone round yet".to_owned()),
        }
        // What others hold, others deliver.
        if self.registered && self.wanted > 0 && self.owned == 0 && self.held_by_others == 0 {
            problems.push(format!(
                "no partition owned: none of {} could be taken yet",
                self.wanted
            ));
        }
        problems
    }
}
