//! What a client brings when it connects: `auth` of a `CONNECT`, a query, and the Engine.IO id that names a gateway.

use carillon_gateway::transport::fuzzing;
use http::Uri;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

/// The bytes as `auth`, as a query, and as an address with an id.
pub fn target(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    bounded(&fuzzing::query(text));
    let by_auth = fuzzing::connect(Some(text));
    bounded(&by_auth);
    by_query_too(text, &by_auth);
    address(text);
}

fn bounded(brought: &fuzzing::Brought) {
    match brought {
        Ok((_, cursors, _)) => {
            for (at, (room, _)) in cursors.iter().enumerate() {
                assert!(
                    cursors[..at].iter().all(|(other, _)| other != room),
                    "each room once"
                );
            }
        }
        Err(why) => {
            let (code, _) = why.split_once(": ").expect("a code and a text");
            assert!(
                code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{why}"
            );
        }
    }
}

/// A client of Socket.IO 2 that brings the same in its query is answered the same.
fn by_query_too(auth: &str, by_auth: &fuzzing::Brought) {
    // A field that is there twice is a mistake in `auth`, which the value below no longer shows.
    if matches!(by_auth, Err(why) if why.starts_with("bad_request")) {
        return;
    }
    let Ok(Value::Object(fields)) = serde_json::from_str::<Value>(auth) else {
        return;
    };
    // The query's token is always a text; `since` there is the text of it.
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut query = "EIO=3".to_owned();
    match fields.get("token") {
        Some(Value::String(token)) => query = format!("{query}&token={}", encoded(token)),
        None | Some(Value::Null) => {}
        Some(_) => return,
    }
    if let Some(since) = fields.get("since").filter(|since| !since.is_null()) {
        let text = since.as_str().map_or_else(|| since.to_string(), str::to_owned);
        query = format!("{query}&since={}", encoded(&text));
    }
    match fields.get("acknowledge") {
        Some(Value::Bool(wanted)) => query = format!("{query}&acknowledge={wanted}"),
        Some(Value::String(text)) => query = format!("{query}&acknowledge={}", encoded(text)),
        _ => {}
    }
    assert_eq!(&fuzzing::query(&query), by_auth, "{query}");
}

fn address(text: &str) {
    let Ok(uri) = text.parse::<Uri>() else { return };
    let Some(sid) = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .find_map(|pair| pair.strip_prefix("sid="))
    else {
        return;
    };
    let Some((gateway, id)) = fuzzing::named_id(sid) else {
        assert!(!sid.contains('.'));
        return;
    };
    assert_eq!(format!("{gateway}.{id}"), sid);
    assert!(!id.contains('.'));
    let Some(inner) = fuzzing::with_id(&uri, id) else {
        return;
    };
    assert_eq!(inner.path(), uri.path());
    let pairs = |uri: &Uri| {
        uri.query()
            .unwrap_or_default()
            .split('&')
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (before, after) = (pairs(&uri), pairs(&inner));
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        if before.starts_with("sid=") {
            assert_eq!(after, &format!("sid={id}"));
        } else {
            assert_eq!(before, after, "only the id changes");
        }
    }
}
