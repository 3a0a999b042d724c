//! Intervals of the hub's tasks.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};

/// Ticks once in a period; what was missed is not made up for.
pub(super) fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
