//! An event as one JSON object (JSON format, sections 2 and 3), or an array of them (section 4).

use indexmap::IndexMap;
use serde_json::value::RawValue;

use super::{
    attributes::{Attributes, is_known},
    content::{MediaType, Unfit},
};
use crate::{
    Data,
    policy::EventRoute,
    publish::{
        Publish, PublishErrors, PublishLimits, PublishRequest, fields::Reader, object::type_of,
        source::Source,
    },
};

/// Reads the whole request; `None` if a mistake was noted.
pub(super) fn request<'a>(
    source: &Source<'a>,
    root: &'a RawValue,
    batched: bool,
    route: &EventRoute,
    limits: &PublishLimits,
    errors: &mut PublishErrors,
) -> Option<PublishRequest> {
    let mut reader = Reader::new(source, limits, errors);
    match (batched, type_of(root)) {
        (false, "an object") => event(&mut reader, root, route).map(PublishRequest::One),
        (true, "an array") => {
            let events = reader.elements(root)?;
            let messages = reader.each(events, |reader, value| event(reader, value, route));
            Some(PublishRequest::Batch(messages))
        }
        (false, other) => {
            let hint = "expected an event as an object (a batch has the content type \
                        `application/cloudevents-batch+json`)";
            reader.wrong(root, "", format!("{hint}; found {other}"))
        }
        (true, other) => reader.wrong(root, "", format!("expected an array of events; found {other}")),
    }
}

fn event<'a>(reader: &mut Reader<'_, 'a>, value: &'a RawValue, route: &EventRoute) -> Option<Publish> {
    let members = reader.members(value, "", "a CloudEvent is an object")?;
    let mut places: IndexMap<String, &'a RawValue> = IndexMap::with_capacity(members.len());
    let mut attributes = Attributes::default();
    let mut right = true;
    for (name, value) in members {
        let field: String = name.chars().take(64).collect();
        if places.insert(name.clone(), value).is_some() {
            right = false;
            reader.wrong::<()>(value, &field, "this attribute is there twice");
            continue;
        }
        if matches!(name.as_str(), "data" | "data_base64") || type_of(value) == "null" {
            continue;
        }
        let text = attribute(reader, &name, &field, value);
        right &= text.is_some();
        attributes.0.insert(name, text);
    }
    let content_type = MediaType::new(attributes.get("datacontenttype").unwrap_or_default());
    let data = data(reader, &places, &content_type);
    let limits = reader.limits;
    let message = attributes.message(data, route, limits, |name, message| {
        reader.wrong::<()>(places.get(name).copied().unwrap_or(value), name, message);
    });
    message.filter(|_| right)
}

/// An attribute as text. Those of extensions may also be whole numbers and booleans (JSON format, section 2.2); nothing
/// looks at them, so their text is as good as they are.
fn attribute<'a>(
    reader: &mut Reader<'_, 'a>,
    name: &str,
    field: &str,
    value: &'a RawValue,
) -> Option<String> {
    let named = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if !named {
        let message = "no attribute has such a name: lower-case letters and digits only, besides `data` and `data_base64`";
        return reader.wrong(value, field, message);
    }
    match type_of(value) {
        "a string" => reader.text(value, field),
        "a boolean" if !is_known(name) => Some(value.get().to_owned()),
        "a number" if !is_known(name) => {
            if is_integer(value.get()) {
                Some(value.get().to_owned())
            } else {
                reader.wrong(
                    value,
                    field,
                    "a number in an extension's attribute is a whole one of 32 bits",
                )
            }
        }
        other if is_known(name) => reader.wrong(value, field, format!("expected a string, found {other}")),
        other => reader.wrong(
            value,
            field,
            format!("an extension's attribute is a string, a whole number or a boolean; found {other}"),
        ),
    }
}

/// Whether a number is an Integer of CloudEvents (section 3.1): whole, of 32 bits, with a sign.
fn is_integer(number: &str) -> bool {
    let whole =
        |number: &f64| number.fract() == 0.0 && (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(number);
    number.parse().is_ok_and(|number: f64| whole(&number))
}

/// The event's data (JSON format, section 3.1). `null` in `data` is data as anything else.
fn data<'a>(
    reader: &mut Reader<'_, 'a>,
    members: &IndexMap<String, &'a RawValue>,
    content_type: &MediaType,
) -> Option<Data> {
    let base64 = members
        .get("data_base64")
        .filter(|value| type_of(value) != "null");
    match (members.get("data"), base64) {
        (None, None) => Some(Data::NULL),
        (Some(json), None) => reader.json(json),
        (Some(_), Some(base64)) => reader.wrong(
            base64,
            "data_base64",
            "an event has either `data` or `data_base64`, not both",
        ),
        (None, Some(base64)) => {
            let bytes = reader.bytes(base64)?;
            match content_type.data(&bytes) {
                Ok(data) => {
                    reader.bounded(base64, "data_base64", data.len())?;
                    Some(data)
                }
                Err(Unfit::Other(message)) => reader.wrong(base64, "data_base64", message),
                Err(Unfit::Syntax(_)) => {
                    let essence = &content_type.essence;
                    let message = format!("`datacontenttype` is `{essence}`, but decoded this is no JSON");
                    reader.wrong(base64, "data_base64", message)
                }
            }
        }
    }
}
