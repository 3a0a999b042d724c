//! What the hub counts, all of fixed cardinality.

use std::sync::{Arc, atomic::AtomicUsize};

use carillon_broker::BrokerError;
use carillon_chassis::metrics::{GaugeGuard, LATENCY_BUCKETS};
use carillon_model::time::wall_clock_milliseconds;
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector,
};

use super::{outbox::CloseReason, session::RefusalCode};
use crate::latency::seconds_since;

/// The counters and gauges of a gateway's hub. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HubMetrics {
    pub(super) sessions: IntGauge,
    pub(super) sessions_limit: IntGauge,
    sessions_opened: IntCounter,
    forwarded_websockets: IntGauge,
    pub(super) closes: IntCounterVec,
    pub(super) deliveries: IntCounter,
    pub(super) frames: IntCounter,
    arrival_seconds: Histogram,
    last_probe: Gauge,
    pub(super) frames_unheld: IntCounter,
    pub(super) unreadable: IntCounter,
    pub(super) repeats_dropped: IntCounter,
    pub(super) holes_found: IntCounter,
    pub(super) gaps_told: IntCounter,
    pub(super) resets: IntCounter,
    pub(super) recoveries: IntCounterVec,
    pub(super) recoveries_from_memory: IntCounter,
    pub(super) caught_up_after_join: IntCounter,
    pub(super) history_reads: IntCounter,
    pub(super) newest_reads: IntCounter,
    pub(super) history_requests: IntCounterVec,
    pub(super) routes_reasserted: IntCounter,
    pub(super) overruns: IntCounter,
    pub(super) channels_lost: IntCounter,
    pub(super) failovers: IntCounter,
    pub(super) reincarnations: IntCounter,
    pub(super) fell_behind: IntCounter,
    pub(super) over_budget: IntCounter,
    pub(super) outbox_bytes: IntGauge,
    pub(super) outbox_bytes_limit: IntGauge,
    pub(super) session_messages_dropped: IntCounter,
    pub(super) broker_errors: IntCounterVec,
    pub(super) publishes: IntCounterVec,
    pub(super) rebalance_excess: IntGauge,
    pub(super) rooms: IntGauge,
    pub(super) presence_rooms: IntGauge,
    pub(super) presence_watched_rooms: IntGauge,
    pub(super) presence_events: IntCounterVec,
    pub(super) tail_bytes_gauge: IntGauge,
    pub(super) tail_bytes: Arc<AtomicUsize>,
}

impl HubMetrics {
    /// Registers everything; fails if a name is taken.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| register(registry, IntCounter::new(named(name), help)?);
        let counters = |name: &str, help: &str, label: &str| {
            register(
                registry,
                IntCounterVec::new(Opts::new(named(name), help), &[label])?,
            )
        };
        let gauge = |name: &str, help: &str| register(registry, IntGauge::new(named(name), help)?);
        let closes = counters(
            "sessions_closed_total",
            "Sessions that ended, by reason.",
            "reason",
        )?;
        for reason in CloseReason::ALL {
            closes.with_label_values(&[reason.as_str()]);
        }
        let recoveries = counters(
            "recoveries_total",
            "Joins, by what became of their cursor.",
            "result",
        )?;
        for result in ["fresh", "complete", "incomplete"] {
            recoveries.with_label_values(&[result]);
        }
        let history_requests = counters(
            "history_requests_total",
            "Requests for a room's newest messages (`history`, and joins that rewind), by outcome.",
            "outcome",
        )?;
        for outcome in ["answered", "refused", "unavailable"] {
            history_requests.with_label_values(&[outcome]);
        }
        let presence_events = counters(
            "presence_events_total",
            "Events on who is in a room, by whether all was told or a change.",
            "kind",
        )?;
        for kind in ["all", "change"] {
            presence_events.with_label_values(&[kind]);
        }
        let broker_errors = counters(
            "broker_errors_total",
            "Failed calls to the broker, by kind.",
            "kind",
        )?;
        for kind in BrokerError::KINDS {
            broker_errors.with_label_values(&[kind]);
        }
        let publishes = counters("publishes_total", "Messages of clients, by outcome.", "outcome")?;
        for outcome in RefusalCode::ALL.map(RefusalCode::as_str).iter().chain(&["kept"]) {
            publishes.with_label_values(&[*outcome]);
        }
        let arrival_seconds = HistogramOpts::new(
            named("arrival_seconds"),
            "From a message's acceptance to its arrival through the channel, by the clocks of two machines.",
        );
        let arrival_seconds = Histogram::with_opts(arrival_seconds.buckets(LATENCY_BUCKETS.to_vec()))?;
        let last_probe = register(
            registry,
            Gauge::new(
                named("last_probe_timestamp_seconds"),
                "When a dispatcher's probe last came through the channel, since 1970; the start before the first.",
            )?,
        )?;
        let metrics = Self {
            sessions: gauge("sessions", "Sessions held.")?,
            sessions_limit: gauge("sessions_limit", "Sessions that may be held.")?,
            sessions_opened: counter("sessions_opened_total", "Sessions that began.")?,
            forwarded_websockets: gauge(
                "forwarded_websockets",
                "WebSockets of sessions at other gateways.",
            )?,
            closes,
            deliveries: counter("deliveries_total", "Messages queued for sessions.")?,
            frames: counter("frames_total", "Messages that came through the channel.")?,
            arrival_seconds: register(registry, arrival_seconds)?,
            last_probe,
            frames_unheld: counter(
                "frames_unheld_total",
                "Messages for rooms this gateway does not hold.",
            )?,
            unreadable: counter(
                "unreadable_entries_total",
                "Entries of channel or history that could not be read.",
            )?,
            repeats_dropped: counter("repeats_dropped_total", "Messages that had come before.")?,
            holes_found: counter(
                "holes_found_total",
                "Messages whose prev showed that something was missed.",
            )?,
            gaps_told: counter(
                "gaps_told_total",
                "Times a session was told that something is missing.",
            )?,
            resets: counter(
                "resets_total",
                "Positions taken back because Redis lost what they had seen.",
            )?,
            recoveries,
            recoveries_from_memory: counter("recoveries_from_memory_total", "Joins served without Redis.")?,
            caught_up_after_join: counter(
                "catch_ups_after_reassertion_total",
                "Sessions that a re-asserted route found behind.",
            )?,
            history_reads: counter("history_reads_total", "Pages of history read.")?,
            newest_reads: counter(
                "newest_reads_total",
                "Reads of a room's newest messages; equal requests share one.",
            )?,
            history_requests,
            routes_reasserted: counter("routes_reasserted_total", "Routes added again.")?,
            overruns: counter(
                "overruns_total",
                "Times the channel was emptied because it was full.",
            )?,
            channels_lost: counter(
                "channels_lost_total",
                "Times the channel was found behind its reader.",
            )?,
            failovers: counter("failovers_total", "Changes of a server's life.")?,
            reincarnations: counter(
                "reincarnations_total",
                "Times this gateway had been declared dead.",
            )?,
            fell_behind: counter("sessions_fell_behind_total", "Times a session's outbox was full.")?,
            over_budget: counter(
                "outboxes_over_budget_total",
                "Times a message found no room for a session because all outboxes together held too much.",
            )?,
            outbox_bytes: gauge("outbox_bytes", "Bytes that wait for all sessions together.")?,
            outbox_bytes_limit: gauge(
                "outbox_bytes_limit",
                "Bytes that may wait for all sessions together.",
            )?,
            session_messages_dropped: counter(
                "session_messages_dropped_total",
                "Messages to one session that its full outbox could not take.",
            )?,
            broker_errors,
            publishes,
            rebalance_excess: gauge(
                "rebalance_excess_sessions",
                "Sessions above this gateway's share by the last look at all; 0 without gateways.rebalance in the policy.",
            )?,
            rooms: gauge("rooms", "Rooms held, lingering ones included.")?,
            presence_rooms: gauge("presence_rooms", "Rooms whose presence this gateway states.")?,
            presence_watched_rooms: gauge(
                "presence_watched_rooms",
                "Rooms whose presence a session watches.",
            )?,
            presence_events,
            tail_bytes_gauge: gauge("tail_bytes", "Bytes of recent messages kept in memory.")?,
            tail_bytes: Arc::default(),
        };
        metrics.probe_arrived();
        Ok(metrics)
    }

    /// A probe has just come through the channel.
    #[allow(clippy::cast_precision_loss)] // milliseconds since 1970 are far below 2^53
    pub(super) fn probe_arrived(&self) {
        self.last_probe.set(wall_clock_milliseconds() as f64 / 1_000.0);
    }

    /// A message that was accepted then (milliseconds since 1970) has come through the channel.
    pub(super) fn arrived(&self, accepted_at: u64) {
        self.arrival_seconds.observe(seconds_since(accepted_at));
    }

    /// A session, as long as it lives.
    pub(super) fn session(&self) -> GaugeGuard {
        self.sessions_opened.inc();
        GaugeGuard::new(&self.sessions)
    }

    /// A WebSocket of another gateway's session, as long as it is carried.
    pub(super) fn carried(&self) -> GaugeGuard {
        GaugeGuard::new(&self.forwarded_websockets)
    }

    pub(super) fn presence_told(&self, summaries: u64, changes: u64) {
        self.presence_events.with_label_values(&["all"]).inc_by(summaries);
        self.presence_events
            .with_label_values(&["change"])
            .inc_by(changes);
    }

    /// How many sessions are held.
    pub fn session_count(&self) -> u64 {
        u64::try_from(self.sessions.get()).unwrap_or(0)
    }

    /// How many WebSockets of other gateways' sessions are carried.
    pub(super) fn carried_count(&self) -> u64 {
        u64::try_from(self.forwarded_websockets.get()).unwrap_or(0)
    }
}

fn named(name: &str) -> String {
    format!("carillon_gateway_{name}")
}

fn register<T: Collector + Clone + 'static>(
    registry: &Registry,
    collector: T,
) -> Result<T, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
