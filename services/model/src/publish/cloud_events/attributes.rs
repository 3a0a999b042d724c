//! What every event must have, however it came, and the message that it becomes.

use indexmap::IndexMap;
use sha2::{Digest, Sha256};

use crate::{
    Data, EventName,
    policy::EventRoute,
    publish::{Publish, PublishLimits},
    target::InvalidTarget,
};

/// The attributes that specification gives a meaning (spec.md, "Context Attributes"). All of them are texts.
const KNOWN: [&str; 8] = [
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "datacontenttype",
    "dataschema",
    "time",
];

/// Whether an attribute is none of an extension's.
pub(super) fn is_known(name: &str) -> bool {
    KNOWN.contains(&name)
}

/// The attributes that an event has, by name. An attribute that is set to `null` is not there, and one that is no text
/// has no value: what is wrong with it was noted.
#[derive(Debug, Default)]
pub(super) struct Attributes(pub(super) IndexMap<String, Option<String>>);

impl Attributes {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_deref()
    }

    fn is_missing(&self, name: &str) -> bool {
        !self.0.contains_key(name)
    }

    /// The message of an event, unless something was noted: an attribute's name, and what is wrong with it.
    pub(super) fn message(
        &self,
        data: Option<Data>,
        route: &EventRoute,
        limits: &PublishLimits,
        mut note: impl FnMut(&str, String),
    ) -> Option<Publish> {
        let mut right = true;
        let mut wrong = |attribute: &str, message: String| {
            right = false;
            note(attribute, message);
        };
        for (name, value) in &self.0 {
            let Some(value) = value else {
                continue;
            };
            if value.is_empty() && is_known(name) {
                wrong(name, "must not be empty".to_owned());
            }
            if value.chars().any(char::is_control) {
                wrong(name, "must not contain control characters".to_owned());
            }
        }
        match self.get("specversion") {
            Some("1.0" | "") => {}
            Some(other) => {
                let other: String = other.chars().take(20).collect();
                wrong(
                    "specversion",
                    format!("only CloudEvents `1.0` are understood; found `{other}`"),
                );
            }
            None if self.is_missing("specversion") => wrong("specversion", "missing; it is `1.0`".to_owned()),
            None => {}
        }
        for (name, what) in [
            ("id", "together with `source`, the name of this one event"),
            ("source", "where the event comes from, like `/shop`"),
            (
                "type",
                "the kind of event, which becomes the name of the Socket.IO event",
            ),
        ] {
            if self.is_missing(name) {
                wrong(name, format!("missing; it is {what}"));
            }
        }
        let event = self.get("type").filter(|text| !text.is_empty()).and_then(|text| {
            EventName::new(text)
                .map_err(|error| wrong("type", error.to_string()))
                .ok()
        });
        let (to, rooms) = match route.target(|name| self.get(name)) {
            Ok(target) => match target.rooms(limits.rooms) {
                Ok(rooms) => (target, rooms),
                Err(error) => {
                    let culprit = route.attributes().next().unwrap_or("type");
                    let error = match error {
                        InvalidTarget::Room { source, .. } => source.to_string(),
                        other => other.to_string(),
                    };
                    wrong(culprit, format!("policy sends events to `{route}`: {error}"));
                    return None;
                }
            },
            Err(absent) => {
                // That the others are missing was said above.
                if absent == "subject" && self.is_missing(absent) {
                    wrong(absent, format!("missing; policy sends events to `{route}`"));
                }
                return None;
            }
        };
        let key = key(self.get("source")?, self.get("id")?);
        let (event, data) = (event?, data?);
        right.then_some(Publish {
            to,
            rooms,
            event,
            data,
            idempotency_key: Some(key),
        })
    }
}

/// The idempotency key of an event. Both parts may be longer than a key, so their hash is it.
fn key(source: &str, id: &str) -> String {
    let mut hash = Sha256::new();
    hash.update((source.len() as u64).to_be_bytes());
    hash.update(source);
    hash.update(id);
    format!("cloudevent:{}", hex::encode(hash.finalize()))
}
