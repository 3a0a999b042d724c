//! Whether this gateway's own path works.

use std::{sync::Arc, time::Duration};

use carillon_broker::{IDENTITY_DIFFERS, Incarnation, LOOKS_UNTIL_IDENTITY_DIFFERS};
use carillon_model::{Offset, Partition};
use indexmap::IndexMap;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::HubSettings;

/// What is read from Redis, where it may come from another server than the known one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    Channel,
    Partition(Partition),
}

#[derive(Debug, Default)]
struct Observed {
    redis: Option<Instant>,
    redis_problem: Option<String>,
    channel: Option<Instant>,
    alive: bool,
    /// Since when answers of each source have come from another server than the looks at Redis show.
    differs: IndexMap<Source, Instant>,
    /// The last probe, whichever partition it came through.
    probe: Option<Offset>,
    /// The last probe of each other gateway, as it reports it.
    others: IndexMap<Incarnation, Offset>,
    /// When others were first and last seen to get another probe, since this gateway got its last, or stood still itself.
    others_moved: Option<(Instant, Instant)>,
}

/// What readiness asks of the hub. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HubHealth {
    observed: Arc<Mutex<Observed>>,
    patience: Duration,
    identity_patience: Duration,
    probe_patience: Duration,
}

/// One check of readiness: its name, and why it fails if it does.
pub type Check = (&'static str, Option<String>);

impl HubHealth {
    pub(super) fn new(settings: &HubSettings) -> Self {
        Self {
            observed: Arc::default(),
            patience: settings.health_patience,
            identity_patience: settings.look_at_lives * LOOKS_UNTIL_IDENTITY_DIFFERS,
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

    /// An answer came from another server, or other data, than the last look at the servers has shown.
    pub(super) fn identity_differs(&self, source: Source) {
        let mut observed = self.observed.lock();
        observed.differs.entry(source).or_insert_with(Instant::now);
    }

    /// An answer came from the server that is known.
    pub(super) fn identity_fits(&self, source: Source) {
        self.observed.lock().differs.swap_remove(&source);
    }

    pub(super) fn alive(&self, alive: bool) {
        self.observed.lock().alive = alive;
    }

    pub(super) fn probe_arrived(&self, offset: Offset) {
        let mut observed = self.observed.lock();
        observed.probe = Some(offset);
        observed.others_moved = None;
    }

    /// What the other gateways say was their last probe. Only that it changes is looked at, by this process' own clock:
    /// offsets of different partitions do not compare, and after a failover none of them keeps pace with any clock.
    pub(super) fn others_report(&self, others: IndexMap<Incarnation, Offset>) {
        let mut observed = self.observed.lock();
        let known = &observed.others;
        let moved = others
            .iter()
            .any(|(gateway, probe)| known.get(gateway).is_some_and(|before| before != probe));
        if moved {
            let now = Instant::now();
            // A process that was stopped finds its own probes only after it has seen those of others.
            let went_on = |last: Instant| now.duration_since(last) <= self.probe_patience / 2;
            let span = observed.others_moved.filter(|(_, last)| went_on(*last));
            let first = span.map_or(now, |(first, _)| first);
            observed.others_moved = Some((first, now));
        }
        observed.others = others;
    }

    /// The last probe that came through this gateway's channel.
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
        let missing = observed
            .others_moved
            .is_some_and(|(first, last)| last.duration_since(first) >= self.probe_patience);
        let probes = missing.then(|| {
            "dispatchers' probes reach other gateways but not this one; messages may not either".to_owned()
        });
        let first = observed.differs.values().min();
        let differs = first.is_some_and(|first| now.duration_since(*first) >= self.identity_patience);
        let identity = differs.then(|| IDENTITY_DIFFERS.to_owned());
        vec![
            ("broker", redis),
            ("identity", identity),
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

    /// A probe through one of two partitions, whose offsets are far apart and do not follow any clock.
    fn probe(number: u64) -> Offset {
        Offset::new(
            if number.is_multiple_of(2) {
                5_000_000
            } else {
                1_000
            },
            number,
        )
    }

    fn reports(health: &HubHealth, others: &[(&str, u64)]) {
        let report = |(gateway, number): &(&str, u64)| (Incarnation::new(gateway, 1), probe(*number));
        health.others_report(others.iter().map(report).collect());
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
    async fn answers_of_another_server_are_a_fault_only_if_they_go_on() {
        let health = healthy();
        let looks = |count| HubSettings::new("gateway-0").look_at_lives * count;
        health.identity_differs(Source::Channel);
        health.identity_differs(Source::Partition(Partition(0)));
        tokio::time::advance(looks(2)).await;
        assert_eq!(failing(&health), [""; 0], "a failover was just noticed");
        health.identity_fits(Source::Channel);
        tokio::time::advance(looks(1)).await;
        assert_eq!(failing(&health), ["identity"]);
        health.identity_fits(Source::Partition(Partition(0)));
        assert_eq!(failing(&health), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn probes_are_missing_only_where_others_get_them() {
        let health = healthy();
        assert_eq!(
            failing(&health),
            [""; 0],
            "no dispatcher, no probes: that is not this gateway's fault"
        );
        let five = Duration::from_secs(5);
        for number in 0..=4 {
            reports(&health, &[("other", number)]);
            assert_eq!(failing(&health), [""; 0], "after {} s", number * 5);
            tokio::time::advance(five).await;
            health.channel_was_read();
            health.redis_answered();
        }
        reports(&health, &[("other", 5)]);
        assert_eq!(failing(&health), ["probes"]);
        health.probe_arrived(probe(5));
        assert_eq!(failing(&health), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn probes_that_come_while_the_process_stands_still_are_not_missed() {
        let health = healthy();
        for number in 0..=2 {
            reports(&health, &[("other", number)]);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        tokio::time::advance(PATIENCE).await;
        health.channel_was_read();
        health.redis_answered();
        reports(&health, &[("other", 3)]);
        assert_eq!(failing(&health), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn others_that_get_none_or_come_and_go_prove_nothing() {
        let health = healthy();
        health.probe_arrived(probe(1));
        for minute in 0..10 {
            // No dispatcher works; gateways are replaced.
            let (one, two) = (format!("gateway-{minute}"), format!("gateway-{}", minute + 1));
            reports(&health, &[(&one, 7), (&two, 7)]);
            assert_eq!(failing(&health), [""; 0]);
            tokio::time::advance(Duration::from_secs(60)).await;
            health.channel_was_read();
            health.redis_answered();
        }
    }
}
