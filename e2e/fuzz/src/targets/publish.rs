//! What a producer POSTs, as one document and as lines of it.

use bytes::Bytes;
use carillon_model::{
    Data, Message, MessageId, Room, Sender,
    publish::{
        MAX_DATA_DEPTH, MAX_KEY_BYTES, Publish, PublishErrorKind, PublishErrors, PublishLimits,
        PublishRequest,
    },
};
use serde::de::IgnoredAny;
use serde_json::Value;
use uuid::Uuid;

use super::{depth, lies_in};

/// Small, so that they are met.
pub(super) const LIMITS: PublishLimits = PublishLimits {
    batch: 5,
    rooms: 3,
    data_bytes: 64,
};

/// The body as a whole, then each of its lines.
pub fn target(bytes: &[u8]) {
    let body = Bytes::copy_from_slice(bytes);
    document(&body);
    for line in body.split(|byte| *byte == b'\n').take(20) {
        document(&body.slice_ref(line));
    }
}

fn document(body: &Bytes) {
    let is_json =
        std::str::from_utf8(body).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    let parsed = PublishRequest::parse(body, &LIMITS);
    assert_eq!(
        PublishRequest::parse(body, &LIMITS),
        parsed,
        "the same bytes mean the same"
    );
    match parsed {
        Err(errors) => refused(body, is_json, &errors),
        Ok(request) => {
            assert!(is_json, "what is no JSON was taken");
            let array = body.trim_ascii_start().starts_with(b"[");
            let messages = match request {
                PublishRequest::One(publish) => {
                    assert!(!array);
                    vec![publish]
                }
                PublishRequest::Batch(messages) => {
                    assert!(array && (1..=LIMITS.batch).contains(&messages.len()));
                    messages
                }
            };
            // Where numbers are too large for it or texts are no Unicode, the other parser has no say.
            let values = serde_json::from_slice::<Value>(body)
                .ok()
                .map(|value| match value {
                    Value::Array(values) => values,
                    one => vec![one],
                });
            for (place, publish) in messages.into_iter().enumerate() {
                if let Some(values) = &values {
                    agrees(&publish, &values[place]);
                }
                if let Data::Json(json) = &publish.data {
                    assert!(lies_in(json, body), "data is cut out of the body");
                }
                taken(publish);
            }
        }
    }
}

fn refused(body: &Bytes, is_json: bool, errors: &PublishErrors) {
    told(body, errors);
    for error in &errors.errors {
        let is_syntax = error.kind == PublishErrorKind::Syntax;
        assert_eq!(is_syntax, !is_json, "{error}: is it JSON or not?");
    }
}

/// Mistakes are told within bounds, each with a place that is there.
pub(super) fn told(body: &Bytes, errors: &PublishErrors) {
    assert!(!errors.errors.is_empty() && errors.errors.len() <= PublishErrors::TOLD);
    assert!(errors.total >= errors.errors.len());
    let lines: Vec<&[u8]> = body.split(|byte| *byte == b'\n').collect();
    for error in &errors.errors {
        let line = lines.get(error.line - 1).expect("a line of the body");
        assert!(
            (1..=line.len() + 1).contains(&error.column),
            "{error}: a column of its line"
        );
        assert!(!error.message.is_empty());
    }
}

/// What was taken is within bounds and the same through protobuf.
pub(super) fn taken(publish: Publish) {
    let Publish {
        rooms,
        data,
        idempotency_key,
        ..
    } = &publish;
    assert!((1..=LIMITS.rooms).contains(&rooms.len()));
    assert!(
        rooms
            .iter()
            .enumerate()
            .all(|(at, room)| !rooms[..at].contains(room))
    );
    assert_eq!(publish.to.rooms(LIMITS.rooms).as_deref(), Ok(&rooms[..]));
    assert!(data.len() <= LIMITS.data_bytes);
    if let Some(key) = idempotency_key {
        assert!((1..=MAX_KEY_BYTES).contains(&key.len()));
    }
    if let Data::Json(json) = data {
        serde_json::from_slice::<IgnoredAny>(json).expect("data is JSON");
        assert!(depth(json) <= MAX_DATA_DEPTH);
    }
    // Through protobuf and back it is the same.
    let id = MessageId(Uuid::from_u128(7));
    let message = publish.into_message(id, Sender::Producer("p".to_owned()), 1, String::new());
    assert_eq!(Message::decode(message.encode()), Ok(message));
}

/// What `serde_json` reads is what we read.
fn agrees(publish: &Publish, value: &Value) {
    assert_eq!(value["event"], publish.event.as_str());
    match &publish.data {
        Data::Json(json) => {
            let data = serde_json::from_slice::<Value>(json).expect("data of what was a value is one");
            assert_eq!(value["data"], data);
        }
        Data::Binary(_) => assert!(value["data_base64"].is_string()),
    }
    let key = value.get("idempotency_key").and_then(Value::as_str);
    assert_eq!(publish.idempotency_key.as_deref(), key);
    let rooms: Vec<&str> = publish.rooms.iter().map(Room::as_str).collect();
    match &value["to"] {
        Value::String(all) => assert_eq!((all.as_str(), &rooms[..]), ("all", &["all"][..])),
        to => {
            if let Some(room) = to.get("room") {
                assert_eq!([room], &rooms[..]);
            }
            if let Some(Value::String(user)) = to.get("user") {
                assert_eq!([format!("user:{user}")], &rooms[..]);
            }
        }
    }
}
