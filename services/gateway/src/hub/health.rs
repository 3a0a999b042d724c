//! Whether this gateway's own path works.

use std::{sync::Arc, time::Duration};

use carillon_model::Offset;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::HubSettings;

#[derive(Debug, Default)]
struct Observed {
    redis: Option<Instant>,
    redis_problem: Option<String>,
    channel: Option<Instant>,
    alive: bool,
    probe: Option<Offset>,
    /// The newest probe that any other gateway reports.
    others_probe: Option<Offset>,
    /// The first such report: before it nothing can be missing.
    others_probe_at_start: Option<Offset>,
}

/// What readiness asks of the hub. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HubHealth {
    observed: Arc<Mutex<Observed>>,
    patience: Duration,
    probe_patience: Duration,
}

/// One check of readiness: its name, and why it fails if it does.
pub type Check = (&'static str, Option<String>);

impl HubHealth {
    pub(super) fn new(settings: &HubSettings) -> Self {
        Self {
            observed: Arc::default(),
            patience: settings.health_patience,
            probe_patience: settings.probe_patience,
        }
    }

    pub(super) fn redis_answered(&self) {
        let mut observed = self.observed.lock();
        observed.redis = Some(Instant::now());
        observed.redis_problem = None;
    }

    pub(super) fn redis_failed(&self, why: String) {
        self.observed.lock().redis_problem = Some(why);
    }

    pub(super) fn channel_was_read(&self) {
        self.observed.lock().channel = Some(Instant::now());
    }

    pub(super) fn alive(&self, alive: bool) {
        self.observed.lock().alive = alive;
    }

    pub(super) fn probe_arrived(&self, offset: Offset) {
        let mut observed = self.observed.lock();
        observed.probe = observed.probe.max(Some(offset));
    }

    pub(super) fn others_report(&self, newest: Option<Offset>) {
        let mut observed = self.observed.lock();
        observed.others_probe = observed.others_probe.max(newest);
        if observed.others_probe_at_start.is_none() {
            observed.others_probe_at_start = newest;
        }
    }

    /// The newest probe that came through this gateway's channel.
    pub fn last_probe(&self) -> Option<Offset> {
        self.observed.lock().probe
    }

    /// The checks, in a fixed order; all are there whether they pass or fail.
    pub fn checks(&self) -> Vec<Check> {
        let observed = self.observed.lock();
        let now = Instant::now();
        let recent =
            |seen: Option<Instant>| seen.is_some_and(|seen| now.duration_since(seen) < self.patience);
        let redis = (!recent(observed.redis)).then(|| match &observed.redis_problem {
            Some(problem) => format!("the broker does not answer: {problem}"),
            None => "the broker has not answered yet; is redis.url right and the server up?".to_owned(),
        });
        let registered =
            (!observed.alive).then(|| "not registered: no dispatcher sends to this gateway yet".to_owned());
        let channel = (!recent(observed.channel)).then(|| {
            "the channel is not being read; messages wait in Redis. If this lasts, restart the gateway"
                .to_owned()
        });
        let seen = observed.probe.max(observed.others_probe_at_start);
        let patience = u64::try_from(self.probe_patience.as_millis()).unwrap_or(u64::MAX);
        let missing = match (observed.others_probe, seen) {
            (Some(others), Some(own)) => others.milliseconds.saturating_sub(own.milliseconds) > patience,
            _ => false,
        };
        let probes = missing.then(|| {
            "dispatchers' probes reach other gateways but not this one; messages may not either".to_owned()
        });
        vec![
            ("broker", redis),
            ("registered", registered),
            ("channel", channel),
            ("probes", probes),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn healthy() -> HubHealth {
        let health = HubHealth::new(&HubSettings {
            probe_patience: PATIENCE,
            ..HubSettings::new("gateway-0")
        });
        health.redis_answered();
        health.channel_was_read();
        health.alive(true);
        health
    }

    fn at(seconds: u64) -> Offset {
        Offset::new(seconds * 1_000, 0)
    }

    fn failing(health: &HubHealth) -> Vec<&'static str> {
        let checks = health.checks().into_iter();
        checks.filter_map(|(name, why)| why.map(|_| name)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn each_part_of_the_path_fails_under_its_own_name() {
        let nothing_yet = HubHealth::new(&HubSettings::new("gateway-0"));
        assert_eq!(failing(&nothing_yet), ["broker", "registered", "channel"]);
        let health = healthy();
        assert_eq!(failing(&health), [""; 0]);
        health.redis_failed("connection refused".to_owned());
        tokio::time::advance(Duration::from_secs(600)).await;
        health.channel_was_read();
        let why = health.checks().remove(0).1.unwrap();
        assert!(why.contains("connection refused"), "{why}");
        assert_eq!(failing(&health), ["broker"]);
    }

    #[tokio::test(start_paused = true)]
    async fn probes_are_missing_only_where_others_get_them() {
        let health = healthy();
        assert_eq!(
            failing(&health),
            [""; 0],
            "no dispatcher, no probes: that is not this gateway's fault"
        );
        health.others_report(Some(at(1_000)));
        assert_eq!(
            failing(&health),
            [""; 0],
            "what others got before it was there it can't have got"
        );
        health.others_report(Some(at(1_020)));
        assert_eq!(failing(&health), [""; 0]);
        health.others_report(Some(at(1_021)));
        assert_eq!(failing(&health), ["probes"]);
        health.probe_arrived(at(1_010));
        assert_eq!(failing(&health), [""; 0]);
    }
}
