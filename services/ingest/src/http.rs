//! The HTTP side: routes, headers, one span and one answer per request.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use carillon_chassis::{metrics::GaugeGuard, telemetry::trace_context};
use carillon_model::publish::{Publish, PublishRequest, check_key};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;
use tokio::time::Instant;
use tracing::{Instrument, Span, field::Empty, info_span};

use crate::{
    Ingest, IngestSettings,
    accept::described,
    answer::Accepted,
    body::{self, Held},
    cloud_events,
    metrics::{Door, Outcome},
    ndjson,
    openapi::{Doors, messages},
    presence,
    problem::{Kind, Problem},
    producer::Caller,
};

/// The routes of ingest. There is no CORS: a browser of another origin has no business with producer keys.
pub fn router(ingest: Ingest) -> Router {
    doors(&ingest.shared.settings)
        .open()
        .fallback(no_such_path)
        .with_state(ingest)
}

pub(crate) fn doors(settings: &IngestSettings) -> Doors<'_> {
    let doors = Doors::new(settings).post("/v1/messages", messages::operation(settings), publish);
    presence::doors(cloud_events::doors(doors))
}

async fn publish(State(ingest): State<Ingest>, request: Request) -> Response {
    if ndjson::is_asked_for(request.headers()) {
        return ndjson::publish(ingest, request).await;
    }
    served(&ingest, request, publish_request).await
}

/// Serves a request that brings messages, whatever its form: one span, and one answer that every metric knows of.
pub(crate) async fn served<W>(ingest: &Ingest, request: Request, work: W) -> Response
where
    W: AsyncFnOnce(&Ingest, Result<Caller, Problem>, Request, &Span) -> Result<Value, Problem>,
{
    let started = Instant::now();
    let metrics = &ingest.shared.metrics;
    let _open = GaugeGuard::new(&metrics.requests_open);
    let span = info_span!("publish", otel.kind = "server", producer = Empty, status = Empty);
    trace_context::set_parent(&span, trace_context::from_headers(request.headers()));
    let policy = Arc::clone(&ingest.shared.policy.borrow());
    let caller = Caller::of(request.headers(), &policy);
    let producer = caller.as_ref().ok().and_then(Caller::producer).cloned();
    let result = work(ingest, caller, request, &span)
        .instrument(span.clone())
        .await;
    metrics.request_seconds.observe(started.elapsed().as_secs_f64());
    metrics.told(Door::Http, result.as_ref().err());
    let mut response = match result {
        Ok(answer) => accepted(&answer),
        Err(problem) => problem.into_response(),
    };
    if let Some(producer) = producer {
        ingest.shared.quotas.tell(&producer, response.headers_mut());
    }
    span.record("status", i64::from(response.status().as_u16()));
    response
}

async fn publish_request(
    ingest: &Ingest,
    caller: Result<Caller, Problem>,
    request: Request,
    span: &Span,
) -> Result<Value, Problem> {
    let settings = &ingest.shared.settings;
    let (head, body) = request.into_parts();
    let headers = &head.headers;
    let gates = caller.and_then(|caller| {
        uncompressed(headers)?;
        content_type(headers)?;
        Ok((caller, idempotency_key(headers)?))
    });
    let (caller, key) = match gates {
        Ok(passed) => passed,
        Err(problem) => {
            body::discard(body, headers, settings.body_bytes).await;
            return Err(problem);
        }
    };
    span.record("producer", caller.name());
    let mut held = ingest.shared.memory.hold();
    let bytes = body::read(body, headers, settings, &mut held).await?;
    let traceparent = traceparent(headers, span);
    let (publishes, batch) = asked(ingest, &bytes, key)?;
    let size = bytes.len();
    ingest
        .accept_body(&caller, publishes, batch, size, &traceparent, &mut held)
        .await
}

impl Ingest {
    /// Accepts messages that were read from a body of so many bytes, and answers in JSON.
    pub(crate) async fn accept_body(
        &self,
        caller: &Caller,
        publishes: Vec<Publish>,
        batch: bool,
        bytes: usize,
        traceparent: &str,
        held: &mut Held,
    ) -> Result<Value, Problem> {
        let mut accepted = self.accept(caller, publishes, batch, traceparent, held).await?;
        self.shared.metrics.bytes.inc_by(bytes as u64);
        if batch {
            return Ok(accepted.iter().map(Accepted::to_json).collect());
        }
        Ok(accepted.pop().map_or(Value::Null, |accepted| accepted.to_json()))
    }
}

/// What a body asks for, and whether it is a batch.
fn asked(ingest: &Ingest, body: &Bytes, header_key: Option<String>) -> Result<(Vec<Publish>, bool), Problem> {
    let request = PublishRequest::parse(body, &ingest.shared.settings.limits);
    match request.map_err(|errors| described(&errors))? {
        PublishRequest::One(publish) => Ok((vec![with_header_key(publish, header_key)?], false)),
        PublishRequest::Batch(_) if header_key.is_some() => {
            let detail = "the header `Idempotency-Key` is for a single message; in a batch each message has its own \
                          `idempotency_key`";
            Err(Problem::new(Kind::Invalid, detail).with("field", "Idempotency-Key"))
        }
        PublishRequest::Batch(publishes) => Ok((publishes, true)),
    }
}

fn with_header_key(mut publish: Publish, header_key: Option<String>) -> Result<Publish, Problem> {
    match (&publish.idempotency_key, header_key) {
        (Some(field), Some(header)) if *field != header => {
            let detail =
                "the header `Idempotency-Key` and the field `idempotency_key` differ; send one of them";
            Err(Problem::new(Kind::Invalid, detail).with("field", "idempotency_key"))
        }
        (None, Some(header)) => {
            publish.idempotency_key = Some(header);
            Ok(publish)
        }
        _ => Ok(publish),
    }
}

fn accepted(answer: &Value) -> Response {
    let mut response = Response::new(Body::from(answer.to_string()));
    *response.status_mut() = StatusCode::ACCEPTED;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn no_such_path(request: Request) -> Response {
    let path: String = request.uri().path().chars().take(100).collect();
    let detail = format!("there is nothing at `{path}`; messages go to `POST /v1/messages`");
    Problem::new(Kind::NotFound, detail).into_response()
}

/// Refuses what is compressed: its size would be unknown until it is too late.
pub(crate) fn uncompressed(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding.as_bytes() != b"identity" => {
            let detail = "compressed bodies are not supported; send the JSON as it is";
            Err(Problem::new(Kind::MediaType, detail))
        }
        _ => Ok(()),
    }
}

/// The type of a body, without parameters and in small letters.
pub(crate) fn essence(headers: &HeaderMap) -> Option<String> {
    let value = String::from_utf8_lossy(headers.get(header::CONTENT_TYPE)?.as_bytes());
    let essence = value.split(';').next().unwrap_or_default();
    Some(essence.trim().to_ascii_lowercase())
}

fn content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let problem = |detail: String| Err(Problem::new(Kind::MediaType, detail));
    let Some(essence) = essence(headers) else {
        return problem("say what the body is: `Content-Type: application/json`".to_owned());
    };
    match essence.as_str() {
        "application/json" => Ok(()),
        "application/x-www-form-urlencoded" => problem(
            "a form was sent, which is what `curl -d` says by default; add `-H 'Content-Type: application/json'`"
                .to_owned(),
        ),
        other => {
            let other: String = other.chars().take(60).collect();
            problem(format!(
                "`{other}` is not understood here; send `Content-Type: application/json`, or \
                 `application/x-ndjson` for a stream of messages"
            ))
        }
    }
}

pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let problem = |detail: String| Err(Problem::new(Kind::Invalid, detail).with("field", "Idempotency-Key"));
    let mut values = headers.get_all("idempotency-key").iter();
    let (Some(value), more) = (values.next(), values.next()) else {
        return Ok(None);
    };
    if more.is_some() {
        return problem("the header `Idempotency-Key` is there twice".to_owned());
    }
    match std::str::from_utf8(value.as_bytes()) {
        Ok(key) => match check_key(key) {
            Ok(()) => Ok(Some(key.to_owned())),
            Err(error) => problem(format!("the header `Idempotency-Key` is wrong: {error}")),
        },
        Err(_) => problem("the header `Idempotency-Key` is not UTF-8".to_owned()),
    }
}

/// The trace that the message travels in: this request's own span, or, where traces are not set up, what the producer
/// sent.
pub(crate) fn traceparent(headers: &HeaderMap, span: &Span) -> String {
    let own = trace_context::traceparent_of(span);
    if !own.is_empty() {
        return own;
    }
    headers
        .get("traceparent")
        .and_then(|value| value.to_str().ok())
        .filter(|value| is_traceparent(value))
        .map(str::to_owned)
        .unwrap_or_default()
}

/// Whether a text is a `traceparent` of version 00 (<https://www.w3.org/TR/trace-context/#traceparent-header>). Any
/// other one is ignored, as the specification asks.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, parent, flags] = parts.as_slice() else {
        return false;
    };
    let hex = |part: &str, length: usize| {
        part.len() == length
            && part
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let not_zero = |part: &str| part.bytes().any(|byte| byte != b'0');
    *version == "00"
        && hex(trace, 32)
        && not_zero(trace)
        && hex(parent, 16)
        && not_zero(parent)
        && hex(flags, 2)
}

impl Problem {
    /// What became of the request, as metrics count it.
    pub(crate) fn outcome(&self) -> Outcome {
        match (self.member("outcome"), self.kind) {
            (Some("partial"), _) => Outcome::Partial,
            (Some("unknown"), _) | (_, Kind::Unknown) => Outcome::Unknown,
            (_, Kind::Quota | Kind::QueueFull | Kind::Memory | Kind::Busy | Kind::Unavailable) => {
                Outcome::Refused
            }
            _ => Outcome::Rejected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_traceparent;

    #[test]
    fn only_whole_trace_contexts_travel() {
        assert!(is_traceparent(
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        ));
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert!(!is_traceparent(wrong), "{wrong}");
        }
    }
}
