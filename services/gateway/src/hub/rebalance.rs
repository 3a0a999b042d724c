//! Giving sessions up to gateways that have fewer.
//!
//! After a scale-up the new gateway is empty, and nothing would ever fill it: connections live for hours. So a gateway
//! that has more than its share closes transports, at the rate that policy allows, and its clients come back wherever
//! the load balancer sends them.
//!
//! Nobody leads. Each looks at what all report of themselves and judges only itself. What others report is seconds old,
//! and a client that was told to go is for a moment nowhere; so a gateway reckons once how much is too much, gives up
//! that many and no more, and reckons anew when reports have caught up. It does nothing before it has found the same
//! twice, stops halfway into what is allowed, and where giving up did not help (a balancer that sends every client back
//! to where it was) it waits longer each time.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use carillon_broker::{Incarnation, Member};
use carillon_model::policy::{Policy, Rebalance};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::{
    handover::{BEAT, Pace, count},
    metrics::HubMetrics,
    outbox::CloseReason,
    shard::Shards,
};

/// As many sessions above the mean are always allowed: with few sessions a percentage is less than one.
const FLOOR: f64 = 2.0;
/// How many looks in a row must find too many before some are given up.
const PATIENCE: u32 = 2;
/// The most looks that are waited for where giving up does not help.
const MOST_PATIENCE: u32 = 64;

/// How sessions are spread over the gateways that take them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Spread {
    own: u64,
    others: Vec<u64>,
}

impl Spread {
    /// How many this gateway should give up: none while it is within so many percent of the mean, else as many as bring
    /// it halfway there.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // not negative, and below `own`
    fn excess(&self, within: u32) -> u64 {
        if self.others.is_empty() {
            return 0;
        }
        let gateways = count(self.others.len() as u64 + 1);
        let mean = count(self.own + self.others.iter().sum::<u64>()) / gateways;
        let allowed = (mean * f64::from(within) / 100.0).max(FLOOR);
        let above = count(self.own) - mean;
        if above <= allowed {
            return 0;
        }
        (above - allowed / 2.0).floor() as u64
    }
}

/// Where the look at all members is left.
#[derive(Debug, Default)]
pub(super) struct Census {
    taken: Mutex<Option<Spread>>,
    anew: Notify,
}

impl Census {
    /// Membership was read anyway, just after this gateway reported itself.
    pub(super) fn take(&self, members: &[Member], own: &Incarnation) {
        let serving = || members.iter().filter(|member| !member.draining);
        let Some(this) = serving().find(|member| member.incarnation == *own) else {
            return;
        };
        let others = serving().filter(|member| member.incarnation != *own);
        *self.taken.lock() = Some(Spread {
            own: this.sessions,
            others: others.map(|member| member.sessions).collect(),
        });
        self.anew.notify_one();
    }

    async fn next(&self) -> Spread {
        loop {
            let anew = self.anew.notified();
            if let Some(spread) = self.taken.lock().take() {
                return spread;
            }
            anew.await;
        }
    }
}

/// The task.
#[derive(Debug)]
pub(super) struct RebalanceTask {
    pub(super) census: Arc<Census>,
    pub(super) policy: watch::Receiver<Arc<Policy>>,
    pub(super) shards: Shards,
    pub(super) metrics: HubMetrics,
    pub(super) draining: Arc<AtomicBool>,
}

impl RebalanceTask {
    /// Runs until the gateway ends.
    pub(super) async fn run(self) {
        let mut patience = PATIENCE;
        let mut found = 0;
        let mut before = None;
        loop {
            let spread = self.census.next().await;
            let excess = self.excess(&spread);
            if excess == 0 {
                (patience, found, before) = (PATIENCE, 0, None);
                continue;
            }
            found += 1;
            if found < patience {
                continue;
            }
            let helped = before.is_none_or(|before| excess < before);
            patience = if helped {
                PATIENCE
            } else {
                (patience * 2).min(MOST_PATIENCE)
            };
            (found, before) = (0, Some(excess));
            self.give_up(excess, &spread).await;
        }
    }

    fn knob(&self) -> Option<Rebalance> {
        let going = self.draining.load(Ordering::Relaxed);
        self.policy.borrow().gateways().rebalance.filter(|_| !going)
    }

    fn excess(&self, spread: &Spread) -> u64 {
        let excess = self.knob().map_or(0, |knob| spread.excess(knob.within));
        self.metrics
            .rebalance_excess
            .set(i64::try_from(excess).unwrap_or(i64::MAX));
        excess
    }

    async fn give_up(&self, excess: u64, spread: &Spread) {
        tracing::info!(
            sessions = spread.own,
            gateways = spread.others.len() + 1,
            excess,
            "this gateway has more than its share; giving sessions up"
        );
        let mut pace = Pace::default();
        let mut left = usize::try_from(excess).unwrap_or(usize::MAX);
        while left > 0 {
            let Some(knob) = self.knob() else { return };
            let due = pace.beat(knob.rate.per_second()).min(left);
            let told = self.shards.close(due, CloseReason::Rebalance).await;
            if told < due {
                // Nobody is left that could go.
                return;
            }
            left -= told;
            tokio::select! {
                biased;
                () = tokio::time::sleep(BEAT) => {}
                // Others may have come or gone. What was told to go is not counted anywhere yet, so it may become less
                // by this, but not more.
                spread = self.census.next() => {
                    let excess = usize::try_from(self.excess(&spread)).unwrap_or(usize::MAX);
                    left = left.min(excess);
                    tokio::time::sleep(BEAT).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excess(own: u64, others: &[u64]) -> u64 {
        let others = others.to_vec();
        Spread { own, others }.excess(15)
    }

    #[test]
    fn what_is_too_much_is_reckoned_from_the_mean() {
        assert_eq!(excess(300, &[]), 0, "the only one gives nothing up");
        assert_eq!(excess(115, &[100, 85]), 0, "just within");
        assert_eq!(excess(116, &[100, 84]), 8, "halfway into what is allowed");
        assert_eq!(excess(300, &[0, 0]), 192);
        assert_eq!(excess(0, &[300, 300]), 0, "who has too few waits");
        assert_eq!(excess(3, &[0, 0]), 0, "a session or two are no skew");
        assert_eq!(excess(2, &[0]), 0);
        assert_eq!(excess(6, &[0]), 2);
    }
}
