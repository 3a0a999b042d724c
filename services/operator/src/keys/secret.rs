//! The Secret of a producer: its key, and in annotations where its rotation stands.

use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Former, Key, KeyHash, KeyState};
use crate::{
    picture::Seen,
    resources::{GROUP, PushProducerSpec},
};

/// The label that says whose key a Secret holds.
pub(crate) const PRODUCER_LABEL: &str = "carillon.dev/producer";
/// The annotation of a PushProducer that asks for a new key.
pub(crate) const ROTATE_ANNOTATION: &str = "carillon.dev/rotate";

const ROTATED_AT: &str = "carillon.dev/rotated-at";
const ANSWERED: &str = "carillon.dev/rotate-answered";
const FORMER: &str = "carillon.dev/former-keys";

#[derive(Serialize, Deserialize)]
struct FormerText {
    sha256: String,
    until: Timestamp,
}

/// Whether a Secret was made for this producer, and not for an earlier one of its name or by somebody else.
pub(crate) fn is_of(secret: &Secret, producer: &Seen<PushProducerSpec>) -> bool {
    secret
        .owner_references()
        .iter()
        .any(|owner| owner.kind == "PushProducer" && owner.uid == producer.uid())
}

/// Where a rotation stands. What can't be read is as if it were not there.
pub(crate) fn state(secret: &Secret) -> KeyState {
    let data = |name: &str| Key::read(&secret.data.as_ref()?.get(name)?.0);
    let annotation = |name: &str| secret.annotations().get(name);
    let former: Vec<FormerText> = annotation(FORMER)
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    KeyState {
        current: data("key"),
        next: data("next"),
        former: former
            .into_iter()
            .filter_map(|former| {
                let hash = KeyHash::parse(&former.sha256)?;
                Some(Former {
                    hash,
                    until: former.until,
                })
            })
            .collect(),
        rotated_at: annotation(ROTATED_AT).and_then(|text| text.parse().ok()),
        answered: annotation(ANSWERED).cloned(),
    }
}

/// The Secret as it should be, for server-side apply.
pub(crate) fn manifest(
    name: &str,
    producer: &Seen<PushProducerSpec>,
    state: &KeyState,
) -> Result<Value, serde_json::Error> {
    let place = producer.place();
    let mut annotations = serde_json::Map::new();
    if let Some(rotated) = state.rotated_at {
        annotations.insert(ROTATED_AT.to_owned(), json!(rotated.to_string()));
    }
    if let Some(answered) = &state.answered {
        annotations.insert(ANSWERED.to_owned(), json!(answered));
    }
    if !state.former.is_empty() {
        let former: Vec<_> = state
            .former
            .iter()
            .map(|former| FormerText {
                sha256: former.hash.to_string(),
                until: former.until,
            })
            .collect();
        annotations.insert(FORMER.to_owned(), json!(serde_json::to_string(&former)?));
    }
    let mut data = serde_json::Map::new();
    let keys = [("key", &state.current), ("next", &state.next)];
    for (name, key) in keys
        .into_iter()
        .filter_map(|(name, key)| Some((name, key.as_ref()?)))
    {
        let bytes = k8s_openapi::ByteString(key.expose().as_bytes().to_vec());
        data.insert(name.to_owned(), json!(bytes));
    }
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": name,
            "namespace": place.namespace,
            "labels": {
                PRODUCER_LABEL: place.name,
                "app.kubernetes.io/managed-by": "carillon-operator",
            },
            "annotations": annotations,
            "ownerReferences": [{
                "apiVersion": format!("{GROUP}/v1alpha1"),
                "kind": "PushProducer",
                "name": place.name,
                "uid": producer.uid(),
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
        "data": data,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_down_is_read_again() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let (one, two) = (Key::random().unwrap(), Key::random().unwrap());
        let former = Former {
            hash: Key::random().unwrap().hash(),
            until: now,
        };
        let written = KeyState {
            current: Some(one),
            next: Some(two),
            former: vec![former],
            rotated_at: Some(now),
            answered: Some("monday".to_owned()),
        };
        let producer: Seen<PushProducerSpec> = Seen::read(
            "PushProducer",
            &serde_json::from_value(json!({
                "metadata": { "name": "billing", "namespace": "shop", "uid": "u1" },
                "spec": { "rooms": ["all"] },
            }))
            .unwrap(),
        );
        let value = manifest("billing-key", &producer, &written).unwrap();
        let secret: Secret = serde_json::from_value(value).unwrap();
        assert_eq!(state(&secret), written);
        assert!(is_of(&secret, &producer));
        let mut another = producer;
        another.meta.uid = Some("u2".to_owned());
        assert!(
            !is_of(&secret, &another),
            "a later object of the same name is another one"
        );
        assert_eq!(state(&Secret::default()), KeyState::default());
    }
}
