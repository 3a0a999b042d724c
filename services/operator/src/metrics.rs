//! The operator's metrics: `carillon_operator_…`.

use carillon_chassis::{
    metric_label,
    metrics::{GaugeBy, HistogramBy, LATENCY_BUCKETS, MetricLabel as _, Metrics},
};
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};

metric_label! {
    /// The kinds the operator works for.
    pub enum Kind as "kind" {
        /// The policy, the pods, the scale.
        Cluster = "PushCluster",
        /// Rules of rooms.
        Room = "PushRoom",
        /// Keys.
        Producer = "PushProducer",
    }
}

metric_label! {
    /// What services say of the newest revision.
    pub enum PodState as "state" {
        /// They apply it.
        Programmed = "programmed",
        /// They don't yet.
        Pending = "pending",
    }
}

/// All metrics.
#[derive(Clone, Debug)]
pub struct OperatorMetrics {
    reconciliations: IntCounterVec,
    pub(crate) seconds: HistogramBy<Kind>,
    objects: IntGaugeVec,
    pub(crate) pods: GaugeBy<PodState>,
    pub(crate) leader: IntGauge,
    pub(crate) keys_rotated: IntCounter,
    pub(crate) snapshots_written: IntCounter,
    pub(crate) redis_up: IntGauge,
}

impl OperatorMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// Fails if a name is taken.
    pub fn new(metrics: &Metrics) -> Result<Self, prometheus::Error> {
        let own = metrics.service("operator");
        let reconciliations = IntCounterVec::new(
            Opts::new(
                "carillon_operator_reconciliations_total",
                "Rounds over the objects of a kind, by result.",
            ),
            &["kind", "result"],
        )?;
        metrics.registry().register(Box::new(reconciliations.clone()))?;
        let objects = IntGaugeVec::new(
            Opts::new(
                "carillon_operator_objects",
                "Objects, by kind and by whether they are accepted.",
            ),
            &["kind", "accepted"],
        )?;
        metrics.registry().register(Box::new(objects.clone()))?;
        let all = Self {
            reconciliations,
            seconds: own.histogram_by(
                "reconciliation_seconds",
                "Time a round over the objects of a kind took.",
                LATENCY_BUCKETS,
            )?,
            objects,
            pods: own.gauge_by(
                "pods",
                "Services that live, by whether they apply the newest policy.",
            )?,
            leader: own.gauge("leader", "Whether this process leads.")?,
            keys_rotated: own.counter(
                "keys_rotated_total",
                "Keys of producers that were replaced by new ones.",
            )?,
            snapshots_written: own
                .counter("snapshots_written_total", "Policy snapshots written to Redis.")?,
            redis_up: own.gauge("redis_up", "Whether Redis answered the operator's last call.")?,
        };
        for kind in Kind::ALL {
            for result in ["ok", "failed"] {
                all.reconciliations.with_label_values(&[kind.as_str(), result]);
            }
            all.count(*kind, 0, 0);
        }
        Ok(all)
    }

    /// A round over the objects of a kind ended.
    pub(crate) fn reconciled(&self, kind: Kind, ok: bool) {
        let result = if ok { "ok" } else { "failed" };
        self.reconciliations
            .with_label_values(&[kind.as_str(), result])
            .inc();
    }

    /// How many objects of a kind are accepted, and how many are not.
    pub(crate) fn count(&self, kind: Kind, accepted: usize, refused: usize) {
        for (word, count) in [("true", accepted), ("false", refused)] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.objects.with_label_values(&[kind.as_str(), word]).set(count);
        }
    }
}
