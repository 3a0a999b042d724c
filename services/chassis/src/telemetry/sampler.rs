//! Which spans are recorded.
//!
//! A caller's decision stands: a trace that is recorded above us is recorded here, and one that is not, is not. A trace
//! that starts here is recorded if chance says so, by the share that was set. Two kinds of spans start a trace and know
//! better than chance:
//! - one that links recorded spans, because many messages become one piece of work there: it is worth what they are;
//! - one whose maker has drawn by that share already, with [`TracedShare`](super::TracedShare), so that what is not
//!   recorded needs no span at all.

use opentelemetry::{
    Context, KeyValue, Value,
    trace::{Link, SpanKind, TraceContextExt, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SamplingResult, ShouldSample};

use super::trace_context::CHOSEN;

/// Follows callers, links, makers and then chance.
#[derive(Clone, Debug)]
pub(super) struct Decisions {
    pub(super) by_chance: Sampler,
}

impl ShouldSample for Decisions {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let result = |sampled: bool, trace_state: TraceState| SamplingResult {
            decision: if sampled {
                SamplingDecision::RecordAndSample
            } else {
                SamplingDecision::Drop
            },
            attributes: Vec::new(),
            trace_state,
        };
        if let Some(parent) = parent.map(|parent| parent.span().span_context().clone())
            && parent.is_valid()
        {
            return result(parent.is_sampled(), parent.trace_state().clone());
        }
        let chosen = |attribute: &KeyValue| {
            attribute.key.as_str() == CHOSEN && matches!(attribute.value, Value::Bool(true))
        };
        if links.iter().any(|link| link.span_context.is_sampled()) || attributes.iter().any(chosen) {
            return result(true, TraceState::default());
        }
        self.by_chance
            .should_sample(parent, trace, name, kind, attributes, links)
    }
}
