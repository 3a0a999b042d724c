//! What a refused producer is told: `application/problem+json` (RFC 9457).

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use carillon_chassis::metric_label;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

metric_label! {
    /// Why a request was refused. Each has one status and one page of the producer guide.
    pub enum Kind as "reason" {
        /// The body is no JSON.
        Malformed = "malformed",
        /// A field is wrong.
        Invalid = "invalid",
        /// An idempotency key was used before with another content.
        KeyReused = "key-reused",
        /// No key, or a wrong one.
        Unauthorized = "unauthorized",
        /// A room that this producer may not send to.
        Forbidden = "forbidden",
        /// No such path.
        NotFound = "not-found",
        /// Not a POST.
        MethodNotAllowed = "method-not-allowed",
        /// The body did not come in time.
        BodyTimeout = "body-timeout",
        /// Over a limit.
        TooLarge = "too-large",
        /// Not JSON by its header.
        MediaType = "media-type",
        /// Over the producer's quota.
        Quota = "quota",
        /// A partition's queue is full.
        QueueFull = "queue-full",
        /// Redis' memory is nearly full.
        Memory = "memory",
        /// This process holds too many bytes of requests.
        Busy = "busy",
        /// The broker can't be written to.
        Unavailable = "unavailable",
        /// The broker's answer was lost.
        Unknown = "outcome-unknown",
    }
}

impl Kind {
    /// What `type` says in the body.
    pub(crate) fn uri(self) -> String {
        let word = carillon_chassis::metrics::MetricLabel::as_str(self);
        format!("https://carillon.dev/problems/{word}")
    }

    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Invalid | Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Quota | Self::QueueFull | Self::Memory => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy | Self::Unavailable | Self::Unknown => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Malformed => "The body is not JSON",
            Self::Invalid => "The request has mistakes",
            Self::KeyReused => "The idempotency key was used before",
            Self::Unauthorized => "No valid key",
            Self::Forbidden => "Not allowed to send to a room",
            Self::NotFound => "No such path",
            Self::MethodNotAllowed => "Method not allowed",
            Self::BodyTimeout => "The body did not come in time",
            Self::TooLarge => "Over a limit",
            Self::MediaType => "Unsupported content type",
            Self::Quota => "Over the producer's quota",
            Self::QueueFull => "The queue is full",
            Self::Memory => "Redis is nearly full",
            Self::Busy => "Too many requests at once",
            Self::Unavailable => "Nothing can be accepted at present",
            Self::Unknown => "It is not known whether the message was accepted",
        }
    }
}

/// A refusal.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) kind: Kind,
    detail: String,
    members: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            members: Map::new(),
            headers: Vec::new(),
        }
    }

    /// Over a limit, which is named as its setting is.
    pub(crate) fn too_large(limit: &str, allowed: usize, detail: impl Into<String>) -> Self {
        Self::new(Kind::TooLarge, detail)
            .with("limit", limit)
            .with("allowed", allowed)
    }

    /// Adds a member to the body.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Says it in other words.
    pub(crate) fn saying(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// A member of the body that is text.
    pub(crate) fn member(&self, name: &str) -> Option<&str> {
        self.members.get(name).and_then(Value::as_str)
    }

    /// All members of the body, besides those that every problem has.
    pub(crate) fn members(&self) -> &Map<String, Value> {
        &self.members
    }

    /// What was wrong, for people.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }

    /// Says after how many seconds trying again makes sense.
    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        let seconds = seconds.max(1);
        self.headers
            .push((header::RETRY_AFTER, HeaderValue::from(seconds)));
        self.with("retry_after", seconds)
    }
}

impl Problem {
    /// All members of the answer.
    pub(crate) fn to_json(&self) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("type".to_owned(), json!(self.kind.uri()));
        body.insert("title".to_owned(), json!(self.kind.title()));
        body.insert("status".to_owned(), json!(self.kind.status().as_u16()));
        body.insert("detail".to_owned(), json!(self.detail));
        body.extend(self.members.clone());
        body
    }

    /// The body of the answer.
    pub(crate) fn body(&self) -> Value {
        Value::Object(self.to_json())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body().to_string()));
        *response.status_mut() = self.kind.status();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.extend(self.headers);
        response
    }
}
