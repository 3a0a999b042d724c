//! W3C trace context, in and out: from HTTP headers, and as the `traceparent` text that travels in every message, so
//! that one trace goes from a producer's POST to a client's acknowledgement.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// The target of spans that a message gets on its way, one per hop. They exist only where traces are exported.
pub const HOP: &str = "carillon::hop";

/// The field of a span that starts a trace and was chosen to be recorded before it was made; see
/// [`TracedShare`](super::TracedShare).
pub const CHOSEN: &str = "chosen";

/// The trace context of a request; an empty one if it has none or a broken one.
pub fn from_headers(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers))
}

/// The trace context of a message; an empty one if the text is empty or broken.
pub fn from_traceparent(traceparent: &str) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Text(traceparent))
}

/// The trace context of a request of another kind, such as gRPC's metadata: `get` answers what it holds under a name in
/// lower case. An empty one if it has none or a broken one.
pub fn from_lookup<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Context {
    let carried = Lookup {
        parent: get(TRACEPARENT),
        state: get(TRACESTATE),
    };
    TraceContextPropagator::new().extract_with_context(&Context::new(), &carried)
}

/// The `traceparent` of the current span; empty outside of any trace.
pub fn current_traceparent() -> String {
    traceparent_of(&Span::current())
}

/// The `traceparent` of a span; empty if it is in no trace.
pub fn traceparent_of(span: &Span) -> String {
    if span.is_disabled() {
        return String::new();
    }
    let mut carrier = TextInjector(String::new());
    TraceContextPropagator::new().inject_context(&span.context(), &mut carrier);
    carrier.0
}

/// Puts the current span's context into the headers of a request that goes out.
pub fn into_headers(headers: &mut HeaderMap) {
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut HeadersInjector(headers));
}

/// Makes a span that was not entered yet a child of a context that came from outside. Does nothing if the context is
/// empty, or traces are not set up.
pub fn set_parent(span: &Span, parent: Context) {
    use opentelemetry::trace::TraceContextExt;
    if parent.span().span_context().is_valid() {
        // It can fail only if the span is disabled or already running; there is nothing to link then.
        let _ = span.set_parent(parent);
    }
}

/// A count as an attribute of a span. OpenTelemetry's numbers have a sign; of one without, the library would make text.
pub fn number(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

/// Links a span to another one, by its `traceparent`: both belong to one piece of work, and neither is the other's child.
/// Does nothing if the text is empty or broken.
pub fn add_link(span: &Span, traceparent: &str) {
    use opentelemetry::trace::TraceContextExt;
    span.add_link(from_traceparent(traceparent).span().span_context().clone());
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct HeadersInjector<'a>(&'a mut HeaderMap);

impl Injector for HeadersInjector<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

struct Text<'a>(&'a str);

impl Extractor for Text<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

struct Lookup<'a> {
    parent: Option<&'a str>,
    state: Option<&'a str>,
}

impl Extractor for Lookup<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            TRACEPARENT => self.parent,
            TRACESTATE => self.state,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}

struct TextInjector(String);

impl Injector for TextInjector {
    fn set(&mut self, key: &str, value: String) {
        if key == TRACEPARENT {
            self.0 = value;
        }
    }
}
