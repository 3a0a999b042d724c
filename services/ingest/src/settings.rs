//! What can be set. The defaults are those of DESIGN §13.

use std::time::Duration;

use carillon_model::publish::PublishLimits;

/// How ingest behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct IngestSettings {
    /// The largest body of a request, in bytes.
    pub body_bytes: usize,
    /// What one request may hold: messages of a batch, rooms and data of a message.
    pub limits: PublishLimits,
    /// A message is written once for each of its rooms. One request makes at most so many copies.
    pub request_copies: usize,
    /// All copies of a request together have at most so many bytes.
    pub request_copy_bytes: usize,
    /// Bodies and copies of all requests together take at most so many bytes of memory; what comes on top is refused.
    pub buffered_bytes: usize,
    /// A request is answered within this time after its body was read, whatever the broker does.
    pub write_timeout: Duration,
    /// How long idempotency keys are kept.
    pub keep_keys: Duration,
    /// A partition's queue is full with so many entries.
    pub queue_entries: u64,
    /// How often the broker is looked at.
    pub watch_every: Duration,
    /// At most so many connections are open; more wait until one is closed.
    pub connections: usize,
    /// A request's header must be there, and its connection may be idle, within this time.
    pub idle_timeout: Duration,
    /// A request's body must be there within this time.
    pub body_timeout: Duration,
}

impl Default for IngestSettings {
    fn default() -> Self {
        Self {
            body_bytes: 1 << 20,
            limits: PublishLimits::default(),
            request_copies: 10_000,
            request_copy_bytes: 16 << 20,
            buffered_bytes: 256 << 20,
            write_timeout: Duration::from_secs(2),
            keep_keys: Duration::from_secs(600),
            queue_entries: 100_000,
            watch_every: Duration::from_secs(1),
            connections: 10_000,
            idle_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(30),
        }
    }
}
