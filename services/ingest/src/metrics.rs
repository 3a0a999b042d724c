//! What ingest counts, all of fixed cardinality.

use carillon_broker::Backlog;
use carillon_chassis::{
    metric_label,
    metrics::{CounterBy, LATENCY_BUCKETS, Metrics},
};
use prometheus::{Gauge, Histogram, IntCounter, IntGauge};

use crate::problem::Kind;

metric_label! {
    /// What became of a request, as its producer was told.
    pub enum Outcome as "outcome" {
        /// All of it was written.
        Accepted = "accepted",
        /// Nothing was written, for the request's own fault.
        Rejected = "rejected",
        /// Nothing was written; the same request may be accepted later.
        Refused = "refused",
        /// Some partitions hold their part, the others certainly do not.
        Partial = "partial",
        /// An answer was lost.
        Unknown = "unknown",
    }
}

/// The counters, gauges and histograms of ingest. Cheap to clone.
#[derive(Clone, Debug)]
pub struct IngestMetrics {
    pub(crate) requests: CounterBy<Outcome>,
    pub(crate) rejections: CounterBy<Kind>,
    pub(crate) messages: IntCounter,
    pub(crate) copies: IntCounter,
    pub(crate) repeats: IntCounter,
    pub(crate) bytes: IntCounter,
    pub(crate) appends: IntCounter,
    pub(crate) requests_open: IntGauge,
    pub(crate) connections_open: IntGauge,
    pub(crate) request_seconds: Histogram,
    pub(crate) redis_memory_ratio: Gauge,
    queue_entries: IntGauge,
    queue_longest: IntGauge,
    queue_limit: IntGauge,
    queue_age: Gauge,
}

impl IngestMetrics {
    /// Registers everything; fails if a name is taken.
    pub fn new(metrics: &Metrics) -> Result<Self, prometheus::Error> {
        let ingest = metrics.service("ingest");
        let redis_memory_ratio = Gauge::new(
            "carillon_ingest_redis_memory_ratio",
            "Used share of maxmemory on the fullest server; 0 without a limit or an answer.",
        )?;
        let queue_age = Gauge::new(
            "carillon_ingest_queue_age_seconds",
            "How long the oldest entry of all queues has waited; 0 when none waits.",
        )?;
        for gauge in [&redis_memory_ratio, &queue_age] {
            metrics.registry().register(Box::new(gauge.clone()))?;
        }
        Ok(Self {
            requests: ingest.counter_by("requests_total", "Publish requests, by outcome.")?,
            rejections: ingest.counter_by("rejections_total", "Requests not accepted whole, by reason.")?,
            messages: ingest.counter("messages_total", "Messages accepted, repeats included.")?,
            copies: ingest.counter("copies_total", "Messages accepted, counted once for each room.")?,
            repeats: ingest.counter("repeats_total", "Messages found by their idempotency key.")?,
            bytes: ingest.counter("body_bytes_total", "Bytes of bodies of accepted requests.")?,
            appends: ingest.counter("appends_total", "Calls to the broker that write.")?,
            requests_open: ingest.gauge("requests_open", "Publish requests being served.")?,
            connections_open: ingest.gauge("connections_open", "Connections of producers.")?,
            request_seconds: ingest.histogram(
                "request_seconds",
                "From a request's header to its answer.",
                LATENCY_BUCKETS,
            )?,
            redis_memory_ratio,
            queue_entries: ingest.gauge("queue_entries", "Entries that wait in all queues.")?,
            queue_longest: ingest.gauge(
                "queue_longest_entries",
                "Entries that wait in the partition where most do.",
            )?,
            queue_limit: ingest.gauge(
                "queue_limit_entries",
                "Entries that may wait in one partition before messages to it are refused.",
            )?,
            queue_age,
        })
    }

    /// What waits in each partition.
    pub(crate) fn backlogs(&self, backlogs: &[Backlog]) {
        let whole = |entries: u64| i64::try_from(entries).unwrap_or(i64::MAX);
        let entries = backlogs.iter().map(|backlog| backlog.entries);
        self.queue_longest.set(whole(entries.clone().max().unwrap_or(0)));
        self.queue_entries.set(whole(entries.sum()));
        let oldest = backlogs.iter().map(|backlog| backlog.age).max();
        self.queue_age.set(oldest.unwrap_or_default().as_secs_f64());
    }

    /// How much may wait in each.
    pub(crate) fn queue_limit(&self, entries: u64) {
        self.queue_limit.set(i64::try_from(entries).unwrap_or(i64::MAX));
    }
}
