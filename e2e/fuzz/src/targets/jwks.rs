//! Key sets, as an issuer serves them.

use carillon_gateway::identity::fuzzing;
use serde_json::Value;

/// A set has no more keys than it names, none that is a secret, and one bad key spoils no other.
pub fn target(bytes: &[u8]) {
    let set = serde_json::from_slice::<Value>(bytes).ok();
    let named = set
        .as_ref()
        .and_then(|set| set.get("keys"))
        .and_then(Value::as_array);
    let Some(keys) = fuzzing::key_set(bytes) else {
        return;
    };
    let Some(named) = named else {
        // The other parser may be stricter about numbers and texts that no key has.
        return;
    };
    assert!(keys.len() <= named.len().min(64));
    for key in &keys {
        let shown = format!("{key:?}");
        assert!(
            !shown.starts_with("Key(HS"),
            "a secret in a set that everybody can read: {shown}"
        );
    }
    let one_by_one = named.iter().map(|key| {
        let alone = serde_json::json!({ "keys": [key] }).to_string();
        fuzzing::key_set(alone.as_bytes()).expect("a set of one").len()
    });
    assert_eq!(one_by_one.sum::<usize>().min(64), keys.len());
    for (named, expected) in [("oct", 0), ("none", 0)] {
        let secret =
            serde_json::json!({ "keys": [{ "kty": named, "k": "AAAA", "alg": "HS256" }] }).to_string();
        assert_eq!(
            fuzzing::key_set(secret.as_bytes()).map(|keys| keys.len()),
            Some(expected)
        );
    }
}
