//! Problems as gRPC tells them: a status with the usual details, and a message of our own in the answers of a stream.

use std::time::Duration;

use carillon_chassis::metrics::MetricLabel as _;
use prost::Message as _;
use prost_types::Any;
use serde_json::Value;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use super::pb;
use crate::problem::{Kind, Problem};

/// Whose reasons they are, in `google.rpc.ErrorInfo`.
const DOMAIN: &str = "carillon.dev";

/// Details travel in trailers, which clients bound: 8 KiB is usual. What is told twice is left out above this.
const OWN_DETAIL: usize = 2 << 10;

/// Members of a problem that have a place of their own in gRPC.
const ELSEWHERE: [&str; 7] = [
    "field",
    "line",
    "column",
    "errors",
    "errors_total",
    "retry_after",
    "messages",
];

const fn code(kind: Kind) -> Code {
    match kind {
        Kind::Malformed | Kind::Invalid | Kind::KeyReused | Kind::TooLarge | Kind::MediaType => {
            Code::InvalidArgument
        }
        Kind::Unauthorized => Code::Unauthenticated,
        Kind::Forbidden => Code::PermissionDenied,
        Kind::NotFound | Kind::MethodNotAllowed => Code::Unimplemented,
        Kind::BodyTimeout => Code::DeadlineExceeded,
        Kind::Quota | Kind::QueueFull | Kind::Memory => Code::ResourceExhausted,
        Kind::Busy | Kind::Unavailable | Kind::Unknown => Code::Unavailable,
    }
}

/// A problem as a message.
pub(crate) fn told(problem: &Problem) -> pb::Problem {
    let unsure = problem
        .members()
        .get("messages")
        .and_then(|messages| messages.get(0));
    let rooms = unsure.and_then(|message| message["rooms"].as_array());
    let retry_after = problem.members().get("retry_after").and_then(Value::as_u64);
    pb::Problem {
        code: code(problem.kind).into(),
        reason: problem.kind.as_str().to_owned(),
        message: problem.detail().to_owned(),
        outcome: outcome(problem.member("outcome").unwrap_or("refused")).into(),
        fields: fields(problem),
        retry_after_seconds: retry_after.unwrap_or_default(),
        id: unsure.map_or_else(String::new, |message| text(&message["id"])),
        rooms: rooms.into_iter().flatten().map(room).collect(),
    }
}

fn room(told: &Value) -> pb::RoomOutcome {
    pb::RoomOutcome {
        room: text(&told["room"]),
        outcome: outcome(told["outcome"].as_str().unwrap_or_default()).into(),
        offset: text(&told["offset"]),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn outcome(word: &str) -> pb::Outcome {
    match word {
        "accepted" => pb::Outcome::Accepted,
        "refused" => pb::Outcome::Refused,
        "partial" => pb::Outcome::Partial,
        "unknown" => pb::Outcome::Unknown,
        _ => pb::Outcome::Unspecified,
    }
}

/// The fields with mistakes: all that are told, or the one that is named.
fn fields(problem: &Problem) -> Vec<pb::FieldProblem> {
    let members = problem.members();
    match (
        members.get("errors").and_then(Value::as_array),
        problem.member("field"),
    ) {
        (Some(errors), _) => errors
            .iter()
            .map(|error| pb::FieldProblem {
                field: text(&error["field"]),
                message: text(&error["detail"]),
            })
            .collect(),
        (None, Some(field)) => vec![pb::FieldProblem {
            field: field.to_owned(),
            message: problem.detail().to_owned(),
        }],
        (None, None) => Vec::new(),
    }
}

/// What else is known, as text: the outcome, a limit, a room.
#[allow(clippy::disallowed_types)] // the library takes this map, and its order means nothing to anybody
fn metadata(problem: &Problem) -> std::collections::HashMap<String, String> {
    let members = problem.members().iter();
    let others = members.filter(|(name, _)| !ELSEWHERE.contains(&name.as_str()));
    let texts = others.map(|(name, value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (name.clone(), text)
    });
    texts.collect()
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let mut own = told(&problem);
        let mut details = ErrorDetails::new();
        let reason = own.reason.replace('-', "_").to_ascii_uppercase();
        details.set_error_info(reason, DOMAIN, metadata(&problem));
        if own.retry_after_seconds > 0 {
            details.set_retry_info(Some(Duration::from_secs(own.retry_after_seconds)));
        }
        if !own.fields.is_empty() {
            let violations = own.fields.iter().map(|field| FieldViolation {
                field: field.field.clone(),
                description: field.message.clone(),
                reason: String::new(),
                localized_message: None,
            });
            details.set_bad_request(violations.collect::<Vec<_>>());
        }
        if own.encoded_len() > OWN_DETAIL {
            own.rooms.clear();
        }
        let code = code(problem.kind);
        let usual = Status::with_error_details(code, problem.detail(), details);
        match tonic_types::Status::decode(usual.details()) {
            Ok(mut all) => {
                all.details.push(Any {
                    type_url: "type.googleapis.com/carillon.v1.Problem".to_owned(),
                    value: own.encode_to_vec(),
                });
                Status::with_details(code, problem.detail(), all.encode_to_vec().into())
            }
            Err(_) => usual,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_when_to_come_again() {
        let problem = Problem::new(Kind::QueueFull, "full")
            .with("outcome", "refused")
            .retry_after(3);
        let status = Status::from(problem);
        assert_eq!(
            (status.code(), status.message()),
            (Code::ResourceExhausted, "full")
        );
        let details = status.get_error_details();
        let retry = details.retry_info().unwrap();
        assert_eq!(retry.retry_delay, Some(Duration::from_secs(3)));
        let info = details.error_info().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("QUEUE_FULL", DOMAIN)
        );
        assert_eq!(info.metadata.len(), 1);
        assert_eq!(info.metadata["outcome"], "refused");
        assert!(details.bad_request().is_none());
    }

    #[test]
    fn trailers_stay_small() {
        let rooms: Vec<Value> = (0..100)
            .map(|n| serde_json::json!({"room": format!("{n:0200}"), "outcome": "unknown"}))
            .collect();
        let messages = serde_json::json!([{"id": "i", "rooms": rooms}]);
        let problem = Problem::new(Kind::Unknown, "lost")
            .with("outcome", "unknown")
            .with("messages", messages);
        assert_eq!(told(&problem).rooms.len(), 100);
        let status = Status::from(problem);
        assert!(status.details().len() < 4_096, "{}", status.details().len());
    }
}
