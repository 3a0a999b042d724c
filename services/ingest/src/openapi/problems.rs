//! The refusals of an operation, by status, from the kinds of problems that it has.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::openapi::{AllOfBuilder, ObjectBuilder, Response, ResponseBuilder, Type};

use super::parts::{content, reference, with_challenge, with_rate_headers, with_retry_after, word};
use crate::problem::{Kind, Problem};

/// What can become of a request that brings messages. The two kinds that are not here are answers of other paths and
/// methods.
pub(super) const OF_MESSAGES: &[Kind] = &[
    Kind::Malformed,
    Kind::Unauthorized,
    Kind::Forbidden,
    Kind::BodyTimeout,
    Kind::TooLarge,
    Kind::MediaType,
    Kind::Invalid,
    Kind::KeyReused,
    Kind::Quota,
    Kind::QueueFull,
    Kind::Memory,
    Kind::Busy,
    Kind::Unavailable,
    Kind::Unknown,
];

/// The answers of these kinds, by status.
pub(super) fn responses(kinds: &[Kind], tells_quota: bool) -> Vec<(u16, Response)> {
    let mut by_status: BTreeMap<u16, Vec<Kind>> = BTreeMap::new();
    for kind in kinds {
        by_status.entry(kind.status().as_u16()).or_default().push(*kind);
    }
    by_status
        .into_iter()
        .map(|(status, kinds)| (status, response(status, &kinds, tells_quota)))
        .collect()
}

fn response(status: u16, kinds: &[Kind], tells_quota: bool) -> Response {
    let titles: Vec<_> = kinds.iter().map(|kind| kind.title()).collect();
    let uris: Vec<_> = kinds.iter().map(|kind| kind.uri()).collect();
    let narrowed = ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("type", word(uris.iter().map(String::as_str)))
        .property(
            "status",
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .enum_values(Some([status])),
        );
    let schema = AllOfBuilder::new().item(reference("Problem")).item(narrowed);
    let examples: Vec<_> = kinds
        .iter()
        .map(|kind| (name(*kind), kind.title(), example(*kind).body()))
        .collect();
    let examples = examples
        .iter()
        .map(|(name, title, value)| (*name, *title, value.clone()));
    let mut response = ResponseBuilder::new()
        .description(format!("{}.", titles.join(", or ")))
        .content("application/problem+json", content(schema, examples));
    if matches!(status, 429 | 503) {
        response = with_retry_after(response);
    }
    // Nobody is known yet.
    if status == 401 {
        response = with_challenge(response);
    } else if tells_quota {
        response = with_rate_headers(response);
    }
    response.build()
}

fn name(kind: Kind) -> &'static str {
    carillon_chassis::metrics::MetricLabel::as_str(kind)
}

/// One answer of each kind.
pub(super) fn example(kind: Kind) -> Problem {
    let problem = |detail: &str| Problem::new(kind, detail);
    let refused = |detail: &str, seconds| problem(detail).with("outcome", "refused").retry_after(seconds);
    match kind {
        Kind::Malformed => problem("the body is not JSON: expected value (line 2, column 9)")
            .with("field", "")
            .with("line", 2)
            .with("column", 9),
        Kind::Invalid => problem("`to.room`: expected a string, found a number (line 1, column 15)")
            .with("field", "to.room")
            .with("line", 1)
            .with("column", 15),
        Kind::KeyReused => problem(
            "this idempotency key was used with other rooms, event or data; a new message needs a new key",
        )
        .with("outcome", "refused")
        .with("field", "idempotency_key"),
        Kind::Unauthorized => problem("this key belongs to no producer"),
        Kind::Forbidden => problem("policy does not let `billing` send to the room `lobby`")
            .with("room", "lobby")
            .with("field", "to"),
        Kind::NotFound => problem("presence can't be asked for here"),
        Kind::MethodNotAllowed => problem("`PUT` is not possible here; messages are sent with POST"),
        Kind::BodyTimeout => problem("the body must be there within 30s"),
        Kind::TooLarge => Problem::too_large(
            "ingest.message",
            65_536,
            "`data`: a message's data has at most 65536 bytes, this one has 70002 (line 1, column 44)",
        ),
        Kind::MediaType => problem("`text/csv` is not understood here; send `Content-Type: application/json`"),
        Kind::Quota => refused(
            "`billing` may send 200 messages per second; nothing of this request was accepted",
            1,
        ),
        Kind::QueueFull => problem(
            "100000 messages wait in the queue already; a part was written; repeating it with the same idempotency keys \
             completes it",
        )
        .retry_after(1)
        .with("outcome", "partial")
        .with("messages", known("refused")),
        Kind::Memory => refused(
            "Redis uses 81 % of its memory, over 80 % nothing is accepted; nothing of this request was written",
            5,
        ),
        Kind::Busy => refused(
            "this process holds as many bytes of requests as it may; nothing was accepted",
            1,
        ),
        Kind::Unavailable => refused(
            "nothing can be written at present (the connection was refused); nothing was written",
            1,
        ),
        Kind::Unknown => problem(
            "the message may have been accepted or not (no answer within 2s); repeating it is safe only with the same \
             idempotency key",
        )
        .retry_after(1)
        .with("outcome", "unknown")
        .with("messages", known("unknown")),
    }
}

fn known(other: &str) -> Value {
    json!([{
        "id": "019de4b8-7a51-7c3e-9a6e-5f7f3c1f2b10",
        "rooms": [
            { "room": "lobby", "outcome": "accepted", "offset": "1732377600000-0" },
            { "room": "attic", "outcome": other },
        ],
    }])
}
