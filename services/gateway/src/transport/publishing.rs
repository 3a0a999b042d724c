//! What a client wants to be sent: the request `publish`, and the events that policy knows.
//!
//! Both are handed to the hub at once, in the call that brought them, because their order is a promise.

use bytes::Bytes;
use carillon_chassis::telemetry::trace_context::HOP;
use carillon_model::{Data, EventName};
use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::{Span, field::Empty, info_span};

use super::{
    packet::{Event, data_of},
    requests::{Request, bad_request, payload, room},
    session::Session,
};
use crate::hub::{Publish, Refusal};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishRequest<'a> {
    room: String,
    event: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    key: Option<String>,
}

impl Session {
    /// A client's publish starts a trace, if it is chosen: a client has none to go on with.
    fn trace(&self, event: &str) -> Span {
        if !self.shared.settings.traced.chooses(fastrand::f64) {
            return Span::none();
        }
        info_span!(
            target: HOP, parent: None, "publish",
            otel.kind = "server", chosen = true, session = &**self.handle.id(), event, outcome = Empty,
        )
    }

    /// Takes the request `publish`.
    pub(super) fn publish(&self, event: &Event<'_>, attachments: &[Bytes]) -> Result<Request, Refusal> {
        let publish = read(event, attachments)?;
        let trace = self.trace("publish");
        let publish = Publish {
            trace: trace.clone(),
            ..publish
        };
        let receipt = self.handle.enqueue_publish(publish)?;
        Ok(Request::Published(receipt, trace))
    }

    /// Takes an event whose meaning policy decides.
    pub(super) fn policy_event(&self, event: &Event<'_>, attachments: &[Bytes]) -> Result<Request, Refusal> {
        let data = match event.arguments.as_slice() {
            [] => Data::NULL,
            [argument] => data_of(argument, attachments).ok_or_else(hidden_binary)?,
            more => {
                let count = more.len();
                let message =
                    format!("an event has one argument, this one has {count}; put them into an object");
                return Err(bad_request(message));
            }
        };
        let trace = self.trace(&event.name);
        let receipt = self.handle.enqueue_event(&event.name, data, trace.clone())?;
        Ok(Request::Published(receipt, trace))
    }
}

/// The request `publish`, not yet traced.
pub(super) fn read(event: &Event<'_>, attachments: &[Bytes]) -> Result<Publish, Refusal> {
    let request: PublishRequest<'_> = payload(event)?;
    let publish = Publish {
        room: room(request.room)?,
        event: EventName::new(request.event).map_err(|error| bad_request(format!("`event`: {error}")))?,
        data: match request.data {
            None if attachments.is_empty() => Data::NULL,
            None => return Err(hidden_binary()),
            Some(data) => data_of(data, attachments).ok_or_else(hidden_binary)?,
        },
        key: request.key.filter(|key| !key.is_empty()),
        trace: Span::none(),
    };
    if publish.key.as_ref().is_some_and(|key| key.len() > 200) {
        return Err(bad_request("`key` has at most 200 bytes"));
    }
    Ok(publish)
}

fn hidden_binary() -> Refusal {
    bad_request("binary data must be the whole of an event's data; it can't be a part of an object or list")
}
