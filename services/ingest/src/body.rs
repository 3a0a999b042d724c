//! Reading a body within bounds: of its size, of time, and of what all requests together may hold in memory.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use crate::{
    IngestSettings,
    problem::{Kind, Problem},
};

/// Bytes that requests may hold.
#[derive(Debug)]
pub(crate) struct Budget(Arc<Semaphore>);

/// Bytes that one request holds; given back when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    budget: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))))
    }

    /// Holds nothing yet.
    pub(crate) fn hold(&self) -> Held {
        Held {
            budget: Arc::clone(&self.0),
            permit: None,
        }
    }
}

impl Held {
    /// That no more can be held.
    pub(crate) fn exhausted() -> Problem {
        let detail = "this process holds as many bytes of requests as it may; nothing was accepted";
        Problem::new(Kind::Busy, detail)
            .with("outcome", "refused")
            .retry_after(1)
    }

    /// How many bytes are held.
    pub(crate) fn bytes(&self) -> usize {
        self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Gives back all but so many bytes.
    pub(crate) fn give_back_to(&mut self, bytes: usize) {
        let more = self.bytes().saturating_sub(bytes);
        drop(self.split(more));
    }

    /// Splits so many bytes off, which it must hold.
    pub(crate) fn split(&mut self, bytes: usize) -> Self {
        Self {
            budget: Arc::clone(&self.budget),
            permit: self.permit.as_mut().and_then(|permit| permit.split(bytes)),
        }
    }

    /// Hands over what is held; this one holds nothing any more.
    pub(crate) fn hand_over(&mut self) -> Self {
        Self {
            budget: Arc::clone(&self.budget),
            permit: self.permit.take(),
        }
    }

    /// Holds so many bytes more, if they are left.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), Problem> {
        let taken = u32::try_from(bytes)
            .ok()
            .and_then(|bytes| Arc::clone(&self.budget).try_acquire_many_owned(bytes).ok());
        let Some(taken) = taken else {
            return Err(Self::exhausted());
        };
        match &mut self.permit {
            Some(permit) => permit.merge(taken),
            None => self.permit = Some(taken),
        }
        Ok(())
    }
}

/// Reads a request's body. Its length is counted as it comes: a chunked body has no length to trust.
pub(crate) async fn read(
    body: Body,
    headers: &HeaderMap,
    settings: &IngestSettings,
    held: &mut Held,
) -> Result<Bytes, Problem> {
    let limit = settings.body_bytes;
    let too_large = || {
        let detail = format!("a body has at most {limit} bytes; send several requests");
        Problem::too_large("ingest.body", limit, detail)
    };
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|announced| announced > limit) {
        discard(body, headers, limit).await;
        return Err(too_large());
    }
    let deadline = Instant::now() + settings.body_timeout;
    let mut body = body;
    let mut bytes = BytesMut::new();
    loop {
        match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                let Ok(data) = frame.into_data() else { continue };
                if bytes.len() + data.len() > limit {
                    discard(body, headers, limit).await;
                    return Err(too_large());
                }
                held.take(data.len())?;
                bytes.extend_from_slice(&data);
            }
            Ok(Some(Err(error))) => {
                let detail = format!("the body ended too early or was no HTTP: {error}");
                return Err(Problem::new(Kind::Malformed, detail));
            }
            Ok(None) => return Ok(bytes.freeze()),
            Err(_) => {
                let detail = format!("the body must be there within {:?}", settings.body_timeout);
                return Err(Problem::new(Kind::BodyTimeout, detail));
            }
        }
    }
}

/// Takes the rest of a body that will not be used, for a moment and up to a few times the limit: most clients read the
/// answer only after they sent everything, and closing in the middle would reset their connection instead.
pub(crate) async fn discard(body: Body, headers: &HeaderMap, limit: usize) {
    // Whoever asks before sending reads the answer first.
    if headers.contains_key(header::EXPECT) {
        return;
    }
    let deadline = Instant::now() + Duration::from_secs(1);
    let mut left = limit.saturating_mul(8);
    let mut body = body;
    while let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        if length > left {
            return;
        }
        left -= length;
    }
}
