//! Watches the lives of the servers.
//!
//! A changed life is a failover or restart: what was read before may have been taken back. So lives are known before
//! the first lease is taken, and looked at each second from then on.

use std::{sync::Arc, time::Duration};

use carillon_broker::{BrokerError, Life, Lives};
use carillon_model::Partition;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::{debug, warn};

use crate::shared::Shared;

/// What the last look at the servers showed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// None before the first look that was answered.
    lives: Option<Arc<Lives>>,
    /// How often each partition's life changed.
    changes: Vec<u64>,
    /// Since when every look was answered.
    pub(crate) up_since: Option<Instant>,
    /// Why the last look was not.
    pub(crate) error: Option<String>,
}

impl Seen {
    /// Whether lives are known at all.
    pub(crate) fn is_known(&self) -> bool {
        self.lives.is_some()
    }

    /// The life of a partition's server; none before the first look that was answered.
    pub(crate) fn life_of(&self, partition: Partition) -> Option<&Life> {
        self.lives.as_ref()?.of(partition)
    }

    /// A number that is another one after each change of a partition's life.
    pub(crate) fn changes_of(&self, partition: Partition) -> u64 {
        self.changes.get(partition.index()).copied().unwrap_or(0)
    }

    /// How often each partition's life changed.
    pub(crate) fn changes(&self) -> &[u64] {
        &self.changes
    }

    /// The broker, or one of its servers, did not answer.
    fn failed(&mut self, error: &BrokerError) {
        if self.error.is_none() {
            warn!(%error, "the broker does not answer; waiting for it");
        } else {
            debug!(%error, "the broker still does not answer");
        }
        self.up_since = None;
        self.error = Some(error.to_string());
    }

    /// Takes a look's answer in; which partitions changed.
    fn take(&mut self, lives: Lives) -> Vec<Partition> {
        let before = self.lives.replace(Arc::new(lives));
        let Some(now) = &self.lives else { return Vec::new() };
        self.changes.resize(now.partitions.len(), 0);
        let Some(before) = before else { return Vec::new() };
        let mut changed = Vec::new();
        for ((index, life), count) in (0..).zip(&now.partitions).zip(&mut self.changes) {
            if before.partitions.get(usize::from(index)) != Some(life) {
                *count += 1;
                changed.push(Partition(index));
            }
        }
        changed
    }
}

/// Looks each second, for ever.
pub(crate) async fn watch_lives(shared: &Shared, seen: watch::Sender<Seen>) {
    let mut every = interval(shared.settings.survey_every);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        // A look and the servers' answers have limits of their own, which together are longer than a call's.
        let limit = shared.settings.call_timeout * 2 + Duration::from_secs(1);
        match shared.call_within(limit, "lives", shared.broker.lives(None)).await {
            Ok(lives) => seen.send_modify(|seen| {
                match &lives.problem {
                    None => {
                        seen.up_since.get_or_insert_with(Instant::now);
                        seen.error = None;
                    }
                    Some(error) => seen.failed(error),
                }
                let changed = seen.take(lives);
                if !changed.is_empty() {
                    shared.metrics.failovers.inc_by(changed.len() as u64);
                    warn!(partitions = ?changed, "the server of these partitions failed over or restarted; reading them again");
                }
            }),
            Err(error) => seen.send_modify(|seen| seen.failed(&error)),
        }
    }
}
