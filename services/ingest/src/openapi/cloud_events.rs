//! `POST /v1/cloudevents`.

use carillon_model::publish::cloud_events::ContentMode;
use serde_json::json;
use utoipa::openapi::{
    ArrayBuilder, ObjectBuilder, OneOfBuilder, RefOr, Schema, Type,
    path::OperationBuilder,
    request_body::RequestBodyBuilder,
    schema::{AnyOfBuilder, SchemaType},
};

use super::{
    parts::{
        MESSAGES, answer, answering, content, header_parameter, operation as named, reference, secured,
        string, text, with_rate_headers, word,
    },
    problems,
    schemas::{any_json, base64},
};
use crate::IngestSettings;

const DESCRIPTION: &str = "[CloudEvents](https://cloudevents.io) 1.0 in structured, binary and batched mode. Where they go \
    is said in the policy, `cloudevents: { to: { room: \"orders-{subject}\" } }`: a template of a room's name or of a user's \
    id, with the attributes `{subject}`, `{source}` and `{type}`.\n\n\
    `type` becomes the Socket.IO event; `source` and `id` are the idempotency key, so that a redelivered event is one \
    message. Of the event only its data goes to clients: JSON as it was written, text (`text/…`) as a JSON string, and \
    anything else as bytes. Other media types than those listed here are events in binary mode too.";

/// What every event has, and what it may have.
const ATTRIBUTES: [(&str, &str, bool); 7] = [
    ("id", "With `source`, the name of this one event.", true),
    ("source", "Where it comes from: a URI reference.", true),
    (
        "type",
        "The kind of event, and the name of the Socket.IO event: at most 200 bytes of UTF-8.",
        true,
    ),
    (
        "subject",
        "What it is about. Needed where the policy's template names it.",
        false,
    ),
    ("datacontenttype", "What its data is; without it JSON.", false),
    ("dataschema", "A URI of the data's schema.", false),
    ("time", "When it happened (RFC 3339).", false),
];

pub(super) fn schemas(data: usize) -> Vec<(&'static str, RefOr<Schema>)> {
    let json = event(
        "An event with JSON, or without data.",
        "^([a-z0-9]+|data_base64)$",
    )
    .property("data", any_json(data))
    .property("data_base64", ObjectBuilder::new().schema_type(Type::Null));
    let bytes = event("An event with bytes.", "^(?!data$)([a-z0-9]+|data_base64)$")
        .property("data_base64", base64(data))
        .required("data_base64");
    vec![
        (
            "CloudEvent",
            OneOfBuilder::new()
                .description(Some("A CloudEvent in the JSON format."))
                .item(reference("JsonEvent"))
                .item(reference("BytesEvent"))
                .into(),
        ),
        ("JsonEvent", json.into()),
        ("BytesEvent", bytes.into()),
        (
            "CloudEventBatch",
            ArrayBuilder::new()
                .items(reference("CloudEvent"))
                .description(Some("Several events, or none."))
                .into(),
        ),
    ]
}

/// What is not set may be said to be null (JSON format, section 2.2).
fn attribute(name: &str, description: &str, required: bool) -> ObjectBuilder {
    let text = text(description, (name == "type").then_some(200));
    if required {
        text
    } else {
        text.schema_type(SchemaType::from_iter([Type::String, Type::Null]))
    }
}

fn event(description: &str, names: &str) -> ObjectBuilder {
    let extension = AnyOfBuilder::new()
        .description(Some("An extension's attribute. It does not travel."))
        .item(
            ObjectBuilder::new()
                .schema_type(Type::String)
                .pattern(Some(r"^[^\u0000-\u001f\u007f-\u009f]*$")),
        )
        .item(
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .minimum(Some(i32::MIN))
                .maximum(Some(i32::MAX)),
        )
        .item(ObjectBuilder::new().schema_type(Type::Boolean))
        // What is not set may be said to be null (JSON format, section 2.2).
        .item(ObjectBuilder::new().schema_type(Type::Null));
    let schema = ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some(description))
        .property_names(Some(Schema::from(
            ObjectBuilder::new()
                .schema_type(Type::String)
                .pattern(Some(names))
                .build(),
        )))
        .additional_properties(Some(Schema::from(extension.build())))
        .property("specversion", word(["1.0"]))
        .required("specversion");
    ATTRIBUTES
        .into_iter()
        .fold(schema, |schema, (name, description, required)| {
            let schema = schema.property(name, attribute(name, description, required));
            if required { schema.required(name) } else { schema }
        })
}

pub(crate) fn operation(settings: &IngestSettings) -> OperationBuilder {
    let event = json!({
        "specversion": "1.0", "id": "a7f1", "source": "/shop", "type": "shipped", "subject": "17",
        "datacontenttype": "application/json", "data": { "parcels": 2 }
    });
    let body = RequestBodyBuilder::new()
        .description(Some(format!("At most {} bytes.", settings.body_bytes)))
        .content(
            ContentMode::STRUCTURED,
            content(
                reference("CloudEvent"),
                [("event", "An event in structured mode", event.clone())],
            ),
        )
        .content(
            ContentMode::BATCHED,
            content(
                reference("CloudEventBatch"),
                [("batch", "A batch", json!([event]))],
            ),
        )
        .content(
            "application/json",
            content(
                any_json(settings.limits.data_bytes),
                [(
                    "data",
                    "The data of an event in binary mode",
                    json!({ "parcels": 2 }),
                )],
            ),
        )
        .content(
            "text/plain",
            content(
                string("Text, which becomes a JSON string."),
                [("data", "The data of an event in binary mode", json!("shipped"))],
            ),
        )
        .content(
            "application/octet-stream",
            content(string("Bytes, which clients get as a binary attachment."), []),
        )
        .build();
    let kept = answer(
        "All of it is kept.",
        "application/json",
        content(
            OneOfBuilder::new()
                .item(reference("Accepted"))
                .item(reference("AcceptedBatch")),
            [(
                "event",
                "Of one event",
                json!({
                    "id": "5f0c1c1e-6d5e-5b8e-9f3b-3a4a0f9d7c21",
                    "rooms": [{ "room": "orders-17", "offset": "1732377600000-0" }]
                }),
            )],
        ),
    );
    let operation =
        secured(named("publishEvents", MESSAGES, "Send CloudEvents", DESCRIPTION)).request_body(Some(body));
    // Their values are percent-encoded, and in the other modes nobody looks at them: nothing more can be said of them.
    let operation = [("specversion", "`1.0`.", true)]
        .into_iter()
        .chain(ATTRIBUTES)
        .filter(|(name, _, _)| *name != "datacontenttype")
        .fold(operation, |operation, (name, description, required)| {
            let mode = if required { "required" } else { "optional" };
            operation.parameter(header_parameter(
                &format!("ce-{name}"),
                &format!("Binary mode, {mode}. {description}"),
                string("Percent-encoded UTF-8."),
            ))
        });
    let operation = answering(operation, [(202, with_rate_headers(kept).build())]);
    answering(operation, problems::responses(problems::OF_MESSAGES, true))
}
