//! Sees failovers, each second: connections to a server that lost its role are given up then, also those of requests
//! that wait.

use std::time::Duration;

use carillon_broker::Lives;
use tokio::time::{MissedTickBehavior, interval};

use crate::Ingest;

/// How often the servers are looked at.
const EVERY: Duration = Duration::from_secs(1);

impl Ingest {
    /// Looks at the broker's servers for as long as it is polled.
    pub async fn watch_servers(&self) {
        let mut every = interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut known: Option<Lives> = None;
        loop {
            every.tick().await;
            // That the broker does not answer is told by the look at its memory.
            let Ok(lives) = self.shared.health.lives(None).await else {
                continue;
            };
            let before = known.as_ref().map(|known| &known.partitions);
            let changed = before.map_or(0, |before| {
                let pairs = before.iter().zip(&lives.partitions);
                pairs.filter(|(before, now)| before != now).count()
            });
            if changed > 0 {
                tracing::warn!(partitions = changed, "a server failed over or restarted");
                self.shared.metrics.failovers.inc();
            }
            known = Some(lives);
        }
    }
}
