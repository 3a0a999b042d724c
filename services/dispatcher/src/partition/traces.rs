//! The spans of a batch: where many traces become one piece of work, and go apart again.
//!
//! The batch has a span of its own, in a trace of its own, linked with every recorded message in it. Each of these gets
//! a span in *its* trace, child of whatever sent it, and it is that one whose context goes on with the frames. A batch
//! without a recorded message, which is nearly every one, costs a look at an empty text per message.

use carillon_broker::RecordOutcome;
use carillon_chassis::telemetry::trace_context::{self, HOP, number};
use carillon_model::{Partition, trace::is_sampled};
use tracing::{Span, field::Empty, info_span};

use super::{
    Interruption,
    batch::{Batch, Entry},
};

/// The spans of one try of a batch. They end with it.
#[derive(Debug)]
pub(super) struct BatchTrace {
    /// The batch's own.
    pub(super) span: Span,
    /// In the order of their places.
    messages: Vec<MessageTrace>,
}

#[derive(Debug)]
struct MessageTrace {
    /// Among the batch's entries.
    place: usize,
    /// Among what the batch records.
    nth: usize,
    span: Span,
    traceparent: String,
}

impl BatchTrace {
    /// Begins the spans, if a message of the batch is recorded and this process exports.
    pub(super) fn begin(partition: Partition, batch: &Batch) -> Option<Self> {
        let is_recorded =
            |entry: &Entry| matches!(entry, Entry::Message { traceparent, .. } if is_sampled(traceparent));
        if !batch.entries.iter().any(|(_, entry)| is_recorded(entry)) {
            return None;
        }
        let span = info_span!(
            target: HOP, parent: None, "batch",
            otel.kind = "consumer", otel.status_description = Empty,
            partition = %partition, entries = number(batch.entries.len()), frames = Empty, gateways = Empty,
        );
        if span.is_disabled() {
            return None;
        }
        let mut recorded = Vec::new();
        let mut messages = 0;
        for (place, (offset, entry)) in batch.entries.iter().enumerate() {
            // Gaps are recorded as well, between the messages.
            messages += usize::from(entry.room().is_some());
            let Entry::Message {
                room, traceparent, ..
            } = entry
            else {
                continue;
            };
            if is_sampled(traceparent) {
                trace_context::add_link(&span, traceparent);
                recorded.push((place, messages - 1, offset, room, traceparent));
            }
        }
        // Only now: with its first use a span's decision is made, and it is made by its links.
        let of_batch = trace_context::traceparent_of(&span);
        let messages = recorded
            .into_iter()
            .map(|(place, nth, offset, room, traceparent)| {
                let span = info_span!(
                    target: HOP, parent: None, "dispatch",
                    otel.kind = "consumer", partition = %partition, room = %room, offset = %offset,
                    gateways = Empty, repeated = Empty,
                );
                trace_context::set_parent(&span, trace_context::from_traceparent(traceparent));
                trace_context::add_link(&span, &of_batch);
                MessageTrace {
                    place,
                    nth,
                    traceparent: trace_context::traceparent_of(&span),
                    span,
                }
            });
        Some(Self {
            messages: messages.collect(),
            span,
        })
    }

    /// The context that goes on with a message, by its place among the batch's entries; `None` if it is not recorded.
    pub(super) fn traceparent_of(&self, place: usize) -> Option<&str> {
        let found = self
            .messages
            .binary_search_by_key(&place, |message| message.place);
        found
            .ok()
            .and_then(|found| self.messages.get(found))
            .map(|message| message.traceparent.as_str())
    }

    /// The batch went on as so many frames to so many gateways.
    pub(super) fn passed_on(&self, batch: &Batch, outcome: &RecordOutcome, frames: usize, gateways: usize) {
        self.span.record("frames", number(frames));
        self.span.record("gateways", number(gateways));
        for message in &self.messages {
            let Some((_, Entry::Message { room, .. })) = batch.entries.get(message.place) else {
                continue;
            };
            let holders = outcome.routes.iter().find(|(routed, _)| routed == room);
            message.span.record(
                "gateways",
                number(holders.map_or(0, |(_, holders)| holders.len())),
            );
            let entry = outcome.entries.get(message.nth);
            message
                .span
                .record("repeated", entry.is_some_and(|entry| entry.repeated));
        }
    }

    /// The batch will be read again.
    pub(super) fn interrupted(&self, interruption: &Interruption) {
        self.span
            .record("otel.status_description", tracing::field::debug(interruption));
    }
}
