//! What ingest counts, all of fixed cardinality.

use carillon_broker::Backlog;
use carillon_chassis::{
    metric_label,
    metrics::{CounterBy, LATENCY_BUCKETS, Metrics},
};
use prometheus::{Gauge, Histogram, IntCounter, IntGauge};

use crate::{answer::Accepted, problem::Kind, problem::Problem, written::Written};

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

metric_label! {
    /// How a message came in.
    pub enum Door as "door" {
        /// A request over HTTP: one message or a batch.
        Http = "http",
        /// A line of a stream over HTTP.
        Ndjson = "ndjson",
        /// gRPC, one message or a stream of them.
        Grpc = "grpc",
    }
}

/// The counters, gauges and histograms of ingest. Cheap to clone.
#[derive(Clone, Debug)]
pub struct IngestMetrics {
    pub(crate) requests: CounterBy<Outcome>,
    pub(crate) rejections: CounterBy<Kind>,
    pub(crate) arrivals: CounterBy<Door>,
    pub(crate) messages: IntCounter,
    pub(crate) copies: IntCounter,
    pub(crate) repeats: IntCounter,
    pub(crate) bytes: IntCounter,
    pub(crate) appends: IntCounter,
    pub(crate) failovers: IntCounter,
    pub(crate) requests_open: IntGauge,
    pub(crate) streams_open: IntGauge,
    pub(crate) connections_open: IntGauge,
    pub(crate) request_seconds: Histogram,
    queue_entries: IntGauge,
    queue_longest: IntGauge,
    queue_limit: IntGauge,
    queue_age: Gauge,
}

impl IngestMetrics {
    /// Registers everything; fails if a name is taken.
    pub fn new(metrics: &Metrics) -> Result<Self, prometheus::Error> {
        let ingest = metrics.service("ingest");
        let queue_age = Gauge::new(
            "carillon_ingest_queue_age_seconds",
            "How long the oldest entry of all queues has waited; 0 when none waits.",
        )?;
        metrics.registry().register(Box::new(queue_age.clone()))?;
        Ok(Self {
            requests: ingest.counter_by(
                "requests_total",
                "Publish requests, and messages of streams, by outcome.",
            )?,
            rejections: ingest.counter_by("rejections_total", "Requests not accepted whole, by reason.")?,
            arrivals: ingest.counter_by(
                "arrivals_total",
                "Publish requests, and messages of streams, by the door they came through.",
            )?,
            messages: ingest.counter("messages_total", "Messages accepted, repeats included.")?,
            copies: ingest.counter("copies_total", "Messages accepted, counted once for each room.")?,
            repeats: ingest.counter("repeats_total", "Messages found by their idempotency key.")?,
            bytes: ingest.counter(
                "body_bytes_total",
                "Bytes of bodies of accepted requests, and of messages of streams.",
            )?,
            appends: ingest.counter("appends_total", "Calls to the broker that write.")?,
            failovers: ingest.counter(
                "failovers_total",
                "Looks at Redis that found a server promoted, restarted, or replaced.",
            )?,
            requests_open: ingest.gauge("requests_open", "Publish requests being served.")?,
            streams_open: ingest.gauge("streams_open", "Streams of messages being served.")?,
            connections_open: ingest.gauge("connections_open", "Connections of producers.")?,
            request_seconds: ingest.histogram(
                "request_seconds",
                "From a request's header, or a message's arrival on a stream, to its answer.",
                LATENCY_BUCKETS,
            )?,
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

impl IngestMetrics {
    /// What a write took.
    pub(crate) fn wrote(&self, written: &Written) {
        self.appends.inc_by(written.appends);
        self.repeats.inc_by(written.repeats);
    }

    /// Messages that the broker has.
    pub(crate) fn accepted(&self, accepted: &[Accepted]) {
        self.messages.inc_by(accepted.len() as u64);
        self.copies
            .inc_by(accepted.iter().map(|accepted| accepted.rooms.len() as u64).sum());
    }

    /// What a producer was told of a request, or of a message of a stream.
    pub(crate) fn told(&self, door: Door, problem: Option<&Problem>) {
        self.arrivals.inc(door);
        match problem {
            None => self.requests.inc(Outcome::Accepted),
            Some(problem) => {
                self.requests.inc(problem.outcome());
                self.rejections.inc(problem.kind);
            }
        }
    }
}
