//! Tokens: as they come, and as claims that are signed here.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll, Waker},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use carillon_gateway::identity::{Identified, Identities, IdentityCode, Key, Tokens};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, value::RawValue};
use sha2::Sha256;

/// What the corpus' tokens are signed with.
pub const SECRET: &str = "what the corpus is signed with";
/// Public keys, whose text an attacker has.
const PUBLIC: &str = concat!(
    "-----BEGIN PUBLIC KEY-----\n",
    "MCowBQYDK2VwAyEAjlbGNeE+mv/S4UGHf8Gf3eDNQYpmmu3kaCrXLR+7O2M=\n",
    "-----END PUBLIC KEY-----\n"
);

static OURS: LazyLock<Identities> =
    LazyLock::new(|| identities(vec![Key::hs256(SECRET.as_bytes()), public()]));
static ANOTHER: LazyLock<Identities> =
    LazyLock::new(|| identities(vec![Key::hs256(b"another secret"), public()]));
static ONLY_PUBLIC: LazyLock<Identities> = LazyLock::new(|| identities(vec![public()]));

fn public() -> Key {
    Key::from_pem(PUBLIC.as_bytes()).expect("a public key")
}

fn identities(keys: Vec<Key>) -> Identities {
    Identities {
        tokens: Tokens {
            keys: Arc::from(keys),
            ..Tokens::default()
        },
        logins: None,
    }
}

fn identify(identities: &Identities, token: &str) -> Result<Identified, IdentityCode> {
    // With keys of the settings there is nothing to wait for.
    let identifying = pin!(identities.identify(Some(token), None, false));
    let Poll::Ready(identified) = identifying.poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("it waits for something");
    };
    identified.map_err(|refused| {
        assert!(!refused.message.is_empty());
        refused.code
    })
}

/// The text as a token, and the bytes as header and claims that are signed.
pub fn target(bytes: &[u8]) {
    if let Ok(token) = std::str::from_utf8(bytes)
        && !token.is_empty()
        && let Ok(identified) = identify(&OURS, token)
    {
        is_signed(token);
        judged(token.split('.').nth(1).unwrap_or_default(), &identified);
    }
    // The first line is the header, the rest the claims.
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (header, claims) = (&bytes[..at], &bytes[(at + 1).min(bytes.len())..]);
    signing(if at == 0 { br#"{"alg":"HS256"}"# } else { header }, claims);
}

fn hs256(secret: &[u8], text: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret).expect("any length will do");
    URL_SAFE_NO_PAD.encode(mac.chain_update(text).finalize().into_bytes())
}

/// What was let in is signed with the secret: nobody has the private key of the other.
fn is_signed(token: &str) {
    let (text, signature) = token.rsplit_once('.').expect("a token has dots");
    assert_eq!(hs256(SECRET.as_bytes(), text), signature, "{token}");
    assert_eq!(
        identify(&ANOTHER, token).err(),
        Some(IdentityCode::TokenBadSignature)
    );
}

fn judged(claims: &str, identified: &Identified) {
    let claims = URL_SAFE_NO_PAD.decode(claims).expect("it was read");
    // Claims that nobody reads may be numbers that are too large for anybody.
    let claims: BTreeMap<String, &RawValue> = serde_json::from_slice(&claims).expect("claims are JSON");
    let read = |name: &str| serde_json::from_str::<Value>(claims.get(name)?.get()).ok();
    assert_eq!(
        read("sub").as_ref().and_then(Value::as_str),
        identified.identity.user.as_deref()
    );
    assert_eq!(
        read("exp").is_some_and(|exp| !exp.is_null()),
        identified.expires.is_some()
    );
    let rooms = read("rooms")
        .as_ref()
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    assert_eq!(rooms, identified.identity.rooms.len());
    assert!(rooms <= 100);
}

fn signing(header: &[u8], claims: &[u8]) {
    let text = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let ours = format!("{text}.{}", hs256(SECRET.as_bytes(), &text));
    if let Ok(identified) = identify(&OURS, &ours) {
        is_signed(&ours);
        judged(&URL_SAFE_NO_PAD.encode(claims), &identified);
    }
    for (what, forged) in [
        (
            "another secret",
            format!("{text}.{}", hs256(b"a third secret", &text)),
        ),
        (
            "a public key as the secret",
            format!("{text}.{}", hs256(PUBLIC.as_bytes(), &text)),
        ),
        ("no signature", format!("{text}.")),
        ("a cut signature", ours[..ours.len() - 4].to_owned()),
        ("other claims", ours.replacen('.', ".e30", 1)),
    ] {
        assert!(identify(&OURS, &forged).is_err(), "{what}: {forged}");
    }
    assert!(
        identify(&ONLY_PUBLIC, &ours).is_err(),
        "a secret nobody has here: {ours}"
    );
}
