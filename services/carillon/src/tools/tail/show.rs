//! How `carillon tail` shows what comes.

use std::time::{Duration, UNIX_EPOCH};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::packet::Placeholder;
use crate::tools::printer::{FAINT, NAME, Printer, styled};

/// Where a message is and when it was accepted.
#[derive(Debug, Deserialize)]
pub(super) struct Meta {
    pub(super) room: String,
    pub(super) offset: String,
    id: String,
    ts: u64,
}

/// A message as programs get it.
#[derive(Serialize)]
struct Shown<'a> {
    room: &'a str,
    offset: &'a str,
    id: &'a str,
    ts: u64,
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

/// Shows a message: its event, its data as JSON, and the bytes if that only stands for them.
pub(super) fn message(
    printer: Printer,
    event: &str,
    data: &RawValue,
    bytes: &[Vec<u8>],
    meta: &Meta,
) -> anyhow::Result<()> {
    let placeholder = (!bytes.is_empty())
        .then(|| serde_json::from_str::<Placeholder>(data.get()).ok())
        .flatten();
    let bytes = placeholder.and_then(|placeholder| bytes.get(placeholder.num));
    let encoded = bytes.map(|bytes| BASE64_STANDARD.encode(bytes));
    let shown = Shown {
        room: &meta.room,
        offset: &meta.offset,
        id: &meta.id,
        ts: meta.ts,
        event,
        data: encoded.is_none().then_some(data),
        data_base64: encoded.clone(),
    };
    printer.item(&shown, || {
        let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(meta.ts));
        let data = match bytes {
            Some(bytes) => format!("{} bytes {}", bytes.len(), encoded.unwrap_or_default()),
            None => data.get().to_owned(),
        };
        let (time, room) = (styled(FAINT, time), styled(NAME, &meta.room));
        format!("{time} {room} {event} {data}")
    })
}
