//! Readiness and drain as metrics, read when scraped: what `/readyz` says, for graphs and alerts.

use prometheus::{
    Gauge, GaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::Health;

/// What `/readyz` answers, as `carillon_ready` and `carillon_ready_check{check}`, and how a drain stands. The names of
/// checks are fixed in the code, so their number is.
pub struct HealthCollector {
    health: Health,
    ready: Gauge,
    checks: GaugeVec,
    draining: Gauge,
    deadline: Gauge,
}

impl HealthCollector {
    /// A collector of this health.
    pub fn new(health: Health) -> Result<Self, prometheus::Error> {
        Ok(Self {
            health,
            ready: Gauge::new("carillon_ready", "1 while every check of readiness passes.")?,
            checks: GaugeVec::new(
                Opts::new(
                    "carillon_ready_check",
                    "1 while this check of readiness passes; /readyz says why it does not.",
                ),
                &["check"],
            )?,
            draining: Gauge::new("carillon_draining", "1 from the start of the process' drain.")?,
            deadline: Gauge::new(
                "carillon_drain_deadline_timestamp_seconds",
                "When the drain has to be over, since 1970; 0 before it starts.",
            )?,
        })
    }

    #[allow(clippy::cast_precision_loss)] // milliseconds since 1970 are far below 2^53
    fn refresh(&self) {
        let readiness = self.health.readiness();
        self.ready.set(number(readiness.ready()));
        for check in &readiness.checks {
            let passes = number(check.why.is_none());
            self.checks.with_label_values(&[check.name]).set(passes);
        }
        let deadline = self.health.0.drain.deadline();
        self.draining.set(number(deadline.is_some()));
        if let Some(deadline) = deadline {
            let now = tokio::time::Instant::now();
            let left = deadline.saturating_duration_since(now).as_secs_f64();
            let late = now.saturating_duration_since(deadline).as_secs_f64();
            let clock = carillon_model::time::wall_clock_milliseconds() as f64 / 1_000.0;
            self.deadline.set(clock + left - late);
        }
    }

    fn all(&self) -> [&dyn Collector; 4] {
        [&self.ready, &self.checks, &self.draining, &self.deadline]
    }
}

fn number(so: bool) -> f64 {
    f64::from(u8::from(so))
}

impl Collector for HealthCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.refresh();
        self.all().into_iter().flat_map(Collector::collect).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{drain, metrics::Metrics};

    #[tokio::test(start_paused = true)]
    async fn readiness_and_drain_are_seen() {
        let (drain, watch) = drain::channel();
        let health = Health::new(watch);
        let metrics = Metrics::new().unwrap();
        let collector = HealthCollector::new(health.clone()).unwrap();
        metrics.registry().register(Box::new(collector)).unwrap();
        let redis = health.register("redis");
        health.observe(|| vec![("probes", Some("they are missing".to_owned()))]);
        let text = metrics.encode().unwrap();
        for line in [
            "carillon_ready 0",
            "carillon_ready_check{check=\"redis\"} 0",
            "carillon_ready_check{check=\"probes\"} 0",
            "carillon_ready_check{check=\"drain\"} 1",
            "carillon_draining 0",
            "carillon_drain_deadline_timestamp_seconds 0",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line}\n{text}");
        }
        redis.pass();
        drain.start(Duration::from_secs(30));
        tokio::time::advance(Duration::from_secs(40)).await;
        let text = metrics.encode().unwrap();
        assert!(
            text.contains("carillon_ready_check{check=\"redis\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains("carillon_ready_check{check=\"drain\"} 0\n"),
            "{text}"
        );
        assert!(text.contains("carillon_draining 1\n"), "{text}");
        let deadline = text
            .lines()
            .find_map(|line| line.strip_prefix("carillon_drain_deadline_timestamp_seconds "))
            .and_then(|number| number.parse::<f64>().ok())
            .unwrap();
        let clock = carillon_model::time::wall_clock_milliseconds() as f64 / 1_000.0;
        assert!(
            (5.0..=60.0).contains(&(clock - deadline)),
            "about ten seconds ago"
        );
    }
}
