//! A request that came in parts, not as one JSON text: from protobuf, or from headers.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{
    MAX_DATA_DEPTH, Publish, PublishError, PublishErrorKind, PublishErrors, PublishLimits, check_key,
    fields::TARGETS, object::depth, source::without_place,
};
use crate::{Data, EventName, Room, Target, target::InvalidTarget};

/// The parts of one message, none of them checked.
#[derive(Clone, Debug, Default)]
pub struct PublishParts {
    /// Where it goes.
    pub to: Option<Target>,
    /// The Socket.IO event.
    pub event: String,
    /// The content.
    pub data: Option<DataPart>,
    /// Makes repeating the request safe.
    pub idempotency_key: Option<String>,
}

/// Content as it came. Its `Debug` shows the size only: payloads never reach a log.
#[derive(Clone)]
pub enum DataPart {
    /// What should be JSON.
    Json(String),
    /// Bytes.
    Binary(Bytes),
}

impl std::fmt::Debug for DataPart {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Json(json) => write!(formatter, "Json({} bytes)", json.len()),
            Self::Binary(bytes) => write!(formatter, "Binary({} bytes)", bytes.len()),
        }
    }
}

impl Publish {
    /// Checks a message that came in parts, by the rules that a JSON request is checked by. Every mistake is in the
    /// error, with its field but without a place: there is no text to have one in. The fields of content are `data` and
    /// `data_bytes`.
    pub fn of_parts(parts: PublishParts, limits: &PublishLimits) -> Result<Self, PublishErrors> {
        let mut reader = Reader {
            limits,
            errors: PublishErrors {
                errors: Vec::new(),
                total: 0,
            },
        };
        let target = reader.target(parts.to);
        let event = reader.event(&parts.event);
        let data = reader.data(parts.data);
        let key_is_right = parts.idempotency_key.as_deref().is_none_or(|key| reader.key(key));
        match (target, event, data) {
            (Some((to, rooms)), Some(event), Some(data)) if key_is_right => Ok(Self {
                to,
                rooms,
                event,
                data,
                idempotency_key: parts.idempotency_key,
            }),
            _ => Err(reader.errors),
        }
    }
}

struct Reader<'l> {
    limits: &'l PublishLimits,
    errors: PublishErrors,
}

impl Reader<'_> {
    fn note(&mut self, kind: PublishErrorKind, field: &str, message: String) {
        self.errors.push(|| PublishError {
            kind,
            field: field.to_owned(),
            line: 0,
            column: 0,
            message,
        });
    }

    fn wrong<T>(&mut self, field: &str, message: impl Into<String>) -> Option<T> {
        self.note(PublishErrorKind::Field, field, message.into());
        None
    }

    fn target(&mut self, target: Option<Target>) -> Option<(Target, Vec<Room>)> {
        let Some(target) = target else {
            return self.wrong("to", format!("missing; it is {TARGETS}"));
        };
        match target.rooms(self.limits.rooms) {
            Ok(rooms) => Some((target, rooms)),
            Err(InvalidTarget::Empty(field)) => self.wrong(field, "must name at least one"),
            Err(InvalidTarget::Room { field, source }) => self.wrong(&field, source.to_string()),
            Err(InvalidTarget::TooMany { field, count, limit }) => {
                let kind = PublishErrorKind::TooLarge {
                    limit: "rooms",
                    allowed: limit,
                };
                let message = format!("a message goes to at most {limit} rooms, this one names {count}");
                self.note(kind, field, message);
                None
            }
        }
    }

    fn event(&mut self, event: &str) -> Option<EventName> {
        match EventName::new(event) {
            Ok(event) => Some(event),
            Err(error) => self.wrong("event", error.to_string()),
        }
    }

    fn data(&mut self, data: Option<DataPart>) -> Option<Data> {
        match data {
            None => self.wrong(
                "data",
                "missing; it is any JSON (`null` is fine), or bytes in `data_bytes`",
            ),
            Some(DataPart::Binary(bytes)) => {
                self.bounded("data_bytes", bytes.len())?;
                Some(Data::Binary(bytes))
            }
            Some(DataPart::Json(text)) => {
                let text = Bytes::from(text);
                let json = match serde_json::from_slice::<&RawValue>(&text) {
                    Ok(json) => json.get(),
                    Err(error) => {
                        let place = match (error.line(), error.column()) {
                            (1, column) => format!("column {column}"),
                            (line, column) => format!("line {line}, column {column}"),
                        };
                        return self.wrong("data", format!("not JSON: {} ({place})", without_place(&error)));
                    }
                };
                self.bounded("data", json.len())?;
                if depth(json) > MAX_DATA_DEPTH {
                    let message =
                        format!("arrays and objects are nested more than {MAX_DATA_DEPTH} levels deep");
                    return self.wrong("data", message);
                }
                Some(Data::Json(text.slice_ref(json.as_bytes())))
            }
        }
    }

    fn bounded(&mut self, field: &str, bytes: usize) -> Option<()> {
        let allowed = self.limits.data_bytes;
        if bytes <= allowed {
            return Some(());
        }
        let kind = PublishErrorKind::TooLarge {
            limit: "data_bytes",
            allowed,
        };
        let message = format!("a message's data has at most {allowed} bytes, this one has {bytes}");
        self.note(kind, field, message);
        None
    }

    fn key(&mut self, key: &str) -> bool {
        check_key(key)
            .map_err(|error| self.wrong::<()>("idempotency_key", error.to_string()))
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::PublishRequest;

    fn parts() -> PublishParts {
        PublishParts {
            to: Some(Target::Room("lobby".to_owned())),
            event: "price".to_owned(),
            data: Some(DataPart::Json(" {\"eur\": 42.0}\n".to_owned())),
            idempotency_key: Some("k".to_owned()),
        }
    }

    fn refused(change: impl FnOnce(&mut PublishParts)) -> Vec<(String, String)> {
        let mut parts = parts();
        change(&mut parts);
        let errors = Publish::of_parts(parts, &PublishLimits::default()).unwrap_err();
        assert_eq!(errors.errors.len(), errors.total);
        let named = |error: PublishError| (error.field, error.message);
        errors.errors.into_iter().map(named).collect()
    }

    #[test]
    fn parts_become_what_the_same_json_becomes() {
        let json = r#"{"to":{"room":"lobby"},"event":"price","data": {"eur": 42.0} ,"idempotency_key":"k"}"#;
        let Ok(PublishRequest::One(from_json)) =
            PublishRequest::parse(&Bytes::from(json), &PublishLimits::default())
        else {
            panic!("it is a request")
        };
        assert_eq!(
            Publish::of_parts(parts(), &PublishLimits::default()),
            Ok(from_json)
        );
    }

    #[test]
    fn every_mistake_has_its_field() {
        let all = refused(|parts| *parts = PublishParts::default());
        let fields: Vec<_> = all.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(fields, ["to", "event", "data"]);
        for (change, field, message) in [
            (
                Box::new(|parts: &mut PublishParts| {
                    parts.to = Some(Target::Rooms(vec!["a".into(), String::new()]))
                }) as Box<dyn FnOnce(&mut PublishParts)>,
                "to.rooms[1]",
                "empty",
            ),
            (
                Box::new(|parts| parts.to = Some(Target::Users(vec![]))),
                "to.users",
                "at least one",
            ),
            (
                Box::new(|parts| parts.event = "connect".into()),
                "event",
                "reserved",
            ),
            (
                Box::new(|parts| parts.data = Some(DataPart::Json("{\"a\":}".into()))),
                "data",
                "not JSON: expected value (column 6)",
            ),
            (
                Box::new(|parts| parts.data = Some(DataPart::Json("[".repeat(129) + &"]".repeat(129)))),
                "data",
                "128 levels",
            ),
            (
                Box::new(|parts| parts.data = Some(DataPart::Binary(vec![0; (64 << 10) + 1].into()))),
                "data_bytes",
                "at most 65536",
            ),
            (
                Box::new(|parts| parts.idempotency_key = Some("\n".into())),
                "idempotency_key",
                "control characters",
            ),
        ] {
            let mistakes = refused(change);
            assert_eq!(mistakes.len(), 1, "{mistakes:?}");
            assert_eq!(mistakes[0].0, field);
            assert!(mistakes[0].1.contains(message), "{mistakes:?}");
        }
    }

    #[test]
    fn limits_are_named() {
        let limits = PublishLimits {
            rooms: 1,
            data_bytes: 4,
            ..PublishLimits::default()
        };
        let mut large = parts();
        large.to = Some(Target::Users(vec!["1".into(), "2".into()]));
        let errors = Publish::of_parts(large, &limits).unwrap_err();
        let kinds: Vec<_> = errors.errors.iter().map(|error| error.kind).collect();
        assert_eq!(
            kinds,
            [
                PublishErrorKind::TooLarge {
                    limit: "rooms",
                    allowed: 1
                },
                PublishErrorKind::TooLarge {
                    limit: "data_bytes",
                    allowed: 4
                },
            ]
        );
        assert!(!errors.to_string().contains("line"), "{errors}");
    }
}
