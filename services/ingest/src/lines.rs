//! A body as lines, each a message: NDJSON.
//!
//! Lines are taken as they come. What is kept is one line that is not whole yet, and what came with it; a line that is too
//! long is answered as soon as that is known, and its rest is skipped.

use axum::body::Body;
use bytes::{Buf, Bytes, BytesMut};
use carillon_model::publish::{Publish, PublishLimits, PublishRequest};
use http::HeaderMap;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use crate::{
    Ingest,
    accept::described,
    body::{self, Held},
    metrics::Door,
    problem::{Kind, Problem},
    stream::{Arrival, Arrivals, Arrived},
};

/// A body that is read line by line.
pub(crate) struct Lines {
    ingest: Ingest,
    body: Body,
    /// The body has ended.
    ended: bool,
    buffer: BytesMut,
    /// So many bytes of the buffer have no newline in them.
    searched: usize,
    /// The rest of the line in the buffer is skipped: it was too long, and is answered.
    skipping: bool,
    /// The number of the line in the buffer, from 1.
    number: u64,
    /// When the line in the buffer must be whole.
    deadline: Option<Instant>,
    held: Held,
}

impl Lines {
    pub(crate) fn new(ingest: &Ingest, body: Body) -> Self {
        Self {
            body,
            ended: false,
            buffer: BytesMut::new(),
            searched: 0,
            skipping: false,
            number: 1,
            deadline: None,
            held: ingest.shared.memory.hold(),
            ingest: ingest.clone(),
        }
    }

    /// Waits for the first bytes, for those who ask before they send: hyper tells them to go on when the body is read.
    pub(crate) async fn begin(&mut self) -> Result<(), Problem> {
        self.deadline = Some(Instant::now() + self.ingest.shared.settings.body_timeout);
        let begun = self.read().await;
        self.deadline = None;
        begun
    }

    /// Takes the rest of a body that will not be used, within bounds, so that the answers arrive.
    pub(crate) async fn discard(&mut self) {
        if !self.ended {
            let body = std::mem::take(&mut self.body);
            body::discard(body, &HeaderMap::new(), self.ingest.shared.settings.body_bytes).await;
            self.ended = true;
        }
    }

    /// Bytes that are kept, and bytes that are held for them and for lines that were not handed over.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn kept(&self) -> (usize, usize) {
        (self.buffer.len(), self.held.bytes())
    }

    /// Reads on. Cancel safe.
    async fn read(&mut self) -> Result<(), Problem> {
        let frame = match self.deadline {
            None => self.body.frame().await,
            Some(deadline) => match timeout_at(deadline, self.body.frame()).await {
                Ok(frame) => frame,
                Err(_) => {
                    let patience = self.ingest.shared.settings.body_timeout;
                    let detail = format!("a line must be whole within {patience:?}; the stream ends here");
                    return Err(Problem::new(Kind::BodyTimeout, detail).with("line", self.number));
                }
            },
        };
        match frame {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    self.held.take(data.len())?;
                    self.buffer.extend_from_slice(&data);
                }
                Ok(())
            }
            Some(Err(error)) => {
                self.ended = true;
                let detail = format!("the body ended too early or was no HTTP: {error}");
                Err(Problem::new(Kind::Malformed, detail).with("line", self.number))
            }
            None => {
                self.ended = true;
                Ok(())
            }
        }
    }

    /// The next thing that the buffer has; `None` if it needs more.
    fn take(&mut self) -> Option<Arrival> {
        loop {
            let newline = self.buffer[self.searched..]
                .iter()
                .position(|byte| *byte == b'\n');
            let Some(at) = newline.map(|at| self.searched + at) else {
                return self.unfinished();
            };
            let line = self.buffer.split_to(at).freeze();
            self.buffer.advance(1);
            self.give_back(1);
            if let Some(arrived) = self.line(line) {
                return Some(Arrival::Message(arrived));
            }
        }
    }

    fn give_back(&mut self, bytes: usize) {
        drop(self.held.split(bytes));
    }

    /// A buffer without a newline: the beginning of a line, or the end of the last one.
    fn unfinished(&mut self) -> Option<Arrival> {
        let limit = self.ingest.shared.settings.body_bytes;
        self.searched = self.buffer.len();
        if self.skipping {
            self.give_back(self.buffer.len());
            self.buffer.clear();
            self.searched = 0;
        } else if self.buffer.len() > limit {
            self.skipping = true;
            let bytes = self.buffer.len();
            return Some(Arrival::Message(Arrived {
                place: self.number,
                publish: Err(too_long(limit)),
                bytes,
            }));
        }
        if self.ended {
            let rest = self.buffer.split().freeze();
            let last = self.line(rest);
            return Some(last.map_or(Arrival::End(None), Arrival::Message));
        }
        None
    }

    /// A whole line; `None` if there is nothing to say about it: it is blank, or the rest of one that was answered.
    fn line(&mut self, line: Bytes) -> Option<Arrived> {
        let settings = &self.ingest.shared.settings;
        let place = self.number;
        self.number += 1;
        self.searched = 0;
        self.deadline = None;
        let bytes = line.len();
        // A blank line that is too long is answered like any other: if it came in pieces, it was.
        let is_too_long = bytes > settings.body_bytes;
        let is_blank = !is_too_long && line.iter().all(u8::is_ascii_whitespace);
        if std::mem::take(&mut self.skipping) || is_blank {
            // A line that is not answered belongs to no window, so nobody else would.
            self.give_back(bytes);
            return None;
        }
        let publish = if is_too_long {
            Err(too_long(settings.body_bytes))
        } else {
            one(&line, place, &settings.limits)
        };
        Some(Arrived {
            place,
            publish,
            bytes,
        })
    }
}

impl Arrivals for Lines {
    const DOOR: Door = Door::Ndjson;

    async fn next(&mut self) -> Arrival {
        loop {
            if let Some(arrival) = self.take() {
                return arrival;
            }
            // Nothing has to be whole while nothing is begun.
            if self.deadline.is_none() && !self.buffer.is_empty() && !self.skipping {
                self.deadline = Some(Instant::now() + self.ingest.shared.settings.body_timeout);
            }
            if let Err(problem) = self.read().await {
                return Arrival::End(Some(problem));
            }
        }
    }

    fn hand_over(&mut self) -> Held {
        // Until the window is written, nothing is read. What has begun by then is not late for that.
        self.deadline = None;
        let mut kept = self.held.hand_over();
        // What waits in the buffer belongs to the next window. If there is no room for it now, reading on will find out.
        if kept.bytes() > self.buffer.len() {
            let given = kept.split(self.buffer.len());
            self.held = given;
        } else {
            std::mem::swap(&mut self.held, &mut kept);
        }
        kept
    }
}

/// The message of a line.
fn one(line: &Bytes, number: u64, limits: &PublishLimits) -> Result<Publish, Problem> {
    let place = usize::try_from(number).unwrap_or(usize::MAX);
    match PublishRequest::parse(line, limits) {
        Ok(PublishRequest::One(publish)) => Ok(publish),
        Ok(PublishRequest::Batch(_)) => {
            let detail =
                "a line of a stream is one message, not an array of them; give each a line of its own";
            Err(Problem::new(Kind::Invalid, detail))
        }
        Err(errors) => Err(described(&errors.at_line(place))),
    }
}

fn too_long(limit: usize) -> Problem {
    let detail = format!("a line has at most {limit} bytes; it was skipped");
    Problem::too_large("ingest.body", limit, detail)
}
