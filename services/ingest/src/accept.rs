//! Messages on their way from what was asked for to an answer, the same way for every door.
//!
//! [`Ingest::accept`] takes a request: its messages are accepted together or not at all. [`Ingest::accept_each`] takes
//! what arrived on a stream: each message stands for itself, and they are written together only because that is faster.

use std::sync::Arc;

use bytes::Bytes;
use carillon_broker::{Growth, IdempotencyKey, MemoryFull};
use carillon_model::{
    Data, MessageId,
    publish::{Publish, PublishErrorKind, PublishErrors},
    time::wall_clock_milliseconds,
};
use indexmap::IndexMap;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    Ingest,
    answer::{self, Accepted},
    body::Held,
    problem::{Kind, Problem},
    producer::Caller,
    write::Outgoing,
};

/// What a queue entry takes besides its message and its room's name, in bytes, roughly.
const COPY_OVERHEAD: usize = 64;

/// What messages become: each is written once for each of its rooms.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    copies: usize,
    bytes: usize,
}

impl Size {
    fn of(publish: &Publish) -> Self {
        let names: usize = publish.rooms.iter().map(|room| room.as_str().len()).sum();
        let copy = publish.data.len() + publish.event.as_str().len() + COPY_OVERHEAD;
        Self {
            copies: publish.rooms.len(),
            bytes: names + publish.rooms.len() * copy,
        }
    }

    fn with(self, other: Self) -> Self {
        Self {
            copies: self.copies + other.copies,
            bytes: self.bytes + other.bytes,
        }
    }
}

impl Ingest {
    /// Accepts the messages of a request, or says why not. `Err` means that nothing was written, or what is known of
    /// it. `batch` says how fields are told: with the message's place, or without.
    pub(crate) async fn accept(
        &self,
        caller: &Caller,
        publishes: Vec<Publish>,
        batch: bool,
        traceparent: &str,
        held: &mut Held,
    ) -> Result<Vec<Accepted>, Problem> {
        allowed(caller, &publishes, batch)?;
        let size = publishes.iter().map(Size::of).fold(Size::default(), Size::with);
        self.bounded(size)?;
        held.take(size.bytes)?;
        if let Caller::Known(producer) = caller {
            self.shared.quotas.take(producer, publishes.len())?;
        }
        self.room_left()?;
        if batch {
            keys_differ(&publishes)?;
        }
        let messages = outgoing(caller, publishes, traceparent);
        let written = self.shared.writer.write(&messages).await;
        self.shared.metrics.wrote(&written);
        let accepted = answer::together(&messages, &written, batch)?;
        self.shared.metrics.accepted(&accepted);
        tracing::debug!(messages = accepted.len(), "messages were kept");
        Ok(accepted)
    }

    /// Accepts what arrived on a stream, in its order. What is wrong with one message is no trouble of the others; each
    /// has its answer at its place.
    pub(crate) async fn accept_each(
        &self,
        caller: &Caller,
        asked: Vec<Result<Publish, Problem>>,
        traceparent: &str,
        held: &mut Held,
    ) -> Vec<Result<Accepted, Problem>> {
        let mut answers = Vec::with_capacity(asked.len());
        let mut group: Vec<Publish> = Vec::new();
        let mut size = Size::default();
        let settings = &self.shared.settings;
        for asked in asked {
            match asked.and_then(|publish| self.admitted(caller, publish)) {
                Ok(publish) => {
                    let more = size.with(Size::of(&publish));
                    if more.copies > settings.request_copies || more.bytes > settings.request_copy_bytes {
                        self.write_group(caller, &mut group, size, traceparent, held, &mut answers)
                            .await;
                        size = Size::default();
                    }
                    size = size.with(Size::of(&publish));
                    group.push(publish);
                    answers.push(None);
                }
                Err(problem) => answers.push(Some(Err(problem))),
            }
        }
        self.write_group(caller, &mut group, size, traceparent, held, &mut answers)
            .await;
        answers.into_iter().flatten().collect()
    }

    /// The gates that a message of a stream passes by itself.
    fn admitted(&self, caller: &Caller, publish: Publish) -> Result<Publish, Problem> {
        allowed(caller, std::slice::from_ref(&publish), false)?;
        self.bounded(Size::of(&publish))?;
        if let Caller::Known(producer) = caller {
            self.shared.quotas.take(producer, 1)?;
        }
        self.room_left()?;
        Ok(publish)
    }

    /// Writes a group, and puts its answers at the places that are still empty.
    async fn write_group(
        &self,
        caller: &Caller,
        group: &mut Vec<Publish>,
        size: Size,
        traceparent: &str,
        held: &mut Held,
        answers: &mut [Option<Result<Accepted, Problem>>],
    ) {
        if group.is_empty() {
            return;
        }
        let mut results = Vec::with_capacity(group.len());
        let before = held.bytes();
        match held.take(size.bytes) {
            Ok(()) => {
                let messages = outgoing(caller, std::mem::take(group), traceparent);
                let written = self.shared.writer.write_each(&messages).await;
                self.shared.metrics.wrote(&written);
                results.extend(answer::each(&messages, &written));
                held.give_back_to(before);
            }
            Err(_) => results.extend(group.drain(..).map(|_| Err(Held::exhausted()))),
        }
        for (answer, result) in answers.iter_mut().filter(|answer| answer.is_none()).zip(results) {
            if let Ok(accepted) = &result {
                self.shared.metrics.accepted(std::slice::from_ref(accepted));
            }
            *answer = Some(result);
        }
    }

    /// A message is written once for each of its rooms: a small body can become a large request.
    fn bounded(&self, Size { copies, bytes }: Size) -> Result<(), Problem> {
        let settings = &self.shared.settings;
        if copies > settings.request_copies {
            let allowed = settings.request_copies;
            let detail = format!(
                "all messages times their rooms are at most {allowed}, here they are {copies}; send several requests"
            );
            return Err(Problem::too_large("ingest.copies", allowed, detail));
        }
        if bytes > settings.request_copy_bytes {
            let allowed = settings.request_copy_bytes;
            let detail = format!(
                "all copies of a request's messages have at most {allowed} bytes, here {bytes}; send several requests"
            );
            return Err(Problem::too_large("ingest.copy_bytes", allowed, detail));
        }
        Ok(())
    }

    fn room_left(&self) -> Result<(), Problem> {
        self.memory_gate.ask(Growth::Message).map_err(|full| {
            let detail = format!(
                "Redis uses {:.0} % of its memory, over {:.0} % nothing is accepted; nothing of this request was written",
                full.used * 100.0,
                full.limit * 100.0
            );
            Problem::new(Kind::Memory, detail)
                .with("outcome", "refused")
                .retry_after(MemoryFull::RETRY_AFTER.as_secs())
        })
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

/// Within a request, a key stands for one content.
fn keys_differ(publishes: &[Publish]) -> Result<(), Problem> {
    let mut keys: IndexMap<&str, Bytes> = IndexMap::new();
    for (place, publish) in publishes.iter().enumerate() {
        let Some(key) = &publish.idempotency_key else {
            continue;
        };
        let fingerprint = fingerprint(publish);
        if *keys.entry(key).or_insert_with(|| fingerprint.clone()) != fingerprint {
            return Err(answer::key_reused(true, place));
        }
    }
    Ok(())
}

/// Makes messages of what was asked for: ids, and what acceptance adds.
fn outgoing(caller: &Caller, publishes: Vec<Publish>, traceparent: &str) -> Vec<Outgoing> {
    let accepted_at = wall_clock_milliseconds();
    let space = caller.key_space();
    let trace: Arc<str> = traceparent.into();
    let to_outgoing = |mut publish: Publish| {
        let key = publish.idempotency_key.take().map(|key| IdempotencyKey {
            producer: space.clone(),
            key,
            fingerprint: fingerprint(&publish),
        });
        let id = match &key {
            Some(key) => MessageId::of_idempotency_key(&key.producer, &key.key),
            None => MessageId::fresh(),
        };
        let rooms = publish.rooms.clone();
        let message = publish.into_message(id, caller.sender(), accepted_at, traceparent.to_owned());
        Outgoing {
            id,
            rooms,
            encoded: message.encode(),
            key,
            traceparent: Arc::clone(&trace),
        }
    };
    publishes.into_iter().map(to_outgoing).collect()
}

/// What a key stands for: the same content gives the same fingerprint, whenever and wherever it arrives.
fn fingerprint(publish: &Publish) -> Bytes {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(&(publish.rooms.len() as u64).to_be_bytes());
    for room in &publish.rooms {
        part(room.as_str().as_bytes());
    }
    part(publish.event.as_str().as_bytes());
    match &publish.data {
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

/// What a producer is told of the mistakes in its request.
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
        // What came in a header, or by gRPC, has no place in a body.
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
