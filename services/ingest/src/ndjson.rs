//! `POST /v1/messages` with `Content-Type: application/x-ndjson`: a stream of messages, one per line, and one line of
//! answer for each, while the body is still being read.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use carillon_chassis::telemetry::trace_context;
use futures::stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use tracing::{Instrument, Span, field::Empty, info_span};

use crate::{
    Ingest, body,
    http::{essence, traceparent, uncompressed},
    lines::Lines,
    metrics::Door,
    problem::{Kind, Problem},
    producer::Caller,
    stream::{Answer, Stream, Turn},
};

const NDJSON: &str = "application/x-ndjson";

/// Whether a request is a stream of lines.
pub(crate) fn is_asked_for(headers: &HeaderMap) -> bool {
    essence(headers).as_deref() == Some(NDJSON)
}

/// Opens a stream. Who may not is told so with a status of its own; from then on the status is 200, and the lines have
/// theirs.
pub(crate) async fn publish(ingest: Ingest, request: Request) -> Response {
    let span = info_span!("publish_stream", otel.kind = "server", producer = Empty);
    trace_context::set_parent(&span, trace_context::from_headers(request.headers()));
    let policy = Arc::clone(&ingest.shared.policy.borrow());
    let (head, body) = request.into_parts();
    let headers = head.headers;
    let opened = Caller::of(&headers, &policy).and_then(|caller| {
        uncompressed(&headers)?;
        no_key(&headers)?;
        Ok(caller)
    });
    let caller = match opened {
        Ok(caller) => caller,
        Err(problem) => {
            body::discard(body, &headers, ingest.shared.settings.body_bytes).await;
            ingest.shared.metrics.told(Door::Ndjson, Some(&problem));
            return problem.into_response();
        }
    };
    span.record("producer", caller.name());
    let mut lines = Lines::new(&ingest, body);
    if headers.contains_key(header::EXPECT)
        && let Err(problem) = lines.begin().await
    {
        ingest.shared.metrics.told(Door::Ndjson, Some(&problem));
        return problem.into_response();
    }
    let mut told = HeaderMap::new();
    if let Some(producer) = caller.producer() {
        ingest.shared.quotas.tell(producer, &mut told);
    }
    let traceparent = traceparent(&headers, &span);
    let stream = Stream::new(&ingest, lines, headers, policy, caller, traceparent);
    let mut response = Response::new(Body::from_stream(answers(stream, span)));
    *response.status_mut() = StatusCode::OK;
    told.insert(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    *response.headers_mut() = told;
    response
}

/// A key in the header would be one for all lines.
fn no_key(headers: &HeaderMap) -> Result<(), Problem> {
    if !headers.contains_key("idempotency-key") {
        return Ok(());
    }
    let detail = "the header `Idempotency-Key` is for a single message; in a stream each line has its own \
                  `idempotency_key`";
    Err(Problem::new(Kind::Invalid, detail).with("field", "Idempotency-Key"))
}

/// Where a stream of answers is.
enum State {
    Open(Stream<Lines>),
    /// The last line is said; the body may have more.
    Closing(Stream<Lines>),
}

type Chunk = Result<Bytes, std::convert::Infallible>;

/// Answers as lines, a chunk for each window. Nothing is done before the next chunk is asked for.
fn answers(stream: Stream<Lines>, span: Span) -> impl futures::Stream<Item = Chunk> + Send + 'static {
    stream::unfold(State::Open(stream), move |state| {
        next(state).instrument(span.clone())
    })
}

async fn next(state: State) -> Option<(Chunk, State)> {
    let mut stream = match state {
        State::Open(stream) => stream,
        State::Closing(mut stream) => {
            stream.arrivals.discard().await;
            return None;
        }
    };
    match stream.turn().await {
        Turn::Answers(answers) => {
            let mut lines = String::new();
            for answer in answers {
                push(&mut lines, line(answer));
            }
            Some((Ok(lines.into()), State::Open(stream)))
        }
        Turn::End(None) => None,
        Turn::End(Some(problem)) => {
            let mut last = String::new();
            push(&mut last, problem.to_json());
            Some((Ok(last.into()), State::Closing(stream)))
        }
    }
}

fn push(lines: &mut String, line: Map<String, Value>) {
    lines.push_str(&Value::Object(line).to_string());
    lines.push('\n');
}

/// An answer: its line, its status, and the rest as a request of its own would have it.
pub(crate) fn line(answer: Answer) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("line".to_owned(), json!(answer.place));
    match answer.result {
        Ok(accepted) => {
            line.insert("status".to_owned(), json!(StatusCode::ACCEPTED.as_u16()));
            if let Value::Object(accepted) = accepted.to_json() {
                line.extend(accepted);
            }
        }
        Err(problem) => {
            let mut members = problem.to_json();
            // Mistakes have the same line, or none.
            members.remove("line");
            line.extend(members);
        }
    }
    line
}
