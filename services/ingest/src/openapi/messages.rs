//! `POST /v1/messages`.

use serde_json::json;
use utoipa::openapi::{OneOfBuilder, path::OperationBuilder, request_body::RequestBodyBuilder};

use super::{
    parts::{
        MESSAGES, answer, answering, content, header_parameter, operation as named, reference, secured,
        string, text, with_rate_headers,
    },
    problems,
};
use crate::{IngestSettings, problem::Kind};
use carillon_model::publish::MAX_KEY_BYTES;

const ID: &str = "019de4b8-7a51-7c3e-9a6e-5f7f3c1f2b10";
const DESCRIPTION: &str = "One message as a JSON object, a batch as an array, or a stream of them as lines of JSON \
    (`application/x-ndjson`).\n\n\
    Checking a batch is all or nothing: every mistake is told at once, and nothing is written. Writing is all or nothing \
    per partition; where only a part was written, the answer says for every message and room what is known.\n\n\
    A stream is answered line by line, in its order, while it is sent. A line of answer has the number of its `line`, its \
    `status`, and what the same message alone would have been answered; a line that is refused does not stop the stream.";

pub(crate) fn operation(settings: &IngestSettings) -> OperationBuilder {
    let one = json!({ "to": { "room": "lobby" }, "event": "price", "data": { "eur": 42 } });
    let bytes = json!({ "to": { "user": "42" }, "event": "avatar", "data_base64": "iVBORw0KGgo=" });
    let repeatable = json!({
        "to": { "user": "42" }, "event": "shipped", "data": { "order": 17 }, "idempotency_key": "order-17"
    });
    let news = json!({ "to": "all", "event": "news", "data": "the bells ring" });
    let lines = "{\"to\":{\"room\":\"lobby\"},\"event\":\"price\",\"data\":1}\n\
                 {\"to\":{\"room\":\"lobby\"},\"event\":\"price\",\"data\":2}\n";
    let mut refused = problems::example(Kind::Invalid).body();
    refused["line"] = json!(2);
    let answers = format!(
        "{{\"line\":1,\"status\":202,\"id\":\"{ID}\",\"rooms\":[{{\"room\":\"lobby\",\"offset\":\"1732377600000-0\"}}]}}\n{refused}\n"
    );
    let body = RequestBodyBuilder::new()
        .description(Some(format!(
            "At most {} bytes. A stream has no such end, each of its lines has.",
            settings.body_bytes
        )))
        .required(Some(utoipa::openapi::Required::True))
        .content(
            "application/json",
            content(
                reference("Publish"),
                [
                    ("message", "One message to a room", one.clone()),
                    ("messages", "A batch", json!([one, news])),
                    ("repeatable", "A message that may be repeated", repeatable),
                    ("with-bytes", "Bytes for a user", bytes),
                ],
            ),
        )
        .content(
            "application/x-ndjson",
            content(
                string("One `Message` per line."),
                [("lines", "Two messages", json!(lines))],
            ),
        )
        .build();
    let placed = json!({ "id": ID, "rooms": [{ "room": "lobby", "offset": "1732377600000-0" }] });
    let kept = answer(
        "All of it is kept.",
        "application/json",
        content(
            OneOfBuilder::new()
                .item(reference("Accepted"))
                .item(reference("AcceptedBatch")),
            [
                ("message", "Of one message", placed.clone()),
                ("messages", "Of a batch", json!([placed])),
            ],
        ),
    );
    let streamed = answer(
        "A stream was read, and this is its answers. Each line says what became of one message.",
        "application/x-ndjson",
        content(
            string(
                "For each line of the request an `Accepted` or a `Problem`, with `line` and `status`. A last `Problem` \
                 without `line` says why the stream was ended.",
            ),
            [(
                "lines",
                "The first is kept, the second has a mistake",
                json!(answers),
            )],
        ),
    );
    let operation = secured(named("publish", MESSAGES, "Send messages", DESCRIPTION))
        .parameter(header_parameter(
            "Idempotency-Key",
            "For a single message, the same as its field `idempotency_key`.",
            text("At most 200 bytes of UTF-8.", Some(MAX_KEY_BYTES)),
        ))
        .request_body(Some(body));
    let operation = answering(
        operation,
        [
            (200, with_rate_headers(streamed).build()),
            (202, with_rate_headers(kept).build()),
        ],
    );
    answering(operation, problems::responses(problems::OF_MESSAGES, true))
}
