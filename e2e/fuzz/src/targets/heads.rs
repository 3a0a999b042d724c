//! Headers that identify: a producer by its key, a gateway by its proof, a message by its key, a trace by its ids.

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use carillon_chassis::telemetry::trace_context;
use carillon_gateway::transport::{ForwardingSecret, fuzzing as gateway};
use carillon_ingest::fuzzing as ingest;
use carillon_model::{policy::Policy, trace::is_sampled};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use opentelemetry::trace::TraceContextExt as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Producers and their keys.
const PRODUCERS: [(&str, &str); 3] = [("billing", "k1"), ("words", "two words"), ("accents", "clé")];
const SECRET: &[u8] = b"of the gateways";

/// With anonymous producers and without.
static POLICIES: LazyLock<[(bool, Policy); 2]> = LazyLock::new(|| {
    [true, false].map(|anonymous| {
        let mut text = format!("anonymous: {{ producers: {anonymous} }}\nproducers:\n");
        for (name, key) in PRODUCERS {
            let hash: String = Sha256::digest(key)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            text.push_str(&format!(
                "  - {{ name: {name}, key_sha256: \"{hash}\", rooms: [\"*\"] }}\n"
            ));
        }
        (anonymous, Policy::parse_yaml(&text).expect("a policy"))
    })
});

static SECRETS: LazyLock<[ForwardingSecret; 2]> = LazyLock::new(|| {
    [SECRET, b"of somebody else"].map(|secret| ForwardingSecret::new(secret).expect("any length will do"))
});

/// Headers, a line each, up to an empty one; then a line with a session's id, one with a pod's name, and a packet.
pub fn target(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    let mut lines = bytes.split(|byte| *byte == b'\n');
    for line in lines.by_ref().take_while(|line| !line.is_empty()).take(20) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        // As they come out of HTTP: without what is blank around them.
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    producers(&headers);
    key_of_message(&headers);
    trace(&headers);
    let mut text = || std::str::from_utf8(lines.next().unwrap_or_default()).unwrap_or_default();
    let (sid, pod, packet) = (text(), text(), text());
    handed_on(&headers, sid);
    names(pod, sid);
    open_packet(pod, packet);
}

fn producers(headers: &HeaderMap) {
    let brought = brought(headers);
    for (anonymous, policy) in POLICIES.iter() {
        let found = ingest::producer(headers, policy);
        let owner = |key: &[u8]| PRODUCERS.iter().find(|(_, known)| known.as_bytes() == key);
        match (&brought, &found) {
            (Brought::Nothing, Ok(None)) => assert!(anonymous),
            (Brought::Nothing, Err(_)) => assert!(!anonymous),
            (Brought::Key(key), Ok(Some(name))) => {
                assert_eq!(owner(key).map(|(name, _)| *name), Some(&**name))
            }
            (Brought::Key(key), Err(refused)) => {
                assert!(owner(key).is_none());
                // Every wrong key is refused in the same words, so none of it is told.
                let wrong =
                    HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static("Bearer no"))]);
                assert_eq!(Err(refused), ingest::producer(&wrong, policy).as_ref());
            }
            (Brought::Nonsense, Err(_)) => {}
            _ => panic!("{headers:?} is {found:?}"),
        }
        if let Err(refused) = found {
            assert_eq!(refused.problem["status"], 401);
        }
    }
}

enum Brought<'a> {
    Nothing,
    Nonsense,
    Key(&'a [u8]),
}

/// The key in headers, found another way. `Authorization` goes first, good or not.
fn brought(headers: &HeaderMap) -> Brought<'_> {
    let mut first = headers.get_all(header::AUTHORIZATION).iter().take(1);
    if let Some(value) = first.next() {
        return match value.as_bytes().split_at_checked(7) {
            Some((scheme, key))
                if scheme.eq_ignore_ascii_case(b"bearer ") && !key.trim_ascii().is_empty() =>
            {
                Brought::Key(key.trim_ascii())
            }
            _ => Brought::Nonsense,
        };
    }
    headers
        .get("x-api-key")
        .map_or(Brought::Nothing, |key| Brought::Key(key.as_bytes()))
}

fn key_of_message(headers: &HeaderMap) {
    let mut values = headers.get_all("idempotency-key").iter();
    match (ingest::idempotency_key(headers), values.next(), values.next()) {
        (Ok(None), None, None) => {}
        (Ok(Some(key)), Some(value), None) => {
            assert_eq!(key.as_bytes(), value.as_bytes());
            assert!((1..=200).contains(&key.len()) && !key.chars().any(char::is_control));
        }
        (Err(refused), Some(value), None) => {
            assert_eq!(refused.problem["field"], "Idempotency-Key");
            let is_key = |key: &str| (1..=200).contains(&key.len()) && !key.chars().any(char::is_control);
            assert!(!std::str::from_utf8(value.as_bytes()).is_ok_and(is_key));
        }
        (Err(refused), Some(_), Some(_)) => assert_eq!(refused.problem["status"], 422),
        (read, ..) => panic!("{headers:?} has {read:?}"),
    }
}

/// What travels on is a trace for the library, too, and the same one.
fn trace(headers: &HeaderMap) {
    let traceparent = ingest::traceparent(headers);
    let context = trace_context::from_headers(headers);
    let span = context.span();
    let by_library = span.span_context();
    let value = headers.get("traceparent").and_then(|value| value.to_str().ok());
    if let Some(value) = value {
        assert!(!is_sampled(value) || value.len() == 55);
        // The same without headers.
        let alone = trace_context::from_traceparent(value);
        assert_eq!(alone.span().span_context().trace_id(), by_library.trace_id());
    }
    if traceparent.is_empty() {
        assert!(value.is_none_or(|value| !is_whole(value)), "{value:?} is a trace");
        return;
    }
    assert_eq!(value, Some(&*traceparent), "it travels as it is");
    assert!(is_whole(&traceparent), "{traceparent}");
    assert!(by_library.is_valid() && by_library.is_remote());
    let flags = if by_library.is_sampled() { "01" } else { "00" };
    let (trace, parent) = (by_library.trace_id(), by_library.span_id());
    let written = format!("00-{trace}-{parent}-");
    assert!(
        traceparent.starts_with(&written),
        "{traceparent} became {written}"
    );
    assert_eq!(is_sampled(&traceparent), flags == "01");
}

/// Whether a text is a `traceparent` of version 00, found another way.
fn is_whole(text: &str) -> bool {
    let shape = "00-hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh-hhhhhhhhhhhhhhhh-hh";
    let fits = |(byte, shape): (u8, u8)| match shape {
        b'h' => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        _ => byte == shape,
    };
    text.len() == shape.len()
        && text.bytes().zip(shape.bytes()).all(fits)
        && text[3..35].contains(|digit| digit != '0')
        && text[36..52].contains(|digit| digit != '0')
}

/// A proof is for one session and one secret, and there is one way to write it.
fn handed_on(headers: &HeaderMap, sid: &str) {
    let mac = Hmac::<Sha256>::new_from_slice(SECRET).expect("any length will do");
    let expected = URL_SAFE_NO_PAD.encode(mac.chain_update(sid).finalize().into_bytes());
    let brought = headers.get("carillon-forwarded").map(HeaderValue::as_bytes);
    let [ours, another] = &*SECRETS;
    assert_eq!(
        gateway::is_handed_on(ours, headers, sid),
        brought.map(|brought| brought == expected.as_bytes())
    );
    let proof = gateway::proof(ours, sid).expect("base64");
    assert_eq!(proof, expected);
    let proved = HeaderMap::from_iter([(HeaderName::from_static("carillon-forwarded"), proof)]);
    assert_eq!(gateway::is_handed_on(ours, &proved, sid), Some(true));
    assert_eq!(gateway::is_handed_on(another, &proved, sid), Some(false));
    assert_eq!(
        gateway::is_handed_on(ours, &proved, &format!("{sid}x")),
        Some(false)
    );
}

/// An id says whose it is in a text that needs no escaping, whatever the pod's name.
fn names(pod: &str, sid: &str) {
    // Engine.IO's own ids have no dots.
    let id = sid.rsplit('.').next().unwrap_or_default();
    let named = gateway::name_of(pod, id);
    let (name, again) = gateway::named_id(&named).expect("it is named");
    assert_eq!(again, id);
    assert_eq!(name.chars().count(), pod.chars().count());
    let safe = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '.' | '_');
    assert!(name.chars().all(safe), "{name}");
}

/// A packet that opens a session names it, and is the same otherwise.
fn open_packet(pod: &str, packet: &str) {
    let Some(named) = gateway::named_open_packet(pod, packet) else {
        // An id that never ends is none.
        let id = packet
            .strip_prefix("0{\"sid\":\"")
            .and_then(|rest| rest.split_once('"'));
        assert_eq!(id, None, "{packet} opens a session");
        return;
    };
    let (length, named) = match named.starts_with('0') {
        true => (None, &*named),
        false => named
            .split_once(':')
            .map(|(length, rest)| (Some(length), rest))
            .expect("a length"),
    };
    if let Some(length) = length {
        assert_eq!(length.parse(), Ok(named.chars().count()));
    }
    let (_, before) = packet.split_once("0{").expect("an object");
    let Ok(before) = serde_json::from_str::<Value>(&format!("{{{before}")) else {
        return;
    };
    let after: Value = serde_json::from_str(&named[1..]).expect("it is JSON as before");
    let sid = before["sid"].as_str().unwrap_or_default();
    let mut expected = before.clone();
    expected["sid"] = gateway::name_of(pod, sid).into();
    // A name that is there twice counts the second time, and only the first one is named; it may be hidden by escapes.
    if packet.matches("\"sid\"").count() == 1 && !packet.contains('\\') {
        assert_eq!(after, expected);
    }
}
