//! One request on its way from a parsed body to an answer.

use std::sync::Arc;

use bytes::Bytes;
use carillon_broker::IdempotencyKey;
use carillon_model::{
    Data, MessageId, Room,
    publish::{Publish, PublishErrorKind, PublishErrors, PublishRequest},
    time::wall_clock_milliseconds,
};
use indexmap::IndexMap;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    Ingest, answer,
    body::Held,
    problem::{Kind, Problem},
    producer::Caller,
    write::Outgoing,
};

/// What a queue entry takes besides its message and its room's name, in bytes, roughly.
const COPY_OVERHEAD: usize = 64;

impl Ingest {
    /// Accepts the messages of a body, or says why not. `Err` means that nothing was written, or what is known of it.
    pub(crate) async fn accept(
        &self,
        caller: &Caller,
        body: &Bytes,
        header_key: Option<String>,
        traceparent: &str,
        held: &mut Held,
    ) -> Result<Value, Problem> {
        let settings = &self.shared.settings;
        let request = PublishRequest::parse(body, &settings.limits).map_err(|errors| described(&errors))?;
        let (publishes, batch) = match request {
            PublishRequest::One(publish) => (vec![with_header_key(publish, header_key)?], false),
            PublishRequest::Batch(_) if header_key.is_some() => {
                let detail = "the header `Idempotency-Key` is for a single message; in a batch each message has its \
                              own `idempotency_key`";
                return Err(Problem::new(Kind::Invalid, detail).with("field", "Idempotency-Key"));
            }
            PublishRequest::Batch(publishes) => (publishes, true),
        };
        self.accept_parsed(caller, publishes, batch, body.len(), traceparent, held)
            .await
    }

    /// Accepts messages that were read from a body of so many bytes.
    pub(crate) async fn accept_parsed(
        &self,
        caller: &Caller,
        publishes: Vec<Publish>,
        batch: bool,
        bytes: usize,
        traceparent: &str,
        held: &mut Held,
    ) -> Result<Value, Problem> {
        allowed(caller, &publishes, batch)?;
        self.bounded(&publishes, held)?;
        if let Caller::Known(producer) = caller {
            self.shared.quotas.take(producer, publishes.len())?;
        }
        self.room_left()?;
        let messages = outgoing(caller, publishes, batch, traceparent)?;
        let written = self.shared.writer.write(&messages).await;
        let metrics = &self.shared.metrics;
        metrics.appends.inc_by(written.appends);
        metrics.repeats.inc_by(written.repeats);
        let answer = answer::of(&messages, &written, batch)?;
        metrics.messages.inc_by(messages.len() as u64);
        metrics
            .copies
            .inc_by(messages.iter().map(|message| message.rooms.len() as u64).sum());
        metrics.bytes.inc_by(bytes as u64);
        tracing::debug!(messages = messages.len(), bytes, "messages were kept");
        Ok(answer)
    }

    /// A message is written once for each of its rooms: a small body can become a large request.
    fn bounded(&self, publishes: &[Publish], held: &mut Held) -> Result<(), Problem> {
        let settings = &self.shared.settings;
        let copies: usize = publishes.iter().map(|publish| publish.rooms.len()).sum();
        if copies > settings.request_copies {
            let allowed = settings.request_copies;
            let detail = format!(
                "all messages times their rooms are at most {allowed}, here they are {copies}; send several requests"
            );
            return Err(Problem::too_large("ingest.copies", allowed, detail));
        }
        let bytes: usize = publishes
            .iter()
            .map(|publish| {
                let names: usize = publish.rooms.iter().map(|room| room.as_str().len()).sum();
                names
                    + publish.rooms.len()
                        * (publish.data.len() + publish.event.as_str().len() + COPY_OVERHEAD)
            })
            .sum();
        if bytes > settings.request_copy_bytes {
            let allowed = settings.request_copy_bytes;
            let detail = format!(
                "all copies of a request's messages have at most {allowed} bytes, here {bytes}; send several requests"
            );
            return Err(Problem::too_large("ingest.copy_bytes", allowed, detail));
        }
        held.take(bytes)
    }

    fn room_left(&self) -> Result<(), Problem> {
        let (share, limit) = (self.shared.watched.memory(), self.shared.settings.memory_share);
        if share <= limit {
            return Ok(());
        }
        let detail = format!(
            "Redis uses {:.0} % of its memory, over {:.0} % nothing is accepted; nothing of this request was written",
            share * 100.0,
            limit * 100.0
        );
        Err(Problem::new(Kind::Memory, detail)
            .with("outcome", "refused")
            .retry_after(5))
    }
}

fn with_header_key(mut publish: Publish, header_key: Option<String>) -> Result<Publish, Problem> {
    match (&publish.idempotency_key, header_key) {
        (Some(field), Some(header)) if *field != header => {
            let detail =
                "the header `Idempotency-Key` and the field `idempotency_key` differ; send one of them";
            Err(Problem::new(Kind::Invalid, detail).with("field", "idempotency_key"))
        }
        (None, Some(header)) => {
            publish.idempotency_key = Some(header);
            Ok(publish)
        }
        _ => Ok(publish),
    }
}

fn allowed(caller: &Caller, publishes: &[Publish], batch: bool) -> Result<(), Problem> {
    for (place, publish) in publishes.iter().enumerate() {
        if let Some(room) = publish.rooms.iter().find(|room| !caller.may_send_to(room)) {
            let detail = format!(
                "policy does not let `{}` send to the room `{room}`",
                caller.name()
            );
            return Err(Problem::new(Kind::Forbidden, detail)
                .with("room", room.as_str())
                .with("field", field(batch, place, "to")));
        }
    }
    Ok(())
}

/// Makes messages of what was asked for: ids, and what acceptance adds.
fn outgoing(
    caller: &Caller,
    publishes: Vec<Publish>,
    batch: bool,
    traceparent: &str,
) -> Result<Vec<Outgoing>, Problem> {
    let accepted_at = wall_clock_milliseconds();
    let space = caller.key_space();
    let trace: Arc<str> = traceparent.into();
    let mut keys: IndexMap<String, Bytes> = IndexMap::new();
    let mut messages = Vec::with_capacity(publishes.len());
    for (place, mut publish) in publishes.into_iter().enumerate() {
        let key = match publish.idempotency_key.take() {
            None => None,
            Some(key) => {
                let fingerprint = fingerprint(&publish.rooms, publish.event.as_str(), &publish.data);
                if *keys.entry(key.clone()).or_insert_with(|| fingerprint.clone()) != fingerprint {
                    return Err(answer::key_reused(batch, place));
                }
                Some(IdempotencyKey {
                    producer: space.clone(),
                    key,
                    fingerprint,
                })
            }
        };
        let id = match &key {
            Some(key) => MessageId::of_idempotency_key(&key.producer, &key.key),
            None => MessageId::fresh(),
        };
        let rooms = publish.rooms.clone();
        let message = publish.into_message(id, caller.sender(), accepted_at, traceparent.to_owned());
        messages.push(Outgoing {
            id,
            rooms,
            encoded: message.encode(),
            key,
            traceparent: Arc::clone(&trace),
        });
    }
    Ok(messages)
}

/// What a key stands for: the same content gives the same fingerprint, whenever and wherever it arrives.
fn fingerprint(rooms: &[Room], event: &str, data: &Data) -> Bytes {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(&(rooms.len() as u64).to_be_bytes());
    for room in rooms {
        part(room.as_str().as_bytes());
    }
    part(event.as_bytes());
    match data {
        Data::Json(json) => {
            part(b"json");
            part(json);
        }
        Data::Binary(binary) => {
            part(b"binary");
            part(binary);
        }
    }
    Bytes::copy_from_slice(&hash.finalize())
}

/// The path of a message's field, as [`carillon_model::publish`] writes it.
pub(crate) fn field(batch: bool, place: usize, name: &str) -> String {
    if batch {
        format!("[{place}].{name}")
    } else {
        name.to_owned()
    }
}

/// The setting behind a limit of [`carillon_model::publish::PublishLimits`].
fn setting(limit: &'static str) -> &'static str {
    match limit {
        "batch" => "ingest.batch",
        "rooms" => "ingest.rooms",
        "data_bytes" => "ingest.message",
        other => other,
    }
}

pub(crate) fn described(errors: &PublishErrors) -> Problem {
    let kinds = || errors.errors.iter().map(|error| error.kind);
    let detail = errors.to_string();
    let mut problem = if kinds().any(|kind| kind == PublishErrorKind::Syntax) {
        Problem::new(Kind::Malformed, detail)
    } else {
        let all_too_large = errors.errors.len() == errors.total
            && kinds().all(|kind| matches!(kind, PublishErrorKind::TooLarge { .. }));
        match kinds().next() {
            Some(PublishErrorKind::TooLarge { limit, allowed }) if all_too_large => {
                Problem::too_large(setting(limit), allowed, detail)
            }
            _ => Problem::new(Kind::Invalid, detail),
        }
    };
    if let Some(first) = errors.errors.first() {
        problem = problem.with("field", first.field.as_str());
        // What came in a header has no place in the body.
        if first.line > 0 {
            problem = problem.with("line", first.line).with("column", first.column);
        }
    }
    if errors.total > 1 {
        let all: Vec<Value> = errors
            .errors
            .iter()
            .map(|error| match error.line {
                0 => json!({ "field": error.field, "detail": error.message }),
                line => json!({
                    "field": error.field,
                    "line": line,
                    "column": error.column,
                    "detail": error.message,
                }),
            })
            .collect();
        problem = problem.with("errors", all).with("errors_total", errors.total);
    }
    problem
}
