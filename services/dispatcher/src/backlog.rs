//! How much waits in the partitions owned, for people and for whoever scales dispatchers.

use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

use crate::shared::Shared;

/// Looks every few seconds, for ever. While the broker does not answer, what was seen last stands.
pub(crate) async fn watch_backlog(shared: Arc<Shared>) {
    let mut every = interval(shared.settings.look_at_backlog_every);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let owned = shared.board.owned();
        match shared.call("backlogs", shared.broker.backlogs(&owned)).await {
            Ok(backlogs) => shared.metrics.backlogs(&backlogs),
            Err(error) => debug!(%error, "could not look at the queues"),
        }
    }
}
