//! Counts the bytes of a call's body as they come, against what all requests together may hold.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    body::Body,
    extract::{Request, State},
};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use tonic::Status;

use crate::{Ingest, body::Held};

/// The bytes of one call that came and were not used yet. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Meter(Arc<Mutex<Held>>);

impl Meter {
    /// A meter for something that has no body, as in a call that did not pass [`metered`].
    pub(crate) fn new(ingest: &Ingest) -> Self {
        Self(Arc::new(Mutex::new(ingest.shared.memory.hold())))
    }

    /// Hands over what is held for the messages that were taken from the body.
    pub(crate) fn hand_over(&self) -> Held {
        self.0.lock().hand_over()
    }
}

/// Puts a meter before a call's body, and among the call's extensions.
pub(crate) async fn metered(State(ingest): State<Ingest>, request: Request) -> Request {
    let meter = Meter::new(&ingest);
    let (mut head, body) = request.into_parts();
    head.extensions.insert(meter.clone());
    Request::from_parts(head, Body::new(Metered { body, meter }))
}

struct Metered {
    body: Body,
    meter: Meter,
}

impl http_body::Body for Metered {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            other => return Poll::Ready(other.map(|result| result.map_err(Into::into))),
        };
        let length = frame.data_ref().map_or(0, Bytes::len);
        let taken = self.meter.0.lock().take(length);
        Poll::Ready(Some(match taken {
            Ok(()) => Ok(frame),
            // The status is found again in the error that ends the call.
            Err(problem) => Err(Box::new(Status::from(problem))),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
