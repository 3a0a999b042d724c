//! What a client's requests are answered with: `{ ok: true, … }` or `{ ok: false, error }`.

use std::sync::Arc;

use bytes::Bytes;
use carillon_model::{Data, EventName, MessageId, Offset, Room};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::hub::{Delivery, Joined, Refusal, RefusalCode};

/// Bytes of messages in one answer, after which it ends early.
const HISTORY_BYTES: usize = 512 << 10;

/// What a join adds.
#[derive(Serialize)]
pub(super) struct JoinAnswer {
    #[serde(flatten)]
    pub(super) joined: Joined,
    /// Whether its presence is watched, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) presence: Option<bool>,
}

#[derive(Serialize)]
struct Fine<T> {
    ok: bool,
    #[serde(flatten)]
    answer: T,
}

/// An answer's argument and its attachments.
pub(super) type Answer = (String, Vec<Bytes>);

/// A good answer.
pub(super) fn ok<T: Serialize>(answer: T) -> Result<Answer, Refusal> {
    // Flattened, a unit adds nothing.
    encoded(&Fine { ok: true, answer }).map(|text| (text, Vec::new()))
}

fn encoded<T: Serialize>(answer: &T) -> Result<String, Refusal> {
    serde_json::to_string(answer).map_err(|error| {
        Refusal::new(
            RefusalCode::Unavailable,
            format!("the answer can't be written: {error}"),
        )
    })
}

/// A refusal.
pub(super) fn refused(refusal: &Refusal) -> String {
    serde_json::json!({ "ok": false, "error": refusal }).to_string()
}

#[derive(Serialize)]
struct Past<'a> {
    event: &'a EventName,
    data: &'a RawValue,
    room: &'a Room,
    offset: Offset,
    id: MessageId,
    ts: u64,
}

#[derive(Serialize)]
struct HistoryAnswer<'a> {
    ok: bool,
    messages: Vec<Past<'a>>,
}

/// Messages of a room's past: as many as fit.
pub(super) fn history_answer(deliveries: Vec<Arc<Delivery>>) -> Result<Answer, Refusal> {
    let mut attachments = Vec::new();
    let mut data = Vec::new();
    let mut bytes = 0;
    for delivery in &deliveries {
        bytes += delivery.weight;
        if bytes > HISTORY_BYTES && !data.is_empty() {
            break;
        }
        let json = match &delivery.message.data {
            Data::Json(json) => String::from_utf8_lossy(json).into_owned(),
            Data::Binary(binary) => {
                attachments.push(binary.clone());
                format!(r#"{{"_placeholder":true,"num":{}}}"#, attachments.len() - 1)
            }
        };
        let json = RawValue::from_string(json).map_err(|error| {
            Refusal::new(
                RefusalCode::Unavailable,
                format!("a message can't be read: {error}"),
            )
        })?;
        data.push(json);
    }
    let messages = deliveries.iter().zip(&data).map(|(delivery, data)| Past {
        event: &delivery.message.event,
        data,
        room: &delivery.room,
        offset: delivery.offset,
        id: delivery.message.id,
        ts: delivery.message.accepted_at,
    });
    let answer = HistoryAnswer {
        ok: true,
        messages: messages.collect(),
    };
    Ok((encoded(&answer)?, attachments))
}
