//! The parts of a dispatcher, wired together.

use std::sync::Arc;

use carillon_broker::{MemoryGate, SharedBroker};
use carillon_model::policy::Policy;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    DispatcherMetrics, DispatcherMutations, DispatcherSettings, DispatcherStatus, backlog, confirmers,
    leases::Leaseholder,
    lives::{self, Seen},
    membership::Membership,
    probes,
    shared::Shared,
};

/// What a dispatcher is made of.
#[derive(Debug)]
pub struct DispatcherParts {
    /// Where it meets the other services.
    pub broker: SharedBroker,
    /// Asked before the broker's memory grows.
    pub memory_gate: MemoryGate,
    /// What is kept of rooms, and which lists are taken from; it may change at any time.
    pub policy: watch::Receiver<Arc<Policy>>,
    /// What was set.
    pub settings: DispatcherSettings,
    /// What it counts.
    pub metrics: DispatcherMetrics,
    /// Where incarnations' ids and the jitter of pauses come from; seeded in simulations.
    pub random: fastrand::Rng,
    /// Rules broken on purpose; none outside tests.
    pub mutations: DispatcherMutations,
}

/// Works off queues: into histories, and on to the gateways that hold a target.
#[derive(Debug)]
pub struct Dispatcher {
    shared: Arc<Shared>,
    status: watch::Sender<DispatcherStatus>,
}

impl Dispatcher {
    /// A dispatcher that does nothing yet.
    pub fn new(parts: DispatcherParts) -> Self {
        let DispatcherParts {
            broker,
            memory_gate,
            policy,
            settings,
            metrics,
            random,
            mutations,
        } = parts;
        let shared = Shared::new(broker, memory_gate, policy, settings, metrics, mutations, random);
        Self {
            shared: Arc::new(shared),
            status: watch::Sender::default(),
        }
    }

    /// How it is, for readiness.
    pub fn status(&self) -> watch::Receiver<DispatcherStatus> {
        self.status.subscribe()
    }

    /// Works until `drain` is cancelled, then hands everything over and leaves. Waits for a broker that is away, at
    /// the start and at any time. Dropping the future ends everything at once, as a kill would.
    pub async fn run(self, drain: CancellationToken) {
        let Self { shared, status } = self;
        let (standing_sender, standing) = watch::channel(None);
        let (lives_sender, lives) = watch::channel(Seen::default());
        let mut membership = Membership::new(Arc::clone(&shared), standing_sender);
        let mut leases = Leaseholder::new(Arc::clone(&shared), standing.clone(), lives.clone(), status);
        let watched = lives.clone();
        tokio::select! {
            biased;
            () = leases.run(&drain) => {}
            () = membership.run(&drain) => {}
            () = lives::watch_lives(&shared, lives_sender) => {}
            () = probes::send_probes(Arc::clone(&shared), standing, lives) => {}
            () = backlog::watch_backlog(Arc::clone(&shared)) => {}
            () = confirmers::watch_confirmers(&shared, watched) => {}
        }
        membership.leave().await;
    }
}
