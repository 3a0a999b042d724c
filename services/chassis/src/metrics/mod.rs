//! Metrics: one registry per process, and constructors that keep to the house's rules.
//!
//! Names are `carillon_<service>_<what>`, in base units (`_seconds`, `_bytes`), counters ending in `_total`. A label's
//! values are the variants of an enum ([`metric_label!`](crate::metric_label)), so that no room, user or error text can
//! multiply the series, and every series exists from the start. Gauges are held by drop guards ([`GaugeGuard`]).
//!
//! ```
//! use carillon_chassis::{metric_label, metrics::{CounterBy, GaugeGuard, Metrics}};
//!
//! metric_label! {
//!     /// What became of a message.
//!     enum Outcome as "outcome" { Accepted = "accepted", Refused = "refused" }
//! }
//!
//! # fn main() -> Result<(), prometheus::Error> {
//! let metrics = Metrics::new()?;
//! let ingest = metrics.service("ingest");
//! let messages: CounterBy<Outcome> = ingest.counter_by("messages_total", "Messages, by outcome.")?;
//! let open = ingest.gauge("requests_open", "Requests being served.")?;
//! {
//!     let _serving = GaugeGuard::new(&open);
//!     messages.inc(Outcome::Accepted);
//! }
//! assert!(metrics.encode()?.contains("carillon_ingest_messages_total{outcome=\"accepted\"} 1"));
//! assert!(metrics.encode()?.contains("carillon_ingest_requests_open 0"));
//! # Ok(()) }
//! ```

mod guard;
mod labels;
mod process;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder, core::Collector,
};

pub use guard::GaugeGuard;
pub use labels::{CounterBy, GaugeBy, HistogramBy, MetricLabel};

use crate::build_info::BUILD;

/// Buckets for latencies inside a data centre, in seconds: from half a millisecond to ten seconds.
pub const LATENCY_BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Buckets for sizes in bytes: from 64 bytes to 16 MiB.
pub const SIZE_BUCKETS: &[f64] = &[
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
];

/// The registry of a process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// A registry that holds the process' own metrics and `carillon_build_info`.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        registry.register(Box::new(process::ProcessCollector::new()?))?;
        let labels = &["version", "revision", "rustc"];
        let build = IntGaugeVec::new(
            Opts::new("carillon_build_info", "What this binary was built from."),
            labels,
        )?;
        build
            .with_label_values(&[BUILD.version, BUILD.revision, BUILD.rustc])
            .set(1);
        registry.register(Box::new(build))?;
        Ok(Self { registry })
    }

    /// The registry itself, for collectors that do not come from here.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Constructors of metrics named `carillon_<service>_…`.
    pub fn service(&self, service: &'static str) -> ServiceMetrics {
        ServiceMetrics {
            registry: self.registry.clone(),
            service,
        }
    }

    /// All metrics in Prometheus' text format.
    pub fn encode(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// Makes and registers the metrics of one service. Every constructor fails if the name is taken or no name.
#[derive(Clone, Debug)]
pub struct ServiceMetrics {
    registry: Registry,
    service: &'static str,
}

impl ServiceMetrics {
    /// A counter; its name ends in `_total`.
    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.register(IntCounter::with_opts(self.options(name, help))?)
    }

    /// Counters by a label; the name ends in `_total`.
    pub fn counter_by<L: MetricLabel>(
        &self,
        name: &str,
        help: &str,
    ) -> Result<CounterBy<L>, prometheus::Error> {
        let vector = self.register(IntCounterVec::new(self.options(name, help), &[L::NAME])?)?;
        Ok(CounterBy::of(&vector))
    }

    /// A gauge; see [`GaugeGuard`].
    pub fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.register(IntGauge::with_opts(self.options(name, help))?)
    }

    /// Gauges by a label.
    pub fn gauge_by<L: MetricLabel>(&self, name: &str, help: &str) -> Result<GaugeBy<L>, prometheus::Error> {
        let vector = self.register(IntGaugeVec::new(self.options(name, help), &[L::NAME])?)?;
        Ok(GaugeBy::of(&vector))
    }

    /// A histogram with these upper bounds, such as [`LATENCY_BUCKETS`].
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, prometheus::Error> {
        let options = HistogramOpts::from(self.options(name, help)).buckets(buckets.to_vec());
        self.register(Histogram::with_opts(options)?)
    }

    /// Histograms by a label.
    pub fn histogram_by<L: MetricLabel>(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> Result<HistogramBy<L>, prometheus::Error> {
        let options = HistogramOpts::from(self.options(name, help)).buckets(buckets.to_vec());
        let vector = self.register(HistogramVec::new(options, &[L::NAME])?)?;
        Ok(HistogramBy::of(&vector))
    }

    fn options(&self, name: &str, help: &str) -> Opts {
        Opts::new(format!("carillon_{}_{name}", self.service), help)
    }

    fn register<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C, prometheus::Error> {
        self.registry.register(Box::new(collector.clone()))?;
        Ok(collector)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::metric_label! {
        /// A kind of error.
        enum Kind as "kind" { Retry = "retry", Gone = "gone" }
    }

    #[test]
    fn every_series_is_there_from_the_start() {
        let metrics = Metrics::new().unwrap();
        let service = metrics.service("bell");
        let errors: CounterBy<Kind> = service.counter_by("errors_total", "Errors.").unwrap();
        let rings: HistogramBy<Kind> = service
            .histogram_by("ring_seconds", "Rings.", &[0.1, 1.0])
            .unwrap();
        errors.clone().inc(Kind::Gone);
        rings.with(Kind::Retry).observe(0.5);
        let text = metrics.encode().unwrap();
        for line in [
            "carillon_bell_errors_total{kind=\"gone\"} 1",
            "carillon_bell_errors_total{kind=\"retry\"} 0",
            "carillon_bell_ring_seconds_bucket{kind=\"retry\",le=\"1\"} 1",
            "carillon_bell_ring_seconds_count{kind=\"gone\"} 0",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(text.contains("carillon_build_info{"), "{text}");
        assert!(text.contains("process_resident_memory_bytes "), "{text}");
        assert!(
            service.counter("errors_total", "Again.").is_err(),
            "a name is given once"
        );
    }

    #[test]
    fn a_guard_gives_back_what_it_counted() {
        let metrics = Metrics::new().unwrap();
        let gauge = metrics.service("bell").gauge("bytes", "Bytes held.").unwrap();
        let one = GaugeGuard::new(&gauge);
        let mut bytes = GaugeGuard::by(&gauge, 100);
        bytes.set(40);
        assert_eq!(gauge.get(), 41);
        drop(one);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _held = bytes;
            panic!("a task dies");
        }));
        assert!(panicked.is_err());
        assert_eq!(gauge.get(), 0);
    }
}
