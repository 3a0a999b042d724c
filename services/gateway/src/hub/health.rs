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
