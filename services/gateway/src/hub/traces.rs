//! How the trace of a recorded message goes on in a gateway.
//!
//! From the channel to the outboxes it has one span, `deliver`, which ends when the last shard has walked the room; it
//! counts the sessions, because a span for each of ten thousand would be no trace but a load. The first few writes get
//! a span of their own, from the outbox to the socket. A message whose trace is not recorded has none of this: its
//! delivery is the same shared one, with nothing in it.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use carillon_broker::Incarnation;
use carillon_chassis::telemetry::trace_context::{self, HOP};
use carillon_model::{Offset, trace::is_sampled};
use tracing::{Span, field::Empty, info_span};

use super::delivery::Delivery;

/// Writes of one message at one gateway that get a span.
const WRITES: u32 = 16;

/// What a delivery knows of its trace, where that is recorded.
#[derive(Debug)]
pub struct DeliveryTrace {
    /// The context of its span `deliver`.
    traceparent: Box<str>,
    /// Writes that may still get a span.
    writes: AtomicU32,
}

impl DeliveryTrace {
    /// A span for the write to a session; [`Span::none`] once there have been enough.
    fn write_to(&self, session: &str) -> Span {
        let another = |left: u32| left.checked_sub(1);
        if self
            .writes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, another)
            .is_err()
        {
            return Span::none();
        }
        let span = info_span!(target: HOP, parent: None, "write", otel.kind = "producer", session);
        trace_context::set_parent(&span, trace_context::from_traceparent(&self.traceparent));
        span
    }
}

impl Delivery {
    /// A span that should last until the message has left for this session's socket. [`Span::none`] if the message's
    /// trace is not recorded, or others stand for it.
    pub fn write_span(&self, session: &str) -> Span {
        match &self.trace {
            None => Span::none(),
            Some(trace) => trace.write_to(session),
        }
    }
}

/// A delivery on its way from the channel through the shards.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) delivery: Arc<Delivery>,
    /// Ends when nobody walks with it any more.
    pub(super) span: Option<Arc<DeliverSpan>>,
}

/// The span `deliver`.
#[derive(Debug)]
pub(super) struct DeliverSpan {
    span: Span,
    sessions: AtomicU64,
}

impl DeliverSpan {
    /// Begins the span of a message that came under this context; `None` if its trace is not recorded, or this process
    /// exports none.
    pub(super) fn begin(
        traceparent: &str,
        room: &carillon_model::Room,
        offset: Offset,
        gateway: impl FnOnce() -> Incarnation,
    ) -> Option<Self> {
        if !is_sampled(traceparent) {
            return None;
        }
        let span = info_span!(
            target: HOP, parent: None, "deliver",
            otel.kind = "consumer", gateway = Empty, room = %room, offset = %offset,
            shards = Empty, sessions = Empty,
        );
        if span.is_disabled() {
            return None;
        }
        span.record("gateway", gateway().as_str());
        trace_context::set_parent(&span, trace_context::from_traceparent(traceparent));
        let sessions = AtomicU64::new(0);
        Some(Self { span, sessions })
    }

    /// What goes into the delivery.
    pub(super) fn carried(&self) -> DeliveryTrace {
        DeliveryTrace {
            traceparent: trace_context::traceparent_of(&self.span).into(),
            writes: AtomicU32::new(WRITES),
        }
    }

    /// It goes through so many shards.
    pub(super) fn through(&self, shards: u32) {
        self.span.record("shards", trace_context::number(shards));
    }

    /// One more session has it in its outbox.
    pub(super) fn queued(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for DeliverSpan {
    fn drop(&mut self) {
        self.span.record(
            "sessions",
            trace_context::number(self.sessions.load(Ordering::Relaxed)),
        );
    }
}
