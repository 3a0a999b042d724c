//! What a client asks for: `join`, `leave`, `publish`, `history`, `presence`, `refresh`, and the events that policy
//! knows.
//!
//! Publishes are handed to the hub at once, in the call that brought them, because their order is a promise. Everything
//! that has to wait, waits in the session's [`Line`], whose task exists while there is something in it. Requests about
//! one room go one after the other; others side by side, but for `history`: its answers are large, so a session has one
//! at a time, which ends when the answer is handed to the connection.

use std::{collections::VecDeque, future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use carillon_model::{Offset, Room};
use futures::{StreamExt, stream::FuturesUnordered};
use indexmap::IndexSet;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::Notify;
use tracing::Span;

use super::{
    answers::{JoinAnswer, history_answer, ok, refused},
    limits::Verdict,
    packet::{BadPacket, Event, Packet},
    session::Session,
};
use crate::hub::{PublishReceipt, Refusal, RefusalCode, Start};

/// Requests of one session that may wait for their answer.
const LINE: usize = 512;
/// Requests of one session that are worked on side by side.
const SIDE_BY_SIDE: usize = 32;
/// Messages one answer may bring, and a join may go back.
const MESSAGES: usize = 100;

/// A session's requests that wait.
#[derive(Debug, Default)]
pub(super) struct Line {
    inside: Mutex<Inside>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Inside {
    waiting: VecDeque<(Option<u64>, Request)>,
    /// Requests taken out and not yet answered.
    busy: usize,
    running: bool,
}

/// A token, which no log may show.
pub(super) struct NewToken(String);

impl std::fmt::Debug for NewToken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("NewToken")
    }
}

#[derive(Debug)]
pub(super) enum Request {
    Join(Room, Start, Option<bool>),
    Presence(Room),
    Leave(Room),
    History(Room, Option<Offset>, usize),
    Refresh(NewToken),
    /// With the span that lasts until its answer.
    Published(PublishReceipt, Span),
    Refused(Refusal),
}

impl Request {
    /// The room it must not overtake others in.
    pub(super) fn room(&self) -> Option<&Room> {
        match self {
            Self::Join(room, ..) | Self::Leave(room) | Self::History(room, ..) | Self::Presence(room) => {
                Some(room)
            }
            Self::Refresh(_) | Self::Published(..) | Self::Refused(_) => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JoinRequest {
    room: String,
    since: Option<String>,
    rewind: Option<usize>,
    presence: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoomRequest {
    room: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryRequest {
    room: String,
    before: Option<String>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefreshRequest {
    token: String,
}

/// What came from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// An event, which is handled or refused.
    Event,
    /// One of so many that the session is to be closed.
    Flood,
}

impl Session {
    /// Handles an event. An error means that it is none, and ends the connection.
    pub(super) fn event(
        self: &Arc<Self>,
        body: &str,
        ack: Option<u64>,
        attachments: Vec<Bytes>,
    ) -> Result<Heard, BadPacket> {
        let event = Event::parse(body)?;
        let metrics = &self.shared.metrics;
        let verdict = self.events.judge();
        let (label, request) = match event.name.as_str() {
            _ if verdict == Verdict::Close => return Ok(Heard::Flood),
            _ if let Verdict::Refuse(refusal) = verdict => ("event", Err(refusal)),
            "publish" => ("publish", self.publish(&event, &attachments)),
            name => match own(name, &event) {
                Some((label, request)) => (label, request),
                None => ("event", self.policy_event(&event, &attachments)),
            },
        };
        metrics.request(label);
        let request = request.unwrap_or_else(|refusal| {
            metrics.request_refused(refusal.code.as_str());
            Request::Refused(refusal)
        });
        match (&request, ack) {
            // Nobody waits for these answers.
            (
                Request::Published(..) | Request::Refused(_) | Request::History(..) | Request::Presence(_),
                None,
            ) => {}
            _ => self.queue(ack, request),
        }
        Ok(Heard::Event)
    }

    fn queue(self: &Arc<Self>, ack: Option<u64>, request: Request) {
        let mut inside = self.line.inside.lock();
        if inside.waiting.len() + inside.busy >= LINE {
            drop(inside);
            // Whoever has so much unanswered reads no answers either.
            self.shared
                .metrics
                .request_refused(RefusalCode::TooManyRequests.as_str());
            return;
        }
        inside.waiting.push_back((ack, request));
        if std::mem::replace(&mut inside.running, true) {
            drop(inside);
            self.line.arrived.notify_one();
        } else {
            tokio::spawn(work(Arc::clone(self)));
        }
    }

    /// Joins a room. Whether its presence is watched is in the answer where that was asked for: policy may keep none.
    async fn join(&self, room: Room, start: Start, presence: Option<bool>) -> Result<JoinAnswer, Refusal> {
        let joined = self.handle.join(room.clone(), start).await?;
        let watched = match presence {
            None => None,
            Some(watch) => match self.handle.watch_presence(room, watch).await {
                Ok(()) => Some(watch),
                Err(refusal) if refusal.code == RefusalCode::Forbidden => Some(false),
                Err(refusal) => return Err(refusal),
            },
        };
        Ok(JoinAnswer {
            joined,
            presence: watched,
        })
    }

    async fn handle_request(self: Arc<Self>, ack: Option<u64>, request: Request) -> Done {
        let done = Done {
            room: request.room().cloned(),
            history: matches!(request, Request::History(..)),
        };
        let counted = matches!(request, Request::Refused(_));
        let mut trace = Span::none();
        let answer = match request {
            Request::Join(room, start, presence) => self.join(room, start, presence).await.and_then(ok),
            Request::Presence(room) => self.handle.presence(room).await.and_then(ok),
            Request::Refresh(NewToken(token)) => self.refresh(&token).await,
            Request::Leave(room) => self.handle.leave(room).await.and_then(ok),
            Request::History(room, before, limit) => {
                let found = self.handle.history(room, before, limit).await;
                found.and_then(history_answer)
            }
            Request::Published(receipt, span) => {
                trace = span;
                match receipt.await {
                    Ok(outcome) => outcome.and_then(ok),
                    Err(_) => Err(Refusal::new(
                        RefusalCode::OutcomeUnknown,
                        "the session ended before the outcome was known",
                    )),
                }
            }
            Request::Refused(refusal) => Err(refusal),
        };
        if let (Err(refusal), false) = (&answer, counted) {
            self.shared.metrics.request_refused(refusal.code.as_str());
        }
        trace.record(
            "outcome",
            answer
                .as_ref()
                .map_or_else(|refusal| refusal.code.as_str(), |_| "kept"),
        );
        if let Some(ack) = ack {
            let (argument, attachments) = answer.unwrap_or_else(|refusal| (refused(&refusal), Vec::new()));
            self.answer(Packet::ack(ack, &argument, attachments)).await;
        }
        done
    }
}

/// A request that has been answered.
struct Done {
    room: Option<Room>,
    history: bool,
}

type Working = Pin<Box<dyn Future<Output = Done> + Send>>;

/// Works off a session's line.
async fn work(session: Arc<Session>) {
    let mut working: FuturesUnordered<Working> = FuturesUnordered::new();
    let mut rooms: IndexSet<Room> = IndexSet::new();
    let mut reading_history = false;
    loop {
        {
            let mut inside = session.line.inside.lock();
            inside.busy = working.len();
            while let Some((_, request)) = inside.waiting.front() {
                let overtakes = request.room().is_some_and(|room| rooms.contains(room));
                let patient = matches!(request, Request::Published(..));
                let history = matches!(request, Request::History(..));
                if overtakes || (history && reading_history) || (rooms.len() >= SIDE_BY_SIDE && !patient) {
                    break;
                }
                let Some((ack, request)) = inside.waiting.pop_front() else {
                    break;
                };
                rooms.extend(request.room().cloned());
                reading_history |= history;
                inside.busy += 1;
                working.push(Box::pin(Arc::clone(&session).handle_request(ack, request)));
            }
            if working.is_empty() {
                inside.running = false;
                return;
            }
        }
        tokio::select! {
            biased;
            Some(finished) = working.next() => {
                if let Some(room) = finished.room {
                    rooms.swap_remove(&room);
                }
                reading_history &= !finished.history;
            }
            () = session.line.arrived.notified() => {}
        }
    }
}

/// What a client asks for with one of our events but `publish`; `None` if it is none of ours.
/// With the name that metrics have for it.
pub(super) fn own(name: &str, event: &Event<'_>) -> Option<(&'static str, Result<Request, Refusal>)> {
    Some(match name {
        "join" => ("join", join(event)),
        "leave" => ("leave", leave(event)),
        "history" => ("history", history(event)),
        "presence" => ("presence", room_of(event).map(Request::Presence)),
        "refresh" => ("refresh", refresh(event)),
        _ => return None,
    })
}

fn join(event: &Event<'_>) -> Result<Request, Refusal> {
    let request: JoinRequest = payload(event)?;
    let start = match (request.since, request.rewind) {
        (None, None) => Start::Now,
        (Some(since), None) => Start::Since(offset("since", &since)?),
        (None, Some(count)) if count <= MESSAGES => Start::Rewind(count),
        (None, Some(_)) => return Err(bad_request(format!("`rewind` is at most {MESSAGES}"))),
        (Some(_), Some(_)) => return Err(bad_request("give `since` or `rewind`, not both")),
    };
    Ok(Request::Join(room(request.room)?, start, request.presence))
}

fn leave(event: &Event<'_>) -> Result<Request, Refusal> {
    room_of(event).map(Request::Leave)
}

fn refresh(event: &Event<'_>) -> Result<Request, Refusal> {
    Ok(Request::Refresh(NewToken(
        payload::<RefreshRequest>(event)?.token,
    )))
}

/// The room of a request that has nothing else.
fn room_of(event: &Event<'_>) -> Result<Room, Refusal> {
    room(payload::<RoomRequest>(event)?.room)
}

fn history(event: &Event<'_>) -> Result<Request, Refusal> {
    let request: HistoryRequest = payload(event)?;
    let limit = request.limit.unwrap_or(MESSAGES);
    if limit == 0 || limit > MESSAGES {
        return Err(bad_request(format!("`limit` is from 1 to {MESSAGES}")));
    }
    let before = request
        .before
        .map(|before| offset("before", &before))
        .transpose()?;
    Ok(Request::History(room(request.room)?, before, limit))
}

/// The one object that our own events take.
pub(super) fn payload<'a, T: Deserialize<'a>>(event: &Event<'a>) -> Result<T, Refusal> {
    match event.arguments.as_slice() {
        [argument] => serde_json::from_str(argument.get())
            .map_err(|error| bad_request(format!("`{}`: {error}", event.name))),
        other => Err(bad_request(format!(
            "`{}` takes one object, then the callback for its answer; it got {} arguments",
            event.name,
            other.len()
        ))),
    }
}

pub(super) fn room(name: String) -> Result<Room, Refusal> {
    Room::new(name).map_err(|error| Refusal::new(RefusalCode::BadRoom, format!("`room`: {error}")))
}

fn offset(field: &str, text: &str) -> Result<Offset, Refusal> {
    text.parse()
        .map_err(|error| bad_request(format!("`{field}`: {error}")))
}

pub(super) fn bad_request(message: impl Into<String>) -> Refusal {
    Refusal::new(RefusalCode::BadRequest, message)
}
