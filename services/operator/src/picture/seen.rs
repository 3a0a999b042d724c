//! One object as it was last seen, whether its spec can be read or not.

use k8s_openapi::{
    api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp,
};
use kube::core::DynamicObject;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// An object. A spec that can't be read stops nothing but itself.
#[derive(Clone, Debug)]
pub(crate) struct Seen<S> {
    /// Its kind.
    pub(crate) kind: &'static str,
    /// Its metadata, which is always readable.
    pub(crate) meta: ObjectMeta,
    /// Its spec, or what can't be read of it.
    pub(crate) spec: Result<S, String>,
    /// Its status as it is in the API.
    pub(crate) status: Value,
}

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

impl<S: DeserializeOwned> Seen<S> {
    /// Reads an object as far as that can be done.
    pub(crate) fn read(kind: &'static str, object: &DynamicObject) -> Self {
        let spec = object.data.get("spec").cloned().unwrap_or(Value::Null);
        Self {
            kind,
            meta: object.metadata.clone(),
            spec: serde_json::from_value(spec).map_err(|error| error.to_string()),
            status: object.data.get("status").cloned().unwrap_or(Value::Null),
        }
    }
}

impl<S> Seen<S> {
    /// Where it is.
    pub(crate) fn place(&self) -> Place {
        Place {
            namespace: self.meta.namespace.clone().unwrap_or_default(),
            name: self.meta.name.clone().unwrap_or_default(),
        }
    }

    /// Its identity, which no later object of the same name has.
    pub(crate) fn uid(&self) -> &str {
        self.meta.uid.as_deref().unwrap_or_default()
    }

    /// How often its spec was changed.
    pub(crate) fn generation(&self) -> i64 {
        self.meta.generation.unwrap_or_default()
    }

    /// What orders objects by age: the older first, and never two alike.
    pub(crate) fn age(&self) -> (Timestamp, Place) {
        let created = self.meta.creation_timestamp.as_ref();
        (created.map_or(Timestamp::MAX, |time| time.0), self.place())
    }

    /// Whether it is on its way out.
    pub(crate) fn is_deleted(&self) -> bool {
        self.meta.deletion_timestamp.is_some()
    }

    /// An annotation.
    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        self.meta.annotations.as_ref()?.get(name).map(String::as_str)
    }

    /// How Events name it.
    pub(crate) fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(format!("{}/v1alpha1", crate::resources::GROUP)),
            kind: Some(self.kind.to_owned()),
            name: self.meta.name.clone(),
            namespace: self.meta.namespace.clone(),
            uid: self.meta.uid.clone(),
            ..ObjectReference::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::PushRoomSpec;

    fn object(spec: &Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "carillon.dev/v1alpha1",
            "kind": "PushRoom",
            "metadata": { "name": "lobby", "namespace": "shop", "uid": "u", "generation": 3 },
            "spec": spec,
            "status": { "conditions": [{ "type": "Accepted" }, {
                "type": "Programmed", "status": "True", "observedGeneration": 2, "reason": "Programmed",
                "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
            }] },
        }))
        .unwrap()
    }

    #[test]
    fn an_unreadable_spec_leaves_the_rest_readable() {
        let good: Seen<PushRoomSpec> = Seen::read("PushRoom", &object(&json!({ "match": "lobby*" })));
        assert_eq!(good.spec.unwrap().pattern, "lobby*");
        let bad: Seen<PushRoomSpec> = Seen::read("PushRoom", &object(&json!({ "match": 7 })));
        assert!(
            bad.spec
                .as_ref()
                .is_err_and(|error| error.contains("invalid type"))
        );
        assert_eq!(
            (bad.place().to_string().as_str(), bad.generation()),
            ("shop/lobby", 3)
        );
        assert!(
            bad.status["conditions"].is_array(),
            "its status is there all the same"
        );
        assert_eq!(bad.reference().kind.as_deref(), Some("PushRoom"));
    }
}
