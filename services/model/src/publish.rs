//! A producer's request as JSON.
//!
//! ```json
//! { "to": { "room": "lobby" }, "event": "price", "data": { "eur": 42 }, "idempotency_key": "order-17" }
//! ```
//!
//! A request is one such object, or an array of them: a batch. `data` is never taken apart: it is checked to be JSON
//! together with the whole body, in one pass, and what reaches a client's socket is a slice of what the producer wrote,
//! byte for byte. Binary data comes as `data_base64`.
//!
//! Nothing is ignored. An unknown field is a typing mistake, and a field that another version understands asks for
//! something this one would not do; both are refused by name. All mistakes of a request are told at once, each with its
//! field (`[3].to.room`) and its place in the body, because whoever builds requests wants to fix them in one go.

pub mod cloud_events;
mod fields;
mod object;
mod parts;
mod source;

use std::fmt;

use bytes::Bytes;

use crate::{Data, EventName, Message, MessageId, Room, Sender, Target};
pub use parts::{DataPart, PublishParts};
use source::Source;

/// One message, as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Where it goes, as the producer said it.
    pub to: Target,
    /// The rooms of the target, each once, in the order named.
    pub rooms: Vec<Room>,
    /// The Socket.IO event.
    pub event: EventName,
    /// The content: a slice of the request's body, or what was base64 in it.
    pub data: Data,
    /// Makes repeating the request safe.
    pub idempotency_key: Option<String>,
}

impl Publish {
    /// The message that this becomes, with what acceptance adds.
    pub fn into_message(
        self,
        id: MessageId,
        sender: Sender,
        accepted_at: u64,
        traceparent: String,
    ) -> Message {
        Message {
            id,
            event: self.event,
            data: self.data,
            accepted_at,
            copies: u32::try_from(self.rooms.len()).unwrap_or(u32::MAX),
            sender,
            traceparent,
        }
    }
}

/// A request: one message, or a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishRequest {
    /// An object was sent.
    One(Publish),
    /// An array was sent; it has at least one message.
    Batch(Vec<Publish>),
}

/// What one request may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishLimits {
    /// Messages in a batch.
    pub batch: usize,
    /// Rooms of one message.
    pub rooms: usize,
    /// Bytes of one message's `data`: of the JSON text, or of what was base64.
    pub data_bytes: usize,
}

impl Default for PublishLimits {
    fn default() -> Self {
        Self {
            batch: 1000,
            rooms: 100,
            data_bytes: 64 << 10,
        }
    }
}

/// The deepest nesting of arrays and objects in `data`. JSON parsers of clients are often recursive, and a message goes
/// to all of them.
pub const MAX_DATA_DEPTH: usize = 128;

/// The longest idempotency key, in bytes.
pub const MAX_KEY_BYTES: usize = 200;

/// A text that can't be an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key has 1 to {MAX_KEY_BYTES} bytes and no control characters")]
pub struct InvalidKey;

/// Checks an idempotency key: 1–200 bytes of UTF-8 without control characters.
pub fn check_key(key: &str) -> Result<(), InvalidKey> {
    let valid = (1..=MAX_KEY_BYTES).contains(&key.len()) && !key.chars().any(char::is_control);
    valid.then_some(()).ok_or(InvalidKey)
}

/// What kind of mistake it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishErrorKind {
    /// The body is no JSON.
    Syntax,
    /// A field is missing, unknown, of the wrong type, or has a value it can't have.
    Field,
    /// Valid, but over a limit.
    TooLarge {
        /// Which: the name of a field of [`PublishLimits`].
        limit: &'static str,
        /// The limit in force.
        allowed: usize,
    },
}

/// One mistake in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishError {
    /// What kind of mistake it is.
    pub kind: PublishErrorKind,
    /// The field, like `[3].to.room`; empty if it is the whole body.
    pub field: String,
    /// The line of the body, from 1; 0 if the request was no text.
    pub line: usize,
    /// The column in bytes, from 1; 0 if the request was no text.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for PublishError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(formatter, "`{}`: ", self.field)?;
        }
        formatter.write_str(&self.message)?;
        match self.line {
            0 => Ok(()),
            line => write!(formatter, " (line {line}, column {})", self.column),
        }
    }
}

/// The mistakes in a request: at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishErrors {
    /// The first ones, in the order of the body; at most [`PublishErrors::TOLD`].
    pub errors: Vec<PublishError>,
    /// How many there are.
    pub total: usize,
}

impl PublishErrors {
    /// So many mistakes are told; the rest is only counted.
    pub const TOLD: usize = 20;

    /// Tells the mistakes of a text that is itself one line of a longer one.
    #[must_use]
    pub fn at_line(mut self, line: usize) -> Self {
        for error in &mut self.errors {
            error.line = line;
        }
        self
    }

    /// Notes a mistake; `describe` is called only if it will be told. Finding a place means reading the body up to it,
    /// and a body can hold a hundred thousand mistakes.
    fn push(&mut self, describe: impl FnOnce() -> PublishError) {
        self.total += 1;
        if self.errors.len() < Self::TOLD {
            self.errors.push(describe());
        }
    }
}

impl fmt::Display for PublishErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, error) in self.errors.iter().enumerate() {
            write!(formatter, "{}{error}", if place > 0 { "; " } else { "" })?;
        }
        match self.total - self.errors.len() {
            0 => Ok(()),
            more => write!(formatter, "; and {more} more"),
        }
    }
}

impl std::error::Error for PublishErrors {}

impl PublishRequest {
    /// Reads a request. Every mistake is in the error. Never panics, whatever the bytes are.
    pub fn parse(body: &Bytes, limits: &PublishLimits) -> Result<Self, PublishErrors> {
        let mut errors = PublishErrors {
            errors: Vec::new(),
            total: 0,
        };
        let request = Source::new(body)
            .and_then(|source| {
                let root = source.root()?;
                Ok(fields::request(&source, root, limits, &mut errors))
            })
            .unwrap_or_else(|error| {
                errors.push(|| error);
                None
            });
        match request {
            Some(request) if errors.total == 0 => Ok(request),
            _ => Err(errors),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<PublishRequest, PublishErrors> {
        PublishRequest::parse(
            &Bytes::copy_from_slice(body.as_bytes()),
            &PublishLimits::default(),
        )
    }

    fn one(body: &str) -> Publish {
        match parse(body) {
            Ok(PublishRequest::One(publish)) => publish,
            other => panic!("{other:?}"),
        }
    }

    fn refused(body: &str) -> PublishError {
        let errors = parse(body).unwrap_err();
        assert_eq!(errors.total, 1, "{errors}");
        errors.errors.into_iter().next().unwrap()
    }

    #[test]
    fn data_is_what_was_written() {
        let publish = one(r#"{"to":"all","event":"e","data":  { "a" : 1.00, "ü":"\u00fc" } }"#);
        assert_eq!(publish.rooms, [Room::all()]);
        assert_eq!(
            publish.data,
            Data::Json(Bytes::from_static(r#"{ "a" : 1.00, "ü":"\u00fc" }"#.as_bytes()))
        );
    }

    #[test]
    fn bytes_come_as_base64() {
        let data = |text: &str| one(&format!(r#"{{"to":"all","event":"e","data_base64":"{text}"}}"#)).data;
        assert_eq!(data("AP8="), Data::Binary(Bytes::from_static(&[0, 255])));
        assert_eq!(data("AP8"), data("AP8="));
        assert_eq!(data(""), Data::Binary(Bytes::new()));
        let error = refused(r#"{"to":"all","event":"e","data_base64":"?"}"#);
        assert_eq!(error.field, "data_base64");
    }

    #[test]
    fn every_target_is_rooms() {
        let rooms = |to: &str| {
            let publish = one(&format!(r#"{{"to":{to},"event":"e","data":1}}"#));
            publish
                .rooms
                .iter()
                .map(|room| room.as_str().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(rooms(r#""all""#), ["all"]);
        assert_eq!(rooms(r#"{"room":"lobby"}"#), ["lobby"]);
        assert_eq!(rooms(r#"{"rooms":["b","a","b"]}"#), ["b", "a"]);
        assert_eq!(rooms(r#"{"user":"42"}"#), ["user:42"]);
        assert_eq!(rooms(r#"{"users":["1","2"]}"#), ["user:1", "user:2"]);
        assert_eq!(rooms(r#"{"session":"x"}"#), ["session:x"]);
    }

    #[test]
    fn a_mistake_has_field_line_and_column() {
        let error = refused(
            "[\n {\"to\":\"all\",\"event\":\"e\",\"data\":1},\n {\"to\":{\"room\":7},\"event\":\"e\",\"data\":1}\n]",
        );
        assert_eq!(
            (error.field.as_str(), error.line, error.column),
            ("[1].to.room", 3, 16)
        );
        assert_eq!(error.message, "expected a string, found a number");

        let error = refused("{\"to\":\"all\",\n\"event\":}");
        assert_eq!(error.kind, PublishErrorKind::Syntax);
        assert_eq!((error.line, error.column), (2, 9));
        assert_eq!(error.message, "the body is not JSON: expected value");

        let error = refused(r#"{"to":{"rooms":["a","b\u0007"]},"event":"e","data":1}"#);
        assert_eq!(error.field, "to.rooms[1]");
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for field in ["ttl", "at", "receipt", "exclude"] {
            let error = refused(&format!(r#"{{"to":"all","event":"e","data":1,"{field}":null}}"#));
            assert_eq!(error.field, field);
            assert!(
                error.message.starts_with("not supported by this version"),
                "{error}"
            );
        }
        let error = refused(r#"{"to":"all","event":"e","data":1,"evnt":1}"#);
        assert_eq!(error.field, "evnt");
        assert!(error.message.contains("known are `to`"), "{error}");
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let errors =
            parse(r#"[{"to":"lobby","data":1},{"to":{"room":"a","user":"b"},"event":""},7]"#).unwrap_err();
        let fields: Vec<_> = errors.errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(
            fields,
            ["[0].to", "[0].event", "[1].to", "[1].event", "[1].data", "[2]"]
        );

        let many = format!("[{}]", vec!["{}"; 100].join(","));
        let errors = parse(&many).unwrap_err();
        assert_eq!((errors.errors.len(), errors.total), (PublishErrors::TOLD, 300));
        assert!(errors.to_string().ends_with("and 280 more"));
    }

    #[test]
    fn other_shapes_are_refused() {
        for (body, field) in [
            ("", ""),
            ("{", ""),
            ("{} {}", ""),
            ("7", ""),
            ("[]", ""),
            (r#"{"to":"all","event":"e","data":1,"data":2}"#, "data"),
            (
                r#"{"to":"all","event":"e","data":1,"data_base64":""}"#,
                "data_base64",
            ),
            (r#"{"to":"all","event":"connect","data":1}"#, "event"),
            (
                r#"{"to":"all","event":"e","data":1,"idempotency_key":""}"#,
                "idempotency_key",
            ),
            (r#"{"to":{"rooms":[]},"event":"e","data":1}"#, "to.rooms"),
            (r#"{"to":{"group":"a"},"event":"e","data":1}"#, "to.group"),
            (r#"{"to":null,"event":"e","data":1}"#, "to"),
            (r#"{"to":"all","event":"\ud800","data":1}"#, "event"),
        ] {
            assert_eq!(refused(body).field, field, "{body}");
        }
        let not_utf8 =
            PublishRequest::parse(&Bytes::from_static(b"{\n\xff"), &PublishLimits::default()).unwrap_err();
        assert_eq!((not_utf8.errors[0].line, not_utf8.errors[0].column), (2, 1));
    }

    #[test]
    fn limits_are_named() {
        let limits = PublishLimits {
            batch: 1,
            rooms: 1,
            data_bytes: 4,
        };
        for (body, limit, allowed) in [
            (
                r#"[{"to":"all","event":"e","data":1},{"to":"all","event":"e","data":1}]"#,
                "batch",
                1,
            ),
            (r#"{"to":{"users":["1","2"]},"event":"e","data":1}"#, "rooms", 1),
            (r#"{"to":"all","event":"e","data":12345}"#, "data_bytes", 4),
            (
                r#"{"to":"all","event":"e","data_base64":"AAAAAAA="}"#,
                "data_bytes",
                4,
            ),
        ] {
            let errors =
                PublishRequest::parse(&Bytes::copy_from_slice(body.as_bytes()), &limits).unwrap_err();
            assert_eq!(
                errors.errors[0].kind,
                PublishErrorKind::TooLarge { limit, allowed },
                "{body}"
            );
        }
    }

    #[test]
    fn depth_is_bounded_without_recursion() {
        let nested = |depth: usize| {
            let data = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            parse(&format!(r#"{{"to":"all","event":"e","data":{data}}}"#))
        };
        assert!(nested(MAX_DATA_DEPTH).is_ok());
        let errors = nested(MAX_DATA_DEPTH + 1).unwrap_err();
        assert_eq!(errors.errors[0].field, "data");
        assert!(
            errors.errors[0].message.contains("more than 128 levels"),
            "{errors}"
        );
        assert!(nested(30_000).is_err());
        let everywhere = "[".repeat(200_000);
        assert_eq!(
            parse(&everywhere).unwrap_err().errors[0].kind,
            PublishErrorKind::Syntax
        );
        let closed = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(parse(&closed).unwrap_err().errors[0].field, "[0]");
    }
}
