//! CloudEvents in every mode.

use std::sync::LazyLock;

use bytes::Bytes;
use carillon_model::{
    Data,
    policy::{EventRoute, Policy},
    publish::{
        Publish, PublishErrors, PublishRequest,
        cloud_events::{ContentMode, EventRequest},
    },
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use super::publish::{LIMITS, taken, told};

static ROUTE: LazyLock<EventRoute> = LazyLock::new(|| {
    let policy = Policy::parse_yaml("cloudevents: { to: { room: \"orders-{subject}\" } }").expect("a policy");
    policy.cloud_events().expect("it has a route").clone()
});

fn read(
    mode: ContentMode,
    content_type: Option<&str>,
    headers: Vec<(&str, &[u8])>,
    body: &Bytes,
) -> Result<PublishRequest, PublishErrors> {
    let request = EventRequest {
        mode,
        content_type,
        headers,
        body,
    };
    request.parse(&ROUTE, &LIMITS)
}

/// The bytes as an event, as a batch, and as headers (a line each, up to an empty one) with the data behind them.
pub fn target(bytes: &[u8]) {
    let body = Bytes::copy_from_slice(bytes);
    let structured = read(
        ContentMode::Structured,
        Some(ContentMode::STRUCTURED),
        Vec::new(),
        &body,
    );
    if let Ok(PublishRequest::One(publish)) = &structured
        && let Ok(Value::Object(event)) = serde_json::from_slice(bytes)
    {
        in_headers(&event, publish);
    }
    for parsed in [
        structured,
        read(
            ContentMode::Batched,
            Some(ContentMode::BATCHED),
            Vec::new(),
            &body,
        ),
    ] {
        match parsed {
            Ok(PublishRequest::One(publish)) => taken(publish),
            Ok(PublishRequest::Batch(batch)) => {
                // There may be none in it (JSON format, section 4.1).
                assert!(batch.len() <= LIMITS.batch);
                batch.into_iter().for_each(taken);
            }
            Err(errors) => told(&body, &errors),
        }
    }
    binary(bytes);
}

fn binary(bytes: &[u8]) {
    let mut headers = Vec::new();
    let mut content_type = None;
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            break;
        };
        let (Ok(name), value) = (std::str::from_utf8(&line[..colon]), &line[colon + 1..]) else {
            break;
        };
        match name {
            "content-type" => content_type = std::str::from_utf8(value).ok(),
            name => headers.push((name, value)),
        }
    }
    // Whatever it says it is, it is read in the mode that follows.
    let Some(mode) = ContentMode::of(content_type) else {
        return;
    };
    let body = Bytes::copy_from_slice(rest);
    match read(mode, content_type, headers, &body) {
        Ok(PublishRequest::One(publish)) => taken(publish),
        Ok(PublishRequest::Batch(batch)) => batch.into_iter().for_each(taken),
        Err(errors) => assert!(!errors.errors.is_empty() && !errors.to_string().is_empty()),
    }
}

/// The same event with its attributes in headers is the same message.
fn in_headers(event: &Map<String, Value>, publish: &Publish) {
    let Data::Json(data) = &publish.data else { return };
    if event.contains_key("data_base64")
        || event.contains_key("datacontenttype")
        || !event.contains_key("data")
    {
        return;
    }
    let mut headers = Vec::new();
    for (name, value) in event.iter().filter(|(name, _)| *name != "data") {
        // Numbers, booleans and null have more than one way into a header.
        let Value::String(value) = value else { return };
        headers.push((
            name.as_str(),
            utf8_percent_encode(value, NON_ALPHANUMERIC).to_string(),
        ));
    }
    let headers = headers
        .iter()
        .map(|(name, value)| (*name, value.as_bytes()))
        .collect();
    let twin = read(ContentMode::Binary, Some("application/json"), headers, data);
    assert_eq!(twin, Ok(PublishRequest::One(publish.clone())));
}
