//! What the transport counts, all of fixed cardinality.

use carillon_chassis::metrics::{GaugeGuard, LATENCY_BUCKETS};
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry, core::Collector,
};

use super::{handshake::HandshakeCode, login::LoginLook};
use crate::{hub::RefusalCode, latency::seconds_since};

/// What clients can ask for, as a label.
const REQUESTS: [&str; 7] = [
    "event", "join", "leave", "history", "presence", "refresh", "publish",
];

/// The counters and gauges of the transport. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TransportMetrics {
    pub(super) connections: IntGaugeVec,
    pub(super) handshakes_refused: IntCounterVec,
    pub(super) requests: IntCounterVec,
    pub(super) requests_refused: IntCounterVec,
    pub(super) written_bytes: IntCounter,
    forwarded: IntCounterVec,
    login_looks: IntCounterVec,
    delivery_seconds: Histogram,
}

/// What became of a request that one gateway handed on to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ForwardOutcome {
    /// Handed on and answered.
    Answered,
    /// Handed on to a gateway that didn't answer.
    Unreachable,
    /// For a gateway or a session that isn't there any more.
    Gone,
    /// Not handed on: too many are already.
    Full,
    /// Taken from another gateway.
    Taken,
    /// Refused: whoever handed it on is no gateway of this installation.
    Unauthenticated,
}

impl ForwardOutcome {
    const ALL: [Self; 6] = [
        Self::Answered,
        Self::Unreachable,
        Self::Gone,
        Self::Full,
        Self::Taken,
        Self::Unauthenticated,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Unreachable => "unreachable",
            Self::Gone => "gone",
            Self::Full => "full",
            Self::Taken => "taken",
            Self::Unauthenticated => "unauthenticated",
        }
    }
}

impl TransportMetrics {
    /// Registers everything; fails if a name is taken.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let named = |name: &str, help: &str| Opts::new(format!("carillon_gateway_{name}"), help);
        let connections = IntGaugeVec::new(
            named(
                "connections",
                "Open TCP connections, by what they carry: HTTP requests or one WebSocket.",
            ),
            &["transport"],
        )?;
        for transport in ["http", "websocket"] {
            connections.with_label_values(&[transport]);
        }
        let handshakes_refused = IntCounterVec::new(
            named(
                "handshakes_refused_total",
                "Clients that were not let in, by code.",
            ),
            &["code"],
        )?;
        for code in HandshakeCode::all() {
            handshakes_refused.with_label_values(&[code.as_str()]);
        }
        let requests = IntCounterVec::new(
            named(
                "client_requests_total",
                "Events of clients, by what they ask for.",
            ),
            &["request"],
        )?;
        let requests_refused = IntCounterVec::new(
            named(
                "client_requests_refused_total",
                "Events of clients that were refused, by code.",
            ),
            &["code"],
        )?;
        let written_bytes = IntCounter::with_opts(named("written_bytes_total", "Bytes written to clients."))?;
        let forwarded = IntCounterVec::new(
            named(
                "forwarded_requests_total",
                "Requests handed on between gateways, by outcome.",
            ),
            &["outcome"],
        )?;
        for outcome in ForwardOutcome::ALL {
            forwarded.with_label_values(&[outcome.as_str()]);
        }
        let login_looks = IntCounterVec::new(
            named(
                "login_looks_total",
                "Looks at the logins of sessions that are known by a cookie, by outcome.",
            ),
            &["outcome"],
        )?;
        for look in LoginLook::ALL {
            login_looks.with_label_values(&[look.as_str()]);
        }
        for request in REQUESTS {
            requests.with_label_values(&[request]);
        }
        for code in RefusalCode::ALL {
            requests_refused.with_label_values(&[code.as_str()]);
        }
        let delivery_seconds = HistogramOpts::from(named(
            "delivery_seconds",
            "From a message's acceptance to its hand-over to a session's connection, by the clocks of two machines. \
             What a session gets later because it was not there or did not read is not in it.",
        ));
        let delivery_seconds = Histogram::with_opts(delivery_seconds.buckets(LATENCY_BUCKETS.to_vec()))?;
        let all: [Box<dyn Collector>; 8] = [
            Box::new(delivery_seconds.clone()),
            Box::new(forwarded.clone()),
            Box::new(login_looks.clone()),
            Box::new(connections.clone()),
            Box::new(handshakes_refused.clone()),
            Box::new(requests.clone()),
            Box::new(requests_refused.clone()),
            Box::new(written_bytes.clone()),
        ];
        for collector in all {
            registry.register(collector)?;
        }
        Ok(Self {
            connections,
            handshakes_refused,
            requests,
            requests_refused,
            written_bytes,
            forwarded,
            login_looks,
            delivery_seconds,
        })
    }

    pub(super) fn forwarded(&self, outcome: ForwardOutcome) {
        self.forwarded.with_label_values(&[outcome.as_str()]).inc();
    }

    pub(super) fn looked_at_login(&self, look: LoginLook) {
        self.login_looks.with_label_values(&[look.as_str()]).inc();
    }

    /// A message that was accepted then (milliseconds since 1970) was handed to a session's connection.
    pub(super) fn delivered(&self, accepted_at: u64) {
        self.delivery_seconds.observe(seconds_since(accepted_at));
    }

    /// A TCP connection, as long as it carries HTTP requests.
    pub(super) fn http(&self) -> GaugeGuard {
        GaugeGuard::new(&self.connections.with_label_values(&["http"]))
    }

    /// A TCP connection that has become a WebSocket.
    pub(super) fn websocket(&self) -> GaugeGuard {
        GaugeGuard::new(&self.connections.with_label_values(&["websocket"]))
    }

    pub(super) fn refused(&self, code: HandshakeCode) {
        self.handshakes_refused.with_label_values(&[code.as_str()]).inc();
    }

    pub(super) fn request(&self, request: &str) {
        self.requests.with_label_values(&[request]).inc();
    }

    /// `code` is one of the words of [`RefusalCode`](crate::hub::RefusalCode) or
    /// [`IdentityCode`](crate::identity::IdentityCode).
    pub(super) fn request_refused(&self, code: &'static str) {
        self.requests_refused.with_label_values(&[code]).inc();
    }
}
