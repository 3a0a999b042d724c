//! CloudEvents 1.0 as they come over HTTP, made messages of by the template in the policy.
//!
//! The [HTTP binding] knows three ways, and the content type says which: *structured*, one JSON object that is the whole
//! event; *batched*, an array of such; and *binary*, where the body is the data and every attribute a header. The words
//! are those of the [specification]; section numbers below are of its version 1.0.2.
//!
//! `type` becomes the message's event, and the template makes a room or a user of the attributes. `source` and `id` name
//! an event for ever (spec.md, "id"), so they are its idempotency key: a redelivered event is one message. Nothing else
//! of an event travels to clients but its data:
//!
//! - `data` of a structured event is JSON and stays that text, byte for byte.
//! - `data_base64`, or the body of a binary event, is what its content type says: JSON (`…/json`, `…+json`) stays that
//!   text, `text/…` in UTF-8 becomes a JSON string, anything else is bytes. Of no
//!   content type, `data_base64` is bytes, and a body is JSON.
//! - An event without data has the data `null`, and so has one whose JSON is not there: a binary event with an empty body.
//!
//! [HTTP binding]: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
//! [specification]: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md

mod attributes;
mod content;
mod headers;
mod structured;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use super::{PublishErrors, PublishLimits, PublishRequest, source::Source};
use crate::policy::EventRoute;

/// How an event is put into a request (HTTP binding, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentMode {
    /// Attributes are headers, the body is the data.
    Binary,
    /// The body is the event.
    Structured,
    /// The body is an array of events.
    Batched,
}

impl ContentMode {
    /// The content type of a structured event.
    pub const STRUCTURED: &str = "application/cloudevents+json";
    /// The content type of a batch.
    pub const BATCHED: &str = "application/cloudevents-batch+json";

    /// The mode of a request with this content type; `None` for events in a format other than JSON.
    pub fn of(content_type: Option<&str>) -> Option<Self> {
        let essence = content::MediaType::new(content_type.unwrap_or_default()).essence;
        match essence.as_str() {
            Self::STRUCTURED => Some(Self::Structured),
            Self::BATCHED => Some(Self::Batched),
            other if other.starts_with("application/cloudevents") => None,
            _ => Some(Self::Binary),
        }
    }
}

/// A request that brings events.
#[derive(Clone, Debug)]
pub struct EventRequest<'a> {
    /// How they are in it.
    pub mode: ContentMode,
    /// Its content type, if it says one.
    pub content_type: Option<&'a str>,
    /// The headers whose names begin with `ce-`: what follows that in lower case, and the value as it came.
    pub headers: Vec<(&'a str, &'a [u8])>,
    /// Its body.
    pub body: &'a Bytes,
}

impl EventRequest<'_> {
    /// Makes messages of the events. Every mistake is in the error. Never panics, whatever the bytes are.
    pub fn parse(&self, route: &EventRoute, limits: &PublishLimits) -> Result<PublishRequest, PublishErrors> {
        let mut errors = PublishErrors {
            errors: Vec::new(),
            total: 0,
        };
        let request = match self.mode {
            ContentMode::Binary => headers::event(self, route, limits, &mut errors).map(PublishRequest::One),
            ContentMode::Structured | ContentMode::Batched => Source::new(self.body)
                .and_then(|source| {
                    let root = source.root()?;
                    let batched = self.mode == ContentMode::Batched;
                    Ok(structured::request(
                        &source,
                        root,
                        batched,
                        route,
                        limits,
                        &mut errors,
                    ))
                })
                .unwrap_or_else(|error| {
                    errors.push(|| error);
                    None
                }),
        };
        match request {
            Some(request) if errors.total == 0 => Ok(request),
            _ => Err(errors),
        }
    }
}
