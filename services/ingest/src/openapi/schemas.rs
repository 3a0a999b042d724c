//! The schemas that operations refer to.

use carillon_chassis::metrics::MetricLabel;
use carillon_model::publish::MAX_KEY_BYTES;
use carillon_model::{EventName, Room};
use utoipa::openapi::{ArrayBuilder, ObjectBuilder, OneOfBuilder, RefOr, Schema, SchemaFormat, Type};

use super::parts::{anything, count, reference, string, text, word};
use crate::{IngestSettings, problem::Kind};

/// All of them, by name.
pub(super) fn all(settings: &IngestSettings) -> Vec<(&'static str, RefOr<Schema>)> {
    let rooms = settings.limits.rooms;
    let data = settings.limits.data_bytes;
    vec![
        (
            "Publish",
            one_of("One message, or a batch.", ["Message", "Batch"]).into(),
        ),
        ("Batch", batch(settings).into()),
        (
            "Message",
            one_of(
                "A message with JSON, or one with bytes.",
                ["JsonMessage", "BytesMessage"],
            )
            .into(),
        ),
        (
            "JsonMessage",
            message("A message with JSON.")
                .property("data", any_json(data))
                .required("data")
                .into(),
        ),
        (
            "BytesMessage",
            message("A message with bytes.")
                .property("data_base64", base64(data))
                .required("data_base64")
                .into(),
        ),
        ("Target", target(rooms).into()),
        ("Accepted", accepted().into()),
        (
            "AcceptedBatch",
            ArrayBuilder::new()
                .items(reference("Accepted"))
                .description(Some("One answer for each message, in their order."))
                .into(),
        ),
        ("Presence", presence().into()),
        ("Problem", problem().into()),
    ]
    .into_iter()
    .chain(super::cloud_events::schemas(data))
    .collect()
}

/// An object that has nothing else than what is named.
pub(super) fn closed(description: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some(description))
        .additional_properties(Some(utoipa::openapi::schema::AdditionalProperties::FreeForm(
            false,
        )))
}

fn open(description: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some(description))
}

fn one_of<const N: usize>(description: &str, names: [&str; N]) -> OneOfBuilder {
    names.into_iter().fold(
        OneOfBuilder::new().description(Some(description)),
        |schema, name| schema.item(reference(name)),
    )
}

/// Any JSON.
pub(super) fn any_json(most: usize) -> Schema {
    let mut schema = anything();
    if let Schema::Object(object) = &mut schema {
        let description = format!(
            "Any JSON, `null` included, of at most {most} bytes and 128 levels. It reaches clients as it was written, byte \
             for byte."
        );
        object.description = Some(description);
    }
    schema
}

/// Bytes in JSON.
pub(super) fn base64(most: usize) -> ObjectBuilder {
    string(&format!(
        "At most {most} bytes, as standard base64. Clients get a binary attachment."
    ))
    .content_encoding("base64")
    .pattern(Some(
        "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw](?:==)?|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=?)?$",
    ))
}

fn message(description: &str) -> ObjectBuilder {
    closed(description)
        .property("to", reference("Target"))
        .required("to")
        .property(
            "event",
            text(
                "The Socket.IO event: at most 200 bytes of UTF-8, and none that Socket.IO or Carillon raise themselves \
                 (`connect`, `disconnect`, `cursors`, …).",
                Some(EventName::MAX_BYTES),
            ),
        )
        .required("event")
        .property(
            "idempotency_key",
            text(
                "Your own name for this message, which makes repeating it safe. At most 200 bytes of UTF-8.",
                Some(MAX_KEY_BYTES),
            ),
        )
}

fn batch(settings: &IngestSettings) -> ArrayBuilder {
    ArrayBuilder::new()
        .items(reference("Message"))
        .min_items(Some(1))
        .max_items(Some(settings.limits.batch))
        .description(Some(format!(
            "Several messages. All are checked before any is written. All of them times their rooms are at most {}.",
            settings.request_copies
        )))
}

fn target(rooms: usize) -> OneOfBuilder {
    let room = || {
        text(
            "A room's name: at most 200 bytes of UTF-8.",
            Some(Room::MAX_BYTES),
        )
    };
    let id = |what: &str, prefix: &str| text(what, Some(Room::MAX_BYTES - prefix.len()));
    let user = || id("A user's id.", "user:");
    let list = |items: ObjectBuilder| {
        ArrayBuilder::new()
            .items(items)
            .min_items(Some(1))
            .max_items(Some(rooms))
    };
    let one = |title: &str, description: &str, name: &str, schema: RefOr<Schema>| {
        closed(description)
            .title(Some(title))
            .property(name, schema)
            .required(name)
    };
    OneOfBuilder::new()
        .description(Some(
            "Where a message goes. A session that is in several of its rooms gets it once.",
        ))
        .item(
            word(["all"])
                .title(Some("all"))
                .description(Some("Every session.")),
        )
        .item(one("room", "One room.", "room", room().into()))
        .item(one("rooms", "Several rooms.", "rooms", list(room()).into()))
        .item(one("user", "All sessions of a user.", "user", user().into()))
        .item(one(
            "users",
            "All sessions of several users.",
            "users",
            list(user()).into(),
        ))
        .item(one(
            "session",
            "One connection, by its Socket.IO id.",
            "session",
            id("A session's id.", "session:").into(),
        ))
}

fn uuid() -> ObjectBuilder {
    string("The message's id, the same in all its rooms. Clients get it in `meta.id`.")
        .format(Some(SchemaFormat::Custom("uuid".to_owned())))
}

fn offset() -> ObjectBuilder {
    string("The message's place in the room: opaque, and greater than that of every message before.")
}

fn accepted() -> ObjectBuilder {
    let placement = open("A room, and the message's place in it.")
        .property("room", string("The room's name."))
        .required("room")
        .property("offset", offset())
        .required("offset");
    open("A message that is kept.")
        .property("id", uuid())
        .required("id")
        .property("rooms", ArrayBuilder::new().items(placement))
        .required("rooms")
}

fn presence() -> ObjectBuilder {
    open("Who is in a room.")
        .property("room", string("The room's name."))
        .required("room")
        .property(
            "users",
            ArrayBuilder::new()
                .items(string("A user's id."))
                .description(Some(
                    "Each user once. Sessions without a user are in `sessions` only.",
                )),
        )
        .required("users")
        .property("sessions", count("How many sessions are in it.", 0))
        .required("sessions")
        .property(
            "truncated",
            ObjectBuilder::new()
                .schema_type(Type::Boolean)
                .description(Some("There are more users than are named.")),
        )
}

fn problem() -> ObjectBuilder {
    let uris: Vec<String> = Kind::ALL.iter().map(|kind| kind.uri()).collect();
    let mistake = open("One mistake.")
        .property("field", string("The field's path, like `[3].to.rooms[1]`."))
        .property("line", count("The line of the body.", 1))
        .property("column", count("The column, in bytes.", 1))
        .property("detail", string("What is wrong."));
    let room = open("What became of a message in one room.")
        .property("room", string("The room's name."))
        .required("room")
        .property("outcome", word(["accepted", "refused", "unknown"]))
        .required("outcome")
        .property("offset", offset());
    let known = open("What is known of a message.")
        .property("id", uuid())
        .property("rooms", ArrayBuilder::new().items(room));
    let required = [
        (
            "type",
            word(uris.iter().map(String::as_str)).description(Some("What kind of problem it is.")),
        ),
        ("title", string("The same for people.")),
        (
            "status",
            count("The status of the answer.", 400).maximum(Some(599)),
        ),
        ("detail", string("What was wrong, where, and what to do.")),
    ];
    let optional: [(&str, RefOr<Schema>); 10] = [
        (
            "outcome",
            word(["refused", "partial", "unknown"])
                .description(Some(
                    "What became of the request: nothing was written, a part was, or it is not known. The last two are \
                     completed by repeating it with the same idempotency keys.",
                ))
                .into(),
        ),
        ("retry_after", count("As the header `Retry-After`.", 1).into()),
        ("field", string("The field or header with the first mistake; empty for the whole body.").into()),
        ("line", count("Its line of the body.", 1).into()),
        ("column", count("Its column, in bytes.", 1).into()),
        ("room", string("The room that is not for this producer.").into()),
        ("limit", string("The setting that is the limit.").into()),
        ("allowed", count("Its value.", 0).into()),
        (
            "errors",
            ArrayBuilder::new()
                .items(mistake)
                .description(Some("The first mistakes, where there are several."))
                .into(),
        ),
        ("errors_total", count("How many mistakes there are.", 2).into()),
    ];
    let schema = required.into_iter().fold(
        open("Why a request was refused (RFC 9457)."),
        |schema, (name, property)| schema.property(name, property).required(name),
    );
    optional
        .into_iter()
        .fold(schema, |schema, (name, property)| schema.property(name, property))
        .property(
            "messages",
            ArrayBuilder::new().items(known).description(Some(
                "What is known of each message, where the outcome is not `refused`.",
            )),
        )
}
