//! Reading a partition, and reading ahead.
//!
//! A read may be under way while the batch before it is handled. That breaks no order: what is read ahead is handled
//! after, and thrown away with everything else when the batch before it fails.

use std::{fmt, time::Duration};

use carillon_broker::{BrokerError, QueueRead, QueueReader, Result};
use carillon_model::Offset;
use futures::future::BoxFuture;

use crate::patience::within;

type Reading = BoxFuture<'static, (Box<dyn QueueReader>, Result<QueueRead>)>;

/// A reader that is at rest or has a read under way.
pub(crate) struct Reads {
    state: State,
    limit: usize,
    block: Duration,
    /// A read that ends neither with entries nor by its own time is given up this long after.
    grace: Duration,
}

enum State {
    Resting(Box<dyn QueueReader>),
    Reading(Reading),
    Broken,
}

impl Reads {
    pub(crate) fn new(reader: Box<dyn QueueReader>, limit: usize, block: Duration, grace: Duration) -> Self {
        Self {
            state: State::Resting(reader),
            limit,
            block,
            grace,
        }
    }

    /// Begins to read what comes after an offset.
    pub(crate) fn start(&mut self, after: Offset) {
        self.state = match std::mem::replace(&mut self.state, State::Broken) {
            State::Resting(mut reader) => {
                let (limit, block, allowed) = (self.limit, self.block, self.block + self.grace);
                State::Reading(Box::pin(async move {
                    let read = within(allowed, "read_after", reader.read_after(after, limit, block)).await;
                    (reader, read)
                }))
            }
            other => other,
        };
    }

    /// Advances a read that was started, as far as it goes by itself. Never ends while it is under way.
    pub(crate) async fn advance(&mut self) -> Result<QueueRead> {
        let State::Reading(reading) = &mut self.state else {
            return Err(BrokerError::Unavailable("no read is under way".to_owned()));
        };
        // Cancel safe: the read stays here until it is over.
        let (reader, read) = reading.await;
        self.state = State::Resting(reader);
        read
    }
}

impl fmt::Debug for Reads {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Reads")
            .field("reading", &matches!(self.state, State::Reading(_)))
            .finish_non_exhaustive()
    }
}
