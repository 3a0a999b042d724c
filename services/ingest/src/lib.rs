//! Ingest: takes messages from producers and puts them into the queues.
//!
//! There are three doors: `http` takes requests of one message or a batch, `ndjson` takes streams of lines over HTTP,
//! and `grpc` takes both over gRPC. Behind each a message goes through the same line of gates, and each can only refuse
//! what has not been written yet:
//!
//! 1. `producer`: who sends? A key's hash, looked up in the policy.
//! 2. `body`, `lines`, `grpc::metered`: read within bounds of size, time and memory.
//! 3. [`carillon_model::publish`]: is it a request? Every mistake is told at once.
//! 4. `accept`: rooms the producer may send to, its quota, the room left in Redis.
//! 5. `write`: one append per partition, and what the answers mean.
//!
//! `stream` is what NDJSON and gRPC have in common: messages that arrive one after the other, are written in their order,
//! and are answered one by one, no faster than the answers are taken.
//!
//! What is worth reading first is `write`: the three outcomes of DESIGN §4 (1) are decided there. *Accepted* means
//! the broker has it. *Refused* means that nothing was written. *Unknown* means that an answer was lost, and that
//! repeating the request with its idempotency key is safe.
//!
//! Nothing here knows which broker it writes to, or how a process is started: [`Ingest`] is given its parts, [`router`]
//! makes it a service, and [`serve`] and [`serve_grpc`] put that on sockets.

mod accept;
mod answer;
mod backlog;
mod body;
mod cloud_events;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod grpc;
mod guarded;
mod http;
mod lines;
mod membership;
mod metrics;
mod ndjson;
mod openapi;
mod presence;
mod problem;
mod producer;
mod quota;
mod server;
mod servers;
mod settings;
mod standing;
mod stream;
mod tls;
mod watch;
mod write;
mod written;

use std::sync::Arc;

use carillon_broker::{Health, MemoryGate, Queue};
use carillon_model::{PartitionCount, policy::Policy};
use tokio::sync;

pub use backlog::watch_backlog;
pub use http::router;
pub use membership::Registration;
pub use metrics::IngestMetrics;
pub use server::{serve, serve_grpc};
pub use settings::IngestSettings;
pub use tls::{Tls, TlsError};

/// The service, apart from any socket. Clones share one.
#[derive(Clone)]
pub struct Ingest {
    shared: Arc<Shared>,
    memory_gate: MemoryGate,
    presence: Option<presence::Source>,
}

struct Shared {
    settings: IngestSettings,
    policy: sync::watch::Receiver<Arc<Policy>>,
    metrics: IngestMetrics,
    quotas: quota::Quotas,
    memory: body::Budget,
    writer: write::Writer,
    health: Arc<dyn Health>,
    watched: watch::Watched,
    standing: standing::Stands,
}

impl Ingest {
    /// A service that writes to this queue as long as the gate lets messages through.
    pub fn new(
        settings: IngestSettings,
        partitions: PartitionCount,
        queue: Arc<dyn Queue>,
        health: Arc<dyn Health>,
        memory_gate: MemoryGate,
        policy: sync::watch::Receiver<Arc<Policy>>,
        metrics: IngestMetrics,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                quotas: quota::Quotas::default(),
                memory: body::Budget::new(settings.buffered_bytes),
                writer: write::Writer::new(queue, partitions, &settings),
                watched: watch::Watched::default(),
                standing: standing::Stands::default(),
                settings,
                policy,
                metrics,
                health,
            }),
            memory_gate,
            presence: None,
        }
    }
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Ingest")
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}
