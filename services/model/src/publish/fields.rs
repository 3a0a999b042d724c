//! The fields of a request, one after the other.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use serde_json::value::RawValue;

use super::{
    MAX_DATA_DEPTH, Publish, PublishErrorKind, PublishErrors, PublishLimits, PublishRequest, check_key,
    object::{Members, depth, type_of},
    source::{Source, without_place},
};
use crate::{Data, EventName, Room, Target, target::InvalidTarget};

const KNOWN: &str = "`to`, `event`, `data`, `data_base64`, `idempotency_key`";
pub(super) const TARGETS: &str =
    "`\"all\"`, or an object with one of `room`, `rooms`, `user`, `users`, `session`";

/// Standard base64; its padding may be left out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads the whole request; `None` if a mistake was noted.
pub(super) fn request<'a>(
    source: &Source<'a>,
    root: &'a RawValue,
    limits: &PublishLimits,
    errors: &mut PublishErrors,
) -> Option<PublishRequest> {
    let mut reader = Reader::new(source, limits, errors);
    match type_of(root) {
        "an object" => reader.message(root).map(PublishRequest::One),
        "an array" => reader.batch(root).map(PublishRequest::Batch),
        other => reader.wrong(
            root,
            "",
            format!("expected a message as an object, or an array of messages; found {other}"),
        ),
    }
}

/// Reads values and notes what is wrong with them.
pub(super) struct Reader<'s, 'a> {
    source: &'s Source<'a>,
    pub(super) limits: &'s PublishLimits,
    errors: &'s mut PublishErrors,
    /// `[3].` inside of a batch.
    prefix: String,
}

impl<'s, 'a> Reader<'s, 'a> {
    pub(super) fn new(
        source: &'s Source<'a>,
        limits: &'s PublishLimits,
        errors: &'s mut PublishErrors,
    ) -> Self {
        Self {
            source,
            limits,
            errors,
            prefix: String::new(),
        }
    }

    fn note(&mut self, kind: PublishErrorKind, value: &'a RawValue, field: &str, message: String) {
        let (source, prefix) = (self.source, &self.prefix);
        self.errors.push(|| {
            let path = format!("{prefix}{field}");
            source.error(kind, value, path.trim_end_matches('.').to_owned(), message)
        });
    }

    /// Notes a mistake. It is an expression, because the field has no value then.
    pub(super) fn wrong<T>(
        &mut self,
        value: &'a RawValue,
        field: &str,
        message: impl Into<String>,
    ) -> Option<T> {
        self.note(PublishErrorKind::Field, value, field, message.into());
        None
    }

    fn too_large<T>(
        &mut self,
        value: &'a RawValue,
        field: &str,
        (limit, allowed): (&'static str, usize),
        message: String,
    ) -> Option<T> {
        self.note(
            PublishErrorKind::TooLarge { limit, allowed },
            value,
            field,
            message,
        );
        None
    }

    fn batch(&mut self, array: &'a RawValue) -> Option<Vec<Publish>> {
        let messages = self.elements(array)?;
        if messages.is_empty() {
            return self.wrong(array, "", "a batch needs at least one message");
        }
        Some(self.each(messages, Self::message))
    }

    /// The messages of a batch, within its limit.
    pub(super) fn elements(&mut self, array: &'a RawValue) -> Option<Vec<&'a RawValue>> {
        let messages = match serde_json::from_str::<Vec<&'a RawValue>>(array.get()) {
            Ok(messages) => messages,
            Err(error) => return self.wrong(array, "", without_place(&error)),
        };
        if messages.len() > self.limits.batch {
            let (count, allowed) = (messages.len(), self.limits.batch);
            return self.too_large(
                array,
                "",
                ("batch", allowed),
                format!("a batch has at most {allowed} messages, this one has {count}; send several"),
            );
        }
        Some(messages)
    }

    /// Reads each message of a batch; those with mistakes are left out.
    pub(super) fn each(
        &mut self,
        messages: Vec<&'a RawValue>,
        read: impl Fn(&mut Self, &'a RawValue) -> Option<Publish>,
    ) -> Vec<Publish> {
        let mut publishes = Vec::with_capacity(messages.len());
        for (place, message) in messages.into_iter().enumerate() {
            self.prefix = format!("[{place}].");
            publishes.extend(read(self, message));
        }
        self.prefix.clear();
        publishes
    }

    fn message(&mut self, value: &'a RawValue) -> Option<Publish> {
        let members = self.members(value, "", "a message is an object")?;
        let (mut to, mut event, mut data, mut binary, mut key) = (None, None, None, None, None);
        let mut valid = true;
        for (name, value) in members {
            let slot = match name.as_str() {
                "to" => &mut to,
                "event" => &mut event,
                "data" => &mut data,
                "data_base64" => &mut binary,
                "idempotency_key" => &mut key,
                "ttl" | "at" | "receipt" | "exclude" => {
                    valid = false;
                    self.wrong::<()>(value, &name, "not supported by this version; leave it out");
                    continue;
                }
                _ => {
                    valid = false;
                    let name: String = name.chars().take(64).collect();
                    self.wrong::<()>(value, &name, format!("unknown field; known are {KNOWN}"));
                    continue;
                }
            };
            if slot.replace(value).is_some() {
                valid = false;
                self.wrong::<()>(value, &name, "this field is there twice");
            }
        }
        let target = self
            .required(value, "to", to, TARGETS)
            .and_then(|to| self.target(to));
        let event = self
            .required(value, "event", event, "the name of the Socket.IO event")
            .and_then(|event| self.event(event));
        let data = self.data(value, data, binary);
        let idempotency_key = match key {
            Some(key) => Some(self.key(key)?),
            None => None,
        };
        let (to, rooms) = target?;
        valid.then_some(Publish {
            to,
            rooms,
            event: event?,
            data: data?,
            idempotency_key,
        })
    }

    pub(super) fn members(
        &mut self,
        value: &'a RawValue,
        field: &str,
        expected: &str,
    ) -> Option<Vec<(String, &'a RawValue)>> {
        if type_of(value) != "an object" {
            return self.wrong(value, field, format!("{expected}; found {}", type_of(value)));
        }
        match serde_json::from_str::<Members<'a>>(value.get()) {
            Ok(members) => Some(members.0),
            // All that is left to be wrong in valid JSON: a name with an escape that is no Unicode.
            Err(error) => {
                let message = format!("a field's name is no text: {}", without_place(&error));
                self.wrong(value, field, message)
            }
        }
    }

    fn required(
        &mut self,
        message: &'a RawValue,
        field: &str,
        value: Option<&'a RawValue>,
        what: &str,
    ) -> Option<&'a RawValue> {
        match value {
            Some(value) => Some(value),
            None => self.wrong(message, field, format!("missing; it is {what}")),
        }
    }

    pub(super) fn text(&mut self, value: &'a RawValue, field: &str) -> Option<String> {
        if type_of(value) != "a string" {
            return self.wrong(
                value,
                field,
                format!("expected a string, found {}", type_of(value)),
            );
        }
        match serde_json::from_str(value.get()) {
            Ok(text) => Some(text),
            Err(error) => self.wrong(value, field, format!("not a text: {}", without_place(&error))),
        }
    }

    fn texts(&mut self, value: &'a RawValue, field: &str) -> Option<Vec<String>> {
        if type_of(value) != "an array" {
            let message = format!("expected an array of strings, found {}", type_of(value));
            return self.wrong(value, field, message);
        }
        let values = match serde_json::from_str::<Vec<&'a RawValue>>(value.get()) {
            Ok(values) => values,
            Err(error) => return self.wrong(value, field, without_place(&error)),
        };
        let count = values.len();
        let texts: Vec<String> = values
            .into_iter()
            .enumerate()
            .filter_map(|(place, value)| self.text(value, &format!("{field}[{place}]")))
            .collect();
        (texts.len() == count).then_some(texts)
    }

    fn target(&mut self, value: &'a RawValue) -> Option<(Target, Vec<Room>)> {
        let target = self.unchecked_target(value)?;
        match target.rooms(self.limits.rooms) {
            Ok(rooms) => Some((target, rooms)),
            Err(error) => match &error {
                InvalidTarget::Empty(field) => self.wrong(value, field, "must name at least one"),
                InvalidTarget::Room { field, source } => self.wrong(value, field, source.to_string()),
                InvalidTarget::TooMany { field, count, limit } => self.too_large(
                    value,
                    field,
                    ("rooms", *limit),
                    format!("a message goes to at most {limit} rooms, this one names {count}"),
                ),
            },
        }
    }

    fn unchecked_target(&mut self, value: &'a RawValue) -> Option<Target> {
        if type_of(value) == "a string" {
            return match self.text(value, "to")?.as_str() {
                "all" => Some(Target::All),
                _ => self.wrong(value, "to", format!("expected {TARGETS}; found another string")),
            };
        }
        let mut members = self.members(value, "to", &format!("expected {TARGETS}"))?;
        let (Some((name, value)), true) = (members.pop(), members.is_empty()) else {
            return self.wrong(value, "to", format!("expected {TARGETS}: exactly one of them"));
        };
        match name.as_str() {
            "room" => self.text(value, "to.room").map(Target::Room),
            "rooms" => self.texts(value, "to.rooms").map(Target::Rooms),
            "user" => self.text(value, "to.user").map(Target::User),
            "users" => self.texts(value, "to.users").map(Target::Users),
            "session" => self.text(value, "to.session").map(Target::Session),
            other => {
                let field: String = format!("to.{other}").chars().take(64).collect();
                self.wrong(value, &field, format!("unknown field; `to` is {TARGETS}"))
            }
        }
    }

    fn event(&mut self, value: &'a RawValue) -> Option<EventName> {
        let name = self.text(value, "event")?;
        match EventName::new(&name) {
            Ok(event) => Some(event),
            Err(error) => self.wrong(value, "event", error.to_string()),
        }
    }

    fn data(
        &mut self,
        message: &'a RawValue,
        json: Option<&'a RawValue>,
        base64: Option<&'a RawValue>,
    ) -> Option<Data> {
        match (json, base64) {
            (Some(json), None) => self.json(json),
            (None, Some(base64)) => self.binary(base64),
            (None, None) => self.wrong(
                message,
                "data",
                "missing; it is any JSON (`null` is fine), or bytes in `data_base64`",
            ),
            (Some(_), Some(base64)) => self.wrong(
                base64,
                "data_base64",
                "a message has either `data` or `data_base64`, not both",
            ),
        }
    }

    pub(super) fn json(&mut self, value: &'a RawValue) -> Option<Data> {
        self.bounded(value, "data", value.get().len())?;
        if depth(value.get()) > MAX_DATA_DEPTH {
            let message = format!("arrays and objects are nested more than {MAX_DATA_DEPTH} levels deep");
            return self.wrong(value, "data", message);
        }
        Some(Data::Json(self.source.bytes(value)))
    }

    fn binary(&mut self, value: &'a RawValue) -> Option<Data> {
        self.bytes(value).map(Data::Binary)
    }

    /// What is base64 in a value.
    pub(super) fn bytes(&mut self, value: &'a RawValue) -> Option<Bytes> {
        let text = self.text(value, "data_base64")?;
        match BASE64.decode(&text) {
            Ok(bytes) => {
                self.bounded(value, "data_base64", bytes.len())?;
                Some(bytes.into())
            }
            Err(error) => self.wrong(value, "data_base64", format!("not standard base64: {error}")),
        }
    }

    pub(super) fn bounded(&mut self, value: &'a RawValue, field: &str, bytes: usize) -> Option<()> {
        let allowed = self.limits.data_bytes;
        if bytes <= allowed {
            return Some(());
        }
        let message = format!("a message's data has at most {allowed} bytes, this one has {bytes}");
        self.too_large(value, field, ("data_bytes", allowed), message)
    }

    fn key(&mut self, value: &'a RawValue) -> Option<String> {
        let key = self.text(value, "idempotency_key")?;
        match check_key(&key) {
            Ok(()) => Some(key),
            Err(error) => self.wrong(value, "idempotency_key", error.to_string()),
        }
    }
}
