//! `GET /v1/rooms/{room}/presence`.

use carillon_model::Room;
use serde_json::json;
use utoipa::openapi::path::{OperationBuilder, ParameterBuilder, ParameterIn};

use super::{
    parts::{ROOMS, answer, answering, content, operation as named, reference, secured, text},
    problems,
};
use crate::problem::Kind;

/// What can be wrong with the question.
const PROBLEMS: &[Kind] = &[
    Kind::Unauthorized,
    Kind::Forbidden,
    Kind::NotFound,
    Kind::Invalid,
    Kind::Unavailable,
];

pub(crate) fn operation(listed: usize) -> OperationBuilder {
    let description = format!(
        "For a room whose policy says `presence: true` and that the key may send to. Of more than {listed} users the first \
         are named, and `truncated` is `true`. A user who lost the connection is named for another 15 seconds."
    );
    let room = ParameterBuilder::new()
        .name("room")
        .parameter_in(ParameterIn::Path)
        .description(Some("The room's name, URL-encoded."))
        .schema(Some(text("At most 200 bytes of UTF-8.", Some(Room::MAX_BYTES))))
        .build();
    let found = json!({ "room": "lobby", "users": ["ann", "eve"], "sessions": 5 });
    let found = answer(
        "Who is in it now.",
        "application/json",
        content(
            reference("Presence"),
            [("lobby", "Two users, five sessions", found)],
        ),
    );
    let operation = secured(named("presence", ROOMS, "Who is in a room", &description)).parameter(room);
    let operation = answering(operation, [(200, found.build())]);
    answering(operation, problems::responses(PROBLEMS, false))
}
