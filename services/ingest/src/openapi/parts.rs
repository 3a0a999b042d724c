//! What several operations have in common.

use serde_json::Value;
use utoipa::openapi::{
    Content, ContentBuilder, Header, HeaderBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder,
    Schema, SecurityRequirement, Type,
    example::ExampleBuilder,
    path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
    schema::empty,
};

/// Tags.
pub(super) const MESSAGES: &str = "messages";
pub(super) const ROOMS: &str = "rooms";
pub(super) const ABOUT: &str = "about";

/// Security schemes.
pub(super) const BEARER: &str = "bearer";
pub(super) const API_KEY: &str = "apiKey";

/// An operation that producers do.
pub(super) fn operation(id: &str, tag: &str, summary: &str, description: &str) -> OperationBuilder {
    OperationBuilder::new()
        .operation_id(Some(id))
        .tag(tag)
        .summary(Some(summary))
        .description(Some(description))
}

/// Says that a key opens it, and that policy may let in who has none.
pub(super) fn secured(operation: OperationBuilder) -> OperationBuilder {
    let none: [&str; 0] = [];
    operation
        .security(SecurityRequirement::new(BEARER, none))
        .security(SecurityRequirement::new(API_KEY, none))
        .security(SecurityRequirement::default())
}

/// A reference to a schema.
pub(super) fn reference(name: &str) -> RefOr<Schema> {
    RefOr::Ref(Ref::from_schema_name(name))
}

/// Content with named examples.
pub(super) fn content<'e>(
    schema: impl Into<RefOr<Schema>>,
    examples: impl IntoIterator<Item = (&'e str, &'e str, Value)>,
) -> Content {
    ContentBuilder::new()
        .schema(Some(schema))
        .examples_from_iter(examples.into_iter().map(|(name, summary, value)| {
            let example = ExampleBuilder::new().summary(summary).value(Some(value));
            (name, example.build())
        }))
        .build()
}

/// Text without control characters, of so many characters.
pub(super) fn text(description: &str, longest: Option<usize>) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(description))
        .min_length(Some(1))
        .max_length(longest)
        .pattern(Some(r"^[^\u0000-\u001f\u007f-\u009f]+$"))
}

/// A string that is one of these.
pub(super) fn word<'w>(words: impl IntoIterator<Item = &'w str>) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(words))
}

pub(super) fn string(description: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(description))
}

/// A number that is whole and not below.
pub(super) fn count(description: &str, least: usize) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .description(Some(description))
        .minimum(Some(least))
}

/// Any JSON, bytes or text that nothing is said of.
pub(super) fn anything() -> Schema {
    empty()
}

pub(super) fn header_parameter(name: &str, description: &str, schema: ObjectBuilder) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(utoipa::openapi::Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

fn header(description: &str, schema: ObjectBuilder) -> Header {
    HeaderBuilder::new()
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

/// The headers that say where a producer with a quota stands.
pub(super) fn with_rate_headers(response: ResponseBuilder) -> ResponseBuilder {
    response
        .header(
            "RateLimit-Policy",
            header(
                "For a producer with a quota: `q` messages per `w` seconds, and how many at once where that is another \
                 number, like `\"messages\";q=200;w=1, \"burst\";q=1000`.",
                string("A structured field of draft-ietf-httpapi-ratelimit-headers."),
            ),
        )
        .header(
            "RateLimit",
            header(
                "For a producer with a quota: `r` messages may be sent now, and in `t` seconds it is the whole burst \
                 again, like `\"messages\";r=640;t=2`.",
                string("A structured field of draft-ietf-httpapi-ratelimit-headers."),
            ),
        )
}

pub(super) fn with_retry_after(response: ResponseBuilder) -> ResponseBuilder {
    let description = "After how many seconds trying again makes sense.";
    response.header(
        "Retry-After",
        header(description, count("Whole seconds, rounded up.", 1)),
    )
}

pub(super) fn with_challenge(response: ResponseBuilder) -> ResponseBuilder {
    response.header(
        "WWW-Authenticate",
        header("How to say who one is.", string("A challenge, as in RFC 9110.")),
    )
}

/// A good answer.
pub(super) fn answer(description: &str, media_type: &str, content: Content) -> ResponseBuilder {
    ResponseBuilder::new()
        .description(description)
        .content(media_type, content)
}

/// Adds answers by their status.
pub(super) fn answering<R: Into<RefOr<Response>>>(
    operation: OperationBuilder,
    answers: impl IntoIterator<Item = (u16, R)>,
) -> OperationBuilder {
    answers
        .into_iter()
        .fold(operation, |operation, (status, response)| {
            operation.response(status.to_string(), response)
        })
}
