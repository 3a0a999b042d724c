//! What a client says once it is connected: Socket.IO packets and the requests in them.

use bytes::Bytes;
use carillon_gateway::transport::fuzzing::{self, Asked};
use carillon_model::{Data, Room};
use serde_json::value::{RawValue, to_raw_value};

use super::lies_in;

/// A packet, taken apart and put together again; what it asks for; and how that would be written to others.
pub fn target(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    // A request without a packet around it, too: what comes before it would hide most of them.
    request(text);
    let Some(heard) = fuzzing::packet(text) else {
        return;
    };
    let is_answer = matches!(heard.kind, b'3' | b'6');
    assert!(!is_answer || heard.ack.is_some(), "an answer to nothing");
    // A client of revision 4 may put a query behind the namespace; that is dropped.
    if !is_answer && !text.contains('?') && heard.kind != b'1' {
        let mut again = String::new();
        again.push(char::from(text.as_bytes()[0]));
        if text.starts_with('5') {
            again = format!("5{}-", heard.attachments);
        }
        let after_kind = &text[1..];
        let after_count = match text.as_bytes()[0] {
            b'5' => after_kind.split_once('-').map_or("", |(_, rest)| rest),
            _ => after_kind,
        };
        let named = after_count.starts_with('/');
        if named {
            again.push_str(heard.namespace);
        }
        let ack = heard.ack.map(|ack| ack.to_string()).unwrap_or_default();
        let body = heard.body.unwrap_or_default();
        let rest = format!("{ack}{body}");
        assert!(!named || heard.namespace.starts_with('/'));
        if !named || !rest.is_empty() {
            let comma = if named { "," } else { "" };
            let written = format!("{again}{comma}{rest}");
            // Leading zeros, a `+`, and a comma behind which nothing follows say the same in other words.
            if written != text {
                let once_more = fuzzing::packet(&written).expect("what was put together is a packet");
                assert_eq!(once_more, heard, "{text} became {written}");
            }
        }
    }
    if let Some(body) = heard.body {
        assert!(body.is_empty() || lies_in(body.as_bytes(), bytes));
        if heard.kind != b'0' {
            request(body);
        }
    }
}

fn request(body: &str) {
    let values = serde_json::from_str::<Vec<&RawValue>>(body).ok();
    let Some((name, arguments)) = fuzzing::event(body) else {
        // Only an array that begins with a text is an event.
        let first = values.and_then(|values| values.first().map(|first| first.get()));
        assert!(first.is_none_or(|first| serde_json::from_str::<String>(first).is_err()));
        return;
    };
    let values = values.expect("an event is an array");
    assert_eq!(serde_json::from_str::<String>(values[0].get()).ok(), Some(name));
    assert_eq!(arguments.len(), values.len() - 1);
    for attachments in [vec![], vec![Bytes::from_static(b"\0\xff")]] {
        match fuzzing::asked(body, &attachments) {
            Some(Asked::Publish {
                room,
                event,
                data,
                key,
            }) => {
                assert_eq!(Room::new(room.as_str()).as_ref(), Ok(&room));
                assert!(key.is_none_or(|key| (1..=200).contains(&key.len())));
                written(event.as_str(), &data, &attachments);
            }
            Some(Asked::Other(room)) => assert!(room.is_none_or(|room| Room::new(room.as_str()).is_ok())),
            Some(Asked::Refused(why)) => assert!(!why.is_empty() && why.len() <= body.len() * 4 + 500),
            None => {}
        }
    }
}

/// What one client says, another one reads: the same name, the same bytes.
fn written(event: &str, data: &Data, attachments: &[Bytes]) {
    let meta = to_raw_value(&serde_json::json!({ "room": "r", "offset": "1-0" })).expect("JSON");
    // An acknowledgement is asked for, or not.
    for ack in [None, Some(0), Some(u64::MAX)] {
        let (text, follow) = fuzzing::written(event, data, &meta, ack);
        let heard = fuzzing::packet(&text).expect("what we write is a packet");
        assert_eq!(
            (heard.namespace, heard.ack, heard.attachments),
            ("/", ack, follow.len())
        );
        let (name, arguments) = fuzzing::event(heard.body.unwrap_or_default()).expect("and an event");
        assert_eq!(name, event);
        assert_eq!(arguments.len(), 2);
        assert_eq!(arguments[1], meta.get());
        match data {
            Data::Json(json) => assert_eq!(arguments[0].as_bytes(), json),
            Data::Binary(binary) => assert_eq!((&follow[..], binary), (attachments, &attachments[0])),
        }
    }
}
