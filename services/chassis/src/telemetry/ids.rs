//! The trace that a log line belongs to.

use std::sync::{Arc, OnceLock};

use opentelemetry::trace::TraceContextExt;
use tracing::{Dispatch, Subscriber, dispatcher::WeakDispatch, span};
use tracing_subscriber::Layer;

/// Finds the ids of a span's trace. It needs the dispatcher that a formatter works under, which is known only after both
/// were made: while an event is being formatted, the current dispatcher is out of reach. So it is a layer too, and is
/// told.
#[derive(Clone, Debug, Default)]
pub(super) struct TraceIds(Arc<OnceLock<WeakDispatch>>);

impl<S: Subscriber> Layer<S> for TraceIds {
    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        let _ = self.0.set(dispatch.downgrade());
    }
}

impl TraceIds {
    /// Trace and span, as hexadecimal digits.
    pub(super) fn of(&self, span: &span::Id) -> Option<(String, String)> {
        let dispatch = self.0.get()?.upgrade()?;
        let context = tracing_opentelemetry::get_otel_context(span, &dispatch)?;
        let span = context.span();
        let ids = span.span_context();
        ids.is_valid()
            .then(|| (ids.trace_id().to_string(), ids.span_id().to_string()))
    }
}
