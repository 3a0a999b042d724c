//! `POST /v1/cloudevents`: what the policy's template makes messages of, accepted as any other message is.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};
use carillon_model::{
    policy::EventRoute,
    publish::{
        PublishRequest,
        cloud_events::{ContentMode, EventRequest},
    },
};
use http::{HeaderMap, header};
use serde_json::Value;
use tracing::Span;

use crate::{
    Ingest,
    accept::described,
    body, http as door,
    openapi::{self, Doors},
    problem::{Kind, Problem},
    producer::Caller,
};

pub(crate) fn doors(doors: Doors<'_>) -> Doors<'_> {
    let operation = openapi::cloud_events::operation(doors.settings());
    doors.post("/v1/cloudevents", operation, publish)
}

async fn publish(State(ingest): State<Ingest>, request: Request) -> Response {
    door::served(&ingest, request, publish_events).await
}

/// What a request has passed before its body is read.
struct Passed {
    caller: Caller,
    route: EventRoute,
    content_type: Option<String>,
    mode: ContentMode,
}

async fn publish_events(
    ingest: &Ingest,
    caller: Result<Caller, Problem>,
    request: Request,
    span: &Span,
) -> Result<Value, Problem> {
    let settings = &ingest.shared.settings;
    let (head, body) = request.into_parts();
    let headers = &head.headers;
    let passed = match caller.and_then(|caller| gates(ingest, caller, headers)) {
        Ok(passed) => passed,
        Err(problem) => {
            body::discard(body, headers, settings.body_bytes).await;
            return Err(problem);
        }
    };
    span.record("producer", passed.caller.name());
    let mut held = ingest.shared.memory.hold();
    let body = body::read(body, headers, settings, &mut held).await?;
    let event = EventRequest {
        mode: passed.mode,
        content_type: passed.content_type.as_deref(),
        headers: attributes(headers),
        body: &body,
    };
    let (publishes, batch) = match event.parse(&passed.route, &settings.limits) {
        Ok(PublishRequest::One(publish)) => (vec![publish], false),
        Ok(PublishRequest::Batch(publishes)) => (publishes, true),
        Err(errors) => return Err(described(&errors)),
    };
    let traceparent = door::traceparent(headers, span);
    ingest
        .accept_body(
            &passed.caller,
            publishes,
            batch,
            body.len(),
            &traceparent,
            &mut held,
        )
        .await
        .map_err(|problem| in_words_of_events(problem, passed.mode))
}

fn gates(ingest: &Ingest, caller: Caller, headers: &HeaderMap) -> Result<Passed, Problem> {
    let policy = Arc::clone(&ingest.shared.policy.borrow());
    let Some(route) = policy.cloud_events() else {
        let detail = "policy does not say where CloudEvents go; add to it where, for example \
                      `cloudevents: { to: { room: \"orders-{subject}\" } }`";
        return Err(Problem::new(Kind::Forbidden, detail));
    };
    door::uncompressed(headers)?;
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let Some(mode) = ContentMode::of(content_type.as_deref()) else {
        let detail = "events in this format are not understood here; send them as `application/cloudevents+json` or \
                      `application/cloudevents-batch+json`, or in binary mode";
        return Err(Problem::new(Kind::MediaType, detail));
    };
    if headers.contains_key("idempotency-key") {
        let detail =
            "an event's `source` and `id` are its idempotency key; leave the header `Idempotency-Key` out";
        return Err(Problem::new(Kind::Invalid, detail).with("field", "Idempotency-Key"));
    }
    Ok(Passed {
        caller,
        route: route.clone(),
        content_type,
        mode,
    })
}

/// The headers of an event in binary mode. Their names are in lower case already.
fn attributes(headers: &HeaderMap) -> Vec<(&str, &[u8])> {
    headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().strip_prefix("ce-")?, value.as_bytes())))
        .collect()
}

/// Names what the sender of an event knows: not an idempotency key, and not the target of a message.
fn in_words_of_events(problem: Problem, mode: ContentMode) -> Problem {
    let field = problem.member("field").unwrap_or_default();
    let event = field.rfind('.').map_or("", |end| &field[..=end]);
    let prefix = if mode == ContentMode::Binary { "ce-" } else { "" };
    match problem.kind {
        Kind::KeyReused => {
            let field = format!("{event}{prefix}id");
            problem.with("field", field).saying(
                "an event with this `source` and `id` came before with another target, type or data; a new event \
                 needs a new `id`",
            )
        }
        Kind::Forbidden => {
            let field = event.trim_end_matches('.').to_owned();
            problem.with("field", field)
        }
        _ => problem,
    }
}
