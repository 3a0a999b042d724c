//! What a producer is told after writing.

use serde_json::{Value, json};

use crate::{
    accept::field,
    problem::{Kind, Problem},
    write::{Fate, Outgoing, Trouble, Written},
};

/// The answer to a request that was written, or tried to be.
pub(crate) fn of(messages: &[Outgoing], written: &Written, batch: bool) -> Result<Value, Problem> {
    if let Some(trouble) = &written.trouble {
        return Err(refusal(trouble, messages, written, batch));
    }
    let mut answers: Vec<Value> = messages
        .iter()
        .zip(&written.fates)
        .map(|(message, fates)| json!({ "id": message.id, "rooms": rooms(message, fates, false) }))
        .collect();
    match (batch, answers.len()) {
        (false, 1) => Ok(answers.remove(0)),
        _ => Ok(Value::Array(answers)),
    }
}

/// A key that stands for another content.
pub(crate) fn key_reused(batch: bool, place: usize) -> Problem {
    let detail =
        "this idempotency key was used with other rooms, event or data; a new message needs a new key";
    Problem::new(Kind::KeyReused, detail)
        .with("outcome", "refused")
        .with("field", field(batch, place, "idempotency_key"))
}

fn refusal(trouble: &Trouble, messages: &[Outgoing], written: &Written, batch: bool) -> Problem {
    let fates = || written.fates.iter().flatten();
    let unknown = fates().any(|fate| *fate == Fate::Unknown);
    let placed = fates().any(|fate| matches!(fate, Fate::Placed(_)));
    let (outcome, so) = match (unknown, placed) {
        (true, _) => (
            "unknown",
            "repeating it is safe only with the same idempotency key",
        ),
        (false, true) => (
            "partial",
            "a part was written; repeating it with the same idempotency keys completes it",
        ),
        (false, false) => ("refused", "nothing was written"),
    };
    let problem = match trouble {
        Trouble::Unknown(why) => {
            let detail = format!("the message may have been accepted or not ({why}); {so}");
            Problem::new(Kind::Unknown, detail).retry_after(1)
        }
        Trouble::KeyReused(place) => key_reused(batch, *place),
        Trouble::Unavailable(why) => {
            let detail = format!("nothing can be written at present ({why}); {so}");
            Problem::new(Kind::Unavailable, detail).retry_after(1)
        }
        Trouble::Memory => Problem::new(Kind::Memory, format!("Redis is out of memory; {so}")).retry_after(5),
        Trouble::QueueFull(length) => {
            let detail = format!("{length} messages wait in the queue already; {so}");
            Problem::new(Kind::QueueFull, detail).retry_after(1)
        }
    };
    let problem = problem.with("outcome", outcome);
    if outcome == "refused" {
        return problem;
    }
    let known: Vec<Value> = messages
        .iter()
        .zip(&written.fates)
        .map(|(message, fates)| json!({ "id": message.id, "rooms": rooms(message, fates, true) }))
        .collect();
    problem.with("messages", known)
}

fn rooms(message: &Outgoing, fates: &[Fate], with_outcome: bool) -> Vec<Value> {
    message
        .rooms
        .iter()
        .zip(fates)
        .map(|(room, fate)| match (fate, with_outcome) {
            (Fate::Placed(offset), false) => json!({ "room": room, "offset": offset }),
            (Fate::Placed(offset), true) => json!({ "room": room, "outcome": "accepted", "offset": offset }),
            (Fate::Refused, _) => json!({ "room": room, "outcome": "refused" }),
            (Fate::Unknown, _) => json!({ "room": room, "outcome": "unknown" }),
        })
        .collect()
}
