//! What a service's way to Redis costs, and how long Redis takes.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};

use crate::{BrokerError, Result, losses::LossMetrics};

/// Upper bounds in seconds, from a tenth of a millisecond to the time-out of a call and beyond.
const BUCKETS: [f64; 14] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
];

/// Counters of the connections of one broker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RedisMetrics {
    calls: IntCounter,
    reads: IntCounter,
    round_trips: IntCounterVec,
    call_seconds: Histogram,
    connections: IntCounterVec,
    looks: IntCounterVec,
    replication_id_changes: IntCounterVec,
    losses: LossMetrics,
}

impl RedisMetrics {
    pub(super) fn new() -> Result<Self> {
        let wrong = |error: prometheus::Error| BrokerError::Misconfigured(error.to_string());
        Self::make().map_err(wrong)
    }

    fn make() -> std::result::Result<Self, prometheus::Error> {
        let round_trips = IntCounterVec::new(
            Opts::new(
                "carillon_redis_round_trips_total",
                "Round trips to Redis: calls, and reads that may wait for something to come.",
            ),
            &["kind"],
        )?;
        let connections = IntCounterVec::new(
            Opts::new(
                "carillon_redis_connections_total",
                "Connections to Redis that were tried, by outcome.",
            ),
            &["outcome"],
        )?;
        for outcome in ["made", "failed"] {
            connections.with_label_values(&[outcome]);
        }
        let looks = IntCounterVec::new(
            Opts::new(
                "carillon_redis_looks_total",
                "Sentinels and servers that were asked who is primary, or who they are, by outcome.",
            ),
            &["outcome"],
        )?;
        for outcome in ["answered", "failed"] {
            looks.with_label_values(&[outcome]);
        }
        let replication_id_changes = IntCounterVec::new(
            Opts::new(
                "carillon_redis_replication_id_changes_total",
                "Changes of a running server's replication ID: benign ones, where a first replica attached or the backlog \
                 expired, and failovers.",
            ),
            &["kind"],
        )?;
        for kind in ["benign", "failover"] {
            replication_id_changes.with_label_values(&[kind]);
        }
        Ok(Self {
            calls: round_trips.with_label_values(&["call"]),
            reads: round_trips.with_label_values(&["read"]),
            round_trips,
            call_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "carillon_redis_call_seconds",
                    "From a call to Redis to its answer; reads that wait are not in it.",
                )
                .buckets(BUCKETS.to_vec()),
            )?,
            connections,
            looks,
            replication_id_changes,
            losses: LossMetrics::default(),
        })
    }

    /// What failovers and restarts dropped.
    pub fn losses(&self) -> &LossMetrics {
        &self.losses
    }

    /// Shows them in a registry; fails if a name is taken.
    pub fn register(&self, registry: &Registry) -> std::result::Result<(), prometheus::Error> {
        registry.register(Box::new(self.round_trips.clone()))?;
        registry.register(Box::new(self.call_seconds.clone()))?;
        registry.register(Box::new(self.connections.clone()))?;
        registry.register(Box::new(self.looks.clone()))?;
        registry.register(Box::new(self.replication_id_changes.clone()))?;
        self.losses.register(registry)
    }

    /// A sentinel or server was asked who is primary, or who it is.
    pub(super) fn look(&self, answered: bool) {
        let outcome = if answered { "answered" } else { "failed" };
        self.looks.with_label_values(&[outcome]).inc();
    }

    /// A running server has another replication ID.
    pub(super) fn replication_id_changed(&self, benign: bool) {
        let kind = if benign { "benign" } else { "failover" };
        self.replication_id_changes.with_label_values(&[kind]).inc();
    }

    /// A call was answered, or failed, after this time.
    pub(super) fn call(&self, took: Duration) {
        self.calls.inc();
        self.call_seconds.observe(took.as_secs_f64());
    }

    /// A read ended.
    pub(super) fn read(&self) {
        self.reads.inc();
    }

    /// A connection was made, or could not be.
    pub(super) fn connection(&self, made: bool) {
        let outcome = if made { "made" } else { "failed" };
        self.connections.with_label_values(&[outcome]).inc();
    }
}
