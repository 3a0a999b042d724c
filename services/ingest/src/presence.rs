//! `GET /v1/rooms/{room}/presence`: who is in a room, for producers that may send to it.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use carillon_broker::{Presence, presence::who_is_in};
use carillon_model::{PartitionCount, Room};
use http::HeaderMap;
use serde_json::{Value, json};

use crate::{
    Ingest,
    openapi::{self, Doors},
    problem::{Kind, Problem},
    producer::Caller,
};

/// Users named in one answer.
const LISTED: usize = 1_000;

/// Where presence is asked for.
#[derive(Clone)]
pub(crate) struct Source {
    broker: Arc<dyn Presence>,
    partitions: PartitionCount,
}

impl Ingest {
    /// Lets producers ask who is in a room.
    #[must_use]
    pub fn with_presence(mut self, broker: Arc<dyn Presence>, partitions: PartitionCount) -> Self {
        self.presence = Some(Source { broker, partitions });
        self
    }
}

pub(crate) fn doors(doors: Doors<'_>) -> Doors<'_> {
    doors.get(
        "/v1/rooms/{room}/presence",
        openapi::presence::operation(LISTED),
        answer,
    )
}

async fn answer(
    State(ingest): State<Ingest>,
    room: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Response {
    let room = room.map(|Path(room)| room).map_err(|_| {
        Problem::new(Kind::Invalid, "a room's name is UTF-8, URL-encoded").with("field", "room")
    });
    match presence(&ingest, room, &headers).await {
        Ok(found) => Json(found).into_response(),
        Err(problem) => {
            ingest.shared.metrics.rejections.inc(problem.kind);
            problem.into_response()
        }
    }
}

async fn presence(
    ingest: &Ingest,
    room: Result<String, Problem>,
    headers: &HeaderMap,
) -> Result<Value, Problem> {
    let policy = Arc::clone(&ingest.shared.policy.borrow());
    let caller = Caller::of(headers, &policy)?;
    let room = Room::new(room?)
        .map_err(|error| Problem::new(Kind::Invalid, error.to_string()).with("field", "room"))?;
    let Some(source) = &ingest.presence else {
        return Err(Problem::new(Kind::NotFound, "presence can't be asked for here"));
    };
    if !caller.may_send_to(&room) {
        let detail = format!("this key is not for `{room}`, so it may not know who is in it");
        return Err(Problem::new(Kind::Forbidden, detail).with("room", room.as_str()));
    }
    if !policy.room(&room).presence {
        let detail = format!("policy keeps no presence of `{room}` (`presence: true` in its rule)");
        return Err(Problem::new(Kind::Forbidden, detail).with("room", room.as_str()));
    }
    let partition = source.partitions.partition_of(&room);
    let found = who_is_in(&*source.broker, partition, &room)
        .await
        .map_err(|error| {
            let detail = format!("who is in a room can't be known at present: {error}");
            Problem::new(Kind::Unavailable, detail).retry_after(1)
        })?;
    let users: Vec<_> = found.users.iter().take(LISTED).map(|user| &**user).collect();
    let mut answer = json!({ "room": room.as_str(), "users": users, "sessions": found.sessions });
    if found.users.len() > LISTED
        && let Some(answer) = answer.as_object_mut()
    {
        answer.insert("truncated".to_owned(), Value::Bool(true));
    }
    Ok(answer)
}
