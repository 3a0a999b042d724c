//! What a producer is told after writing.

use carillon_model::{MessageId, Offset, Room};
use serde_json::{Value, json};

use crate::{
    accept::field,
    problem::{Kind, Problem},
    write::Outgoing,
    written::{Fate, Trouble, Written},
};

/// A message that the broker has.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) id: MessageId,
    /// Its rooms, with its place in each.
    pub(crate) rooms: Vec<(Room, Offset)>,
}

impl Accepted {
    fn of(message: &Outgoing, fates: &[Fate]) -> Self {
        let placed = message.rooms.iter().zip(fates);
        Self {
            id: message.id,
            rooms: placed
                .filter_map(|(room, fate)| match fate {
                    Fate::Placed(offset) => Some((room.clone(), *offset)),
                    Fate::Refused | Fate::Unknown => None,
                })
                .collect(),
        }
    }

    /// As HTTP tells it.
    pub(crate) fn to_json(&self) -> Value {
        let place = |(room, offset): &(Room, Offset)| json!({ "room": room, "offset": offset });
        let rooms: Vec<Value> = self.rooms.iter().map(place).collect();
        json!({ "id": self.id, "rooms": rooms })
    }
}

/// The answer to a request whose messages belong together.
pub(crate) fn together(
    messages: &[Outgoing],
    written: &Written,
    batch: bool,
) -> Result<Vec<Accepted>, Problem> {
    if let Some(trouble) = written.trouble() {
        return Err(refusal(trouble, messages, &written.fates, batch));
    }
    let all = messages.iter().zip(&written.fates);
    Ok(all.map(|(message, fates)| Accepted::of(message, fates)).collect())
}

/// The answers to messages that stand for themselves.
pub(crate) fn each(
    messages: &[Outgoing],
    written: &Written,
) -> impl Iterator<Item = Result<Accepted, Problem>> {
    let all = messages.iter().zip(&written.fates).zip(&written.troubles);
    all.map(|((message, fates), trouble)| match trouble {
        None => Ok(Accepted::of(message, fates)),
        Some(trouble) => {
            let (message, fates) = (std::slice::from_ref(message), std::slice::from_ref(fates));
            Err(refusal(trouble, message, fates, false))
        }
    })
}

/// A key that stands for another content.
pub(crate) fn key_reused(batch: bool, place: usize) -> Problem {
    let detail =
        "this idempotency key was used with other rooms, event or data; a new message needs a new key";
    Problem::new(Kind::KeyReused, detail)
        .with("outcome", "refused")
        .with("field", field(batch, place, "idempotency_key"))
}

fn refusal(trouble: &Trouble, messages: &[Outgoing], fates_of: &[Vec<Fate>], batch: bool) -> Problem {
    let fates = || fates_of.iter().flatten();
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
        .zip(fates_of)
        .map(|(message, fates)| json!({ "id": message.id, "rooms": rooms(message, fates) }))
        .collect();
    problem.with("messages", known)
}

fn rooms(message: &Outgoing, fates: &[Fate]) -> Vec<Value> {
    let all = message.rooms.iter().zip(fates);
    all.map(|(room, fate)| match fate {
        Fate::Placed(offset) => json!({ "room": room, "outcome": "accepted", "offset": offset }),
        Fate::Refused => json!({ "room": room, "outcome": "refused" }),
        Fate::Unknown => json!({ "room": room, "outcome": "unknown" }),
    })
    .collect()
}
