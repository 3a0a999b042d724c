//! An event whose attributes are headers (HTTP binding, section 3.1).

use percent_encoding::percent_decode;

use super::{
    EventRequest,
    attributes::{Attributes, is_known},
    content::{MediaType, Unfit},
};
use crate::{
    Data,
    policy::EventRoute,
    publish::{Publish, PublishError, PublishErrorKind, PublishErrors, PublishLimits},
};

/// What data is that no content type is said of (as in the JSON format, section 3.1).
const UNSAID: &str = "application/json";

/// Reads the event; `None` if a mistake was noted.
pub(super) fn event(
    request: &EventRequest<'_>,
    route: &EventRoute,
    limits: &PublishLimits,
    errors: &mut PublishErrors,
) -> Option<Publish> {
    let mut wrong = |attribute: &str, message: String| {
        errors.push(|| header_error(attribute, message));
    };
    if !request.headers.iter().any(|(name, _)| is_known(name)) {
        let message = "no `ce-…` header is there, so this is no event in binary mode; an event as JSON has the content \
                       type `application/cloudevents+json`";
        wrong("specversion", message.to_owned());
        return None;
    }
    let mut attributes = Attributes::default();
    let mut right = true;
    for (name, value) in &request.headers {
        let value = text(value);
        let wrong_with_it = if *name == "datacontenttype" {
            // The content type is the body's own (section 3.1.1).
            Some("in binary mode this is the header `Content-Type`; leave this one out")
        } else if value.is_none() {
            Some("is not UTF-8, as it is or percent-encoded")
        } else if attributes.0.contains_key(*name) {
            Some("this header is there twice")
        } else {
            None
        };
        if let Some(message) = wrong_with_it {
            right = false;
            wrong(name, message.to_owned());
        }
        attributes.0.entry((*name).to_owned()).or_insert(value);
    }
    let data = data(request, limits, errors);
    let message = attributes.message(data, route, limits, |attribute, message| {
        errors.push(|| header_error(attribute, message));
    });
    message.filter(|_| right)
}

fn header_error(attribute: &str, message: String) -> PublishError {
    let attribute: String = attribute.chars().take(64).collect();
    PublishError {
        kind: PublishErrorKind::Field,
        field: format!("ce-{attribute}"),
        line: 0,
        column: 0,
        message,
    }
}

/// A header's value as text (section 3.1.3.2): quotes are undone, which earlier versions of the specification asked for,
/// then percent-encoding. A percent sign that encodes nothing stands for itself.
fn text(value: &[u8]) -> Option<String> {
    let value = match value {
        [b'"', quoted @ .., b'"'] => &unescaped(quoted),
        plain => plain,
    };
    percent_decode(value)
        .decode_utf8()
        .ok()
        .map(std::borrow::Cow::into_owned)
}

/// The content of a quoted string (RFC 7230, section 3.2.6).
fn unescaped(quoted: &[u8]) -> Vec<u8> {
    let mut bytes = quoted.iter();
    let mut plain = Vec::with_capacity(quoted.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => *bytes.next().unwrap_or(byte),
            other => *other,
        });
    }
    plain
}

fn data(request: &EventRequest<'_>, limits: &PublishLimits, errors: &mut PublishErrors) -> Option<Data> {
    match MediaType::new(request.content_type.unwrap_or(UNSAID)).data(request.body) {
        Ok(data) => bounded(data, limits, errors),
        Err(Unfit::Syntax(mut error)) => {
            if request.content_type.is_none() {
                error
                    .message
                    .push_str("; if it is something else, say so in the header `Content-Type`");
            }
            errors.push(|| error);
            None
        }
        Err(Unfit::Other(message)) => {
            errors.push(|| body_error(PublishErrorKind::Field, message));
            None
        }
    }
}

fn bounded(data: Data, limits: &PublishLimits, errors: &mut PublishErrors) -> Option<Data> {
    let (bytes, allowed) = (data.len(), limits.data_bytes);
    if bytes <= allowed {
        return Some(data);
    }
    let kind = PublishErrorKind::TooLarge {
        limit: "data_bytes",
        allowed,
    };
    errors.push(|| {
        body_error(
            kind,
            format!("a message's data has at most {allowed} bytes, this one has {bytes}"),
        )
    });
    None
}

/// A mistake of the body as a whole.
fn body_error(kind: PublishErrorKind, message: String) -> PublishError {
    PublishError {
        kind,
        field: String::new(),
        line: 0,
        column: 0,
        message,
    }
}
