//! What a dispatcher counts, all of fixed cardinality.

use std::time::Duration;

use carillon_broker::{Backlog, BrokerError, ChannelAppend};
use carillon_model::Partition;
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector,
};

/// The counters, gauges and histograms of a dispatcher. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DispatcherMetrics {
    pub(crate) batches: IntCounter,
    pub(crate) messages: IntCounter,
    pub(crate) frames: IntCounter,
    pub(crate) probes: IntCounterVec,
    pub(crate) repeats: IntCounter,
    pub(crate) gaps: IntCounterVec,
    channel_appends: IntCounterVec,
    pub(crate) dead_routes: IntCounter,
    pub(crate) takeovers: IntCounter,
    pub(crate) fenced: IntCounter,
    pub(crate) rereads: IntCounter,
    pub(crate) watchdog: IntCounter,
    broker_errors: IntCounterVec,
    pub(crate) unknown_outcomes: IntCounter,
    dead_letters: IntCounterVec,
    pub(crate) dead_letters_dropped: IntCounter,
    pub(crate) owned: IntGaugeVec,
    stuck: IntGaugeVec,
    stuck_partitions: IntGauge,
    refused_partitions: IntGauge,
    parked_channels: IntGauge,
    pub(crate) session_messages_lost: IntCounter,
    queue_entries: IntGauge,
    queue_age: Gauge,
    pub(crate) given_up: IntCounter,
    pub(crate) failovers: IntCounter,
    pub(crate) reincarnations: IntCounter,
    pub(crate) crashes: IntCounter,
    list_items: IntCounterVec,
    pub(crate) lists_wrong: IntGaugeVec,
    batch_seconds: Histogram,
    pub(crate) living: IntGauge,
}

/// Why something became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Burial {
    /// A queue entry that can't be read.
    Unreadable,
    /// The broker refuses it.
    Refused,
    /// It killed its process again and again.
    Killer,
    /// A list item that is no text.
    ItemNotText,
    /// A list item over the limit.
    ItemTooLarge,
}

impl Burial {
    const ALL: [Self; 5] = [
        Self::Unreadable,
        Self::Refused,
        Self::Killer,
        Self::ItemNotText,
        Self::ItemTooLarge,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Refused => "refused",
            Self::Killer => "killer",
            Self::ItemNotText => "item_not_text",
            Self::ItemTooLarge => "item_too_large",
        }
    }
}

/// Counted in a gauge while this lives.
#[derive(Debug)]
pub(crate) struct Counted(IntGauge);

impl Counted {
    fn in_gauge(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl DispatcherMetrics {
    /// Registers everything; fails if a name is taken.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| register(registry, IntCounter::new(named(name), help)?);
        let counters = |name: &str, help: &str, label: &str, values: &[&str]| {
            let family = register(
                registry,
                IntCounterVec::new(Opts::new(named(name), help), &[label])?,
            )?;
            for value in values {
                family.with_label_values(&[*value]);
            }
            Ok::<_, prometheus::Error>(family)
        };
        let gauges = |name: &str, help: &str, label: &str| {
            register(
                registry,
                IntGaugeVec::new(Opts::new(named(name), help), &[label])?,
            )
        };
        let owned = gauges("owned", "Leases held, by what they are of.", "kind")?;
        for kind in ["partition", "list"] {
            owned.with_label_values(&[kind]);
        }
        let buckets = vec![
            0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
        ];
        let batch_seconds = HistogramOpts::new(
            named("batch_seconds"),
            "From a batch in hand to its acknowledgement.",
        );
        Ok(Self {
            batches: counter("batches_total", "Batches handled whole.")?,
            messages: counter("messages_total", "Messages recorded, repeats included.")?,
            frames: counter(
                "frames_total",
                "Messages put into channels, one for each gateway.",
            )?,
            probes: counters(
                "probes_total",
                "Probes, by what became of them.",
                "what",
                &["sent", "failed", "passed_on"],
            )?,
            repeats: counter("repeats_total", "Messages that had been recorded before.")?,
            gaps: counters(
                "gaps_total",
                "Gap markers passed on: messages were accepted and lost by Redis.",
                "scope",
                &["room", "partition"],
            )?,
            channel_appends: counters(
                "channel_appends_total",
                "Appends to channels, by outcome.",
                "outcome",
                &["kept", "overrun", "dead", "failed"],
            )?,
            dead_routes: counter("dead_routes_total", "Routes of dead gateways removed.")?,
            takeovers: counter("takeovers_total", "Partitions taken over.")?,
            fenced: counter("fenced_total", "Times an owner found that it was none any more.")?,
            rereads: counter("rereads_total", "Times a partition was read again from its head.")?,
            watchdog: counter("watchdog_total", "Reads given up because they never ended.")?,
            broker_errors: counters(
                "broker_errors_total",
                "Failed calls to the broker, by kind.",
                "kind",
                &BrokerError::KINDS,
            )?,
            unknown_outcomes: counter("unknown_outcomes_total", "Calls whose answer was lost.")?,
            dead_letters: counters(
                "dead_letters_total",
                "Messages buried, by kind of reason.",
                "reason",
                &Burial::ALL.map(Burial::as_str),
            )?,
            dead_letters_dropped: counter(
                "dead_letters_dropped_total",
                "Dead letters dropped because their partition had too many.",
            )?,
            owned,
            stuck: gauges(
                "partition_without_progress",
                "1 for each partition that this process owns without progress, or gave up for that half a minute ago or less.",
                "partition",
            )?,
            stuck_partitions: register(
                registry,
                IntGauge::new(
                    named("partitions_without_progress"),
                    "How many partitions that is.",
                )?,
            )?,
            refused_partitions: register(
                registry,
                IntGauge::new(
                    named("partitions_refused"),
                    "Partitions owned whose calls Redis refuses for a reason that is not the message's: their messages wait.",
                )?,
            )?,
            parked_channels: register(
                registry,
                IntGauge::new(
                    named("channels_parked"),
                    "Channels that do not answer, counted for each partition owned that goes on without them.",
                )?,
            )?,
            session_messages_lost: counter(
                "session_messages_lost_total",
                "Messages to sessions' own rooms that were lost because their gateway's channel was parked.",
            )?,
            queue_entries: register(
                registry,
                IntGauge::new(
                    named("queue_entries"),
                    "Entries that wait in the queues of the partitions owned.",
                )?,
            )?,
            queue_age: register(
                registry,
                Gauge::new(
                    named("queue_age_seconds"),
                    "How long the oldest entry of the partitions owned has waited; 0 when none waits.",
                )?,
            )?,
            given_up: counter(
                "partitions_given_up_total",
                "Partitions given up for want of progress.",
            )?,
            failovers: counter("failovers_total", "Partitions whose server changed its life.")?,
            reincarnations: counter(
                "reincarnations_total",
                "Times this process had been declared dead.",
            )?,
            crashes: counter(
                "owner_crashes_total",
                "Owners of partitions or lists that crashed.",
            )?,
            list_items: counters(
                "list_items_total",
                "Items of lists, by outcome.",
                "outcome",
                &["appended", "repeated", "buried"],
            )?,
            lists_wrong: gauges(
                "list_not_a_list",
                "1 for each key that is set as a list and holds something else.",
                "list",
            )?,
            batch_seconds: register(registry, Histogram::with_opts(batch_seconds.buckets(buckets))?)?,
            living: register(
                registry,
                IntGauge::new(named("living"), "Dispatchers alive, this one included.")?,
            )?,
        })
    }

    /// Counts a failed call.
    pub(crate) fn failed(&self, error: &BrokerError) {
        self.broker_errors.with_label_values(&[error.kind()]).inc();
        if error.outcome_is_unknown() {
            self.unknown_outcomes.inc();
        }
    }

    pub(crate) fn channel_append(&self, outcome: Result<ChannelAppend, ()>) {
        let word = match outcome {
            Ok(ChannelAppend::Kept) => "kept",
            Ok(ChannelAppend::Overrun) => "overrun",
            Ok(ChannelAppend::Dead) => "dead",
            Err(()) => "failed",
        };
        self.channel_appends.with_label_values(&[word]).inc();
    }

    pub(crate) fn buried(&self, why: Burial) {
        self.dead_letters.with_label_values(&[why.as_str()]).inc();
    }

    pub(crate) fn list_items(&self, outcome: &str, count: usize) {
        self.list_items.with_label_values(&[outcome]).inc_by(count as u64);
    }

    pub(crate) fn batch(&self, took: Duration) {
        self.batches.inc();
        self.batch_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn own(&self, kind: &str) -> Counted {
        Counted::in_gauge(&self.owned.with_label_values(&[kind]))
    }

    /// A channel is parked.
    pub(crate) fn parked(&self) -> Counted {
        Counted::in_gauge(&self.parked_channels)
    }

    /// A partition waits until somebody changes what the broker refuses.
    pub(crate) fn refused(&self) -> Counted {
        Counted::in_gauge(&self.refused_partitions)
    }

    /// What waits in the partitions owned.
    pub(crate) fn backlogs(&self, backlogs: &[Backlog]) {
        let entries: u64 = backlogs.iter().map(|backlog| backlog.entries).sum();
        let oldest = backlogs.iter().map(|backlog| backlog.age).max();
        self.queue_entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.queue_age.set(oldest.unwrap_or_default().as_secs_f64());
    }

    /// How many partitions stand still.
    pub(crate) fn stuck_count(&self, count: usize) {
        self.stuck_partitions
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A partition that stands still is there by name; one that moves is not.
    pub(crate) fn stuck(&self, partition: Partition, stuck: bool) {
        let name = partition.to_string();
        if stuck {
            self.stuck.with_label_values(&[name.as_str()]).set(1);
        } else {
            // Not there is what it should be.
            self.stuck.remove_label_values(&[name.as_str()]).ok();
        }
    }
}

fn named(name: &str) -> String {
    format!("carillon_dispatcher_{name}")
}

fn register<T: Collector + Clone + 'static>(
    registry: &Registry,
    collector: T,
) -> Result<T, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
