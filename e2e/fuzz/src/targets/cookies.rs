//! Cookies, their URL encoding, and the signature of `express-session`.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use carillon_gateway::identity::{CookieSecrets, fuzzing};
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::percent_decode_str;
use sha2::Sha256;

const NAME: &str = "connect.sid";

/// The text as cookies, as a signed value, and as an id that is signed.
pub fn target(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    decoding(text);
    if let Some(value) = fuzzing::cookie(text, NAME) {
        assert_eq!(Some(&value), oracle(text).as_ref());
        opening(&value);
    } else {
        assert_eq!(oracle(text), None);
    }
    opening(text);
    signing(text);
}

/// A library decodes to the same.
fn decoding(text: &str) {
    let by_library = percent_decode_str(text).decode_utf8_lossy();
    assert_eq!(fuzzing::decoded(text, false), by_library);
    let by_library = text.replace('+', " ");
    let by_library = percent_decode_str(&by_library).decode_utf8_lossy();
    assert_eq!(fuzzing::decoded(text, true), by_library);
}

/// The first cookie of the name, written down another way.
fn oracle(cookies: &str) -> Option<String> {
    for pair in cookies.split(';') {
        let Some(equals) = pair.find('=') else { continue };
        if pair[..equals].trim() != NAME {
            continue;
        }
        let mut value = pair[equals + 1..].trim();
        if value.len() > 1 && value.starts_with('"') && value.ends_with('"') {
            value = &value[1..value.len() - 1];
        }
        return Some(percent_decode_str(value).decode_utf8_lossy().into_owned());
    }
    None
}

fn signature(secret: &str, id: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length will do");
    STANDARD_NO_PAD.encode(mac.chain_update(id).finalize().into_bytes())
}

/// What is opened was signed with the secret that opens it.
fn opening(value: &str) {
    let secrets = CookieSecrets::new(["new", "old"]);
    if let Some(id) = fuzzing::opened(&secrets, value) {
        let signed = value
            .rsplit_once('.')
            .map(|(_, signature)| signature.trim_end_matches('='));
        let is_signed = ["new", "old"]
            .iter()
            .any(|secret| Some(signature(secret, id).as_str()) == signed);
        assert!(is_signed, "{value} is signed by nobody");
        assert!(!id.is_empty() && value.starts_with("s:"));
    }
}

fn signing(id: &str) {
    let value = format!("s:{id}.{}", signature("old", id));
    let opened = |secrets: &[&str], value: &str| {
        fuzzing::opened(&CookieSecrets::new(secrets), value).map(str::to_owned)
    };
    let expected = (!id.is_empty()).then(|| id.to_owned());
    assert_eq!(opened(&["new", "old"], &value), expected);
    assert_eq!(opened(&["new"], &value), None, "another secret");
    assert_eq!(opened(&[], &value), None, "no secret");
    assert_eq!(
        opened(&["old"], &format!("s:{id}x.{}", signature("old", id))),
        None
    );
    assert_eq!(
        opened(&["old"], &value[2..]).filter(|opened| opened == id),
        None,
        "without its mark"
    );
}
