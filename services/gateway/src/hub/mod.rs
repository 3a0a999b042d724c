//! The hub: rooms, sessions, recovery and outboxes. It knows nothing of Socket.IO.
//!
//! A transport [connects](Hub::connect) a session and gets a [`SessionHandle`]: it asks through the handle and writes
//! what comes out of the handle's outbox. Behind it work
//!
//! - the [shards](shard), which own sessions and rooms,
//! - the [channel](channel)'s reader, which brings frames,
//! - the [routes](routes)' keeper, which says in Redis what this gateway holds,
//! - the [history](history) reader, which shards share, and the reader of the [newest](newest) messages for those who
//!   look back,
//! - the [renewal](renewal) task, which keeps the incarnation alive; [failovers](failovers), which sees them; and
//!   [report](report), which tells the other gateways,
//! - [handover](handover) and [rebalance](rebalance), which give sessions up at a pace,
//! - [presence], which knows who is in a room,
//! - a line of [publishes](publish) per session.
//!
//! The rules they follow are DESIGN §5, *Gateway*; the simulator runs this code, not a model of it.

mod admission;
mod budget;
mod channel;
mod delivery;
mod failovers;
mod fingerprint;
mod handover;
mod health;
mod held_routes;
mod history;
mod intervals;
mod marker_ahead;
mod metrics;
mod mutations;
mod newest;
mod outbox;
mod peers;
mod presence;
mod publish;
mod rebalance;
mod registrar;
mod renewal;
mod report;
mod route_table;
mod routes;
mod session;
mod settings;
mod shard;
mod slots;
mod standing;
mod tasks;
mod ticks;
mod traces;
mod wake;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use carillon_broker::{MemoryGate, SharedBroker};
use carillon_model::{Offset, policy::Policy};
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

pub use delivery::Delivery;
pub use handover::Carried;
pub use health::{Check, HubHealth};
pub use metrics::HubMetrics;
pub use mutations::HubMutations;
pub use outbox::{CloseReason, CursorNote, OutboxReceiver, Outgoing};
pub use presence::{PresenceNote, PresenceSummary};
pub use publish::{Publish, PublishReceipt, Published};
pub use session::{Connect, Identity, Joined, Refusal, RefusalCode, SessionHandle, Start};
pub use settings::HubSettings;
pub use traces::DeliveryTrace;

use self::{
    budget::OutboxBudget,
    peers::Peers,
    publish::{PublishDesk, Publisher},
    registrar::Registrar,
    shard::{Request, SessionKey, Shards},
    standing::Standing,
};

/// What a hub is made of.
#[derive(Debug)]
pub struct HubParts {
    /// Where it meets the other services.
    pub broker: SharedBroker,
    /// Asked before the broker's memory grows.
    pub memory_gate: MemoryGate,
    /// What is allowed; it may change at any time.
    pub policy: watch::Receiver<Arc<Policy>>,
    /// What was set.
    pub settings: HubSettings,
    /// What it counts.
    pub metrics: HubMetrics,
    /// Where incarnations' ids come from; seeded in simulations.
    pub random: fastrand::Rng,
    /// Rules broken on purpose; none outside tests.
    pub mutations: HubMutations,
}

/// A gateway's hub. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    broker: SharedBroker,
    memory_gate: MemoryGate,
    outboxes: Arc<OutboxBudget>,
    settings: HubSettings,
    metrics: HubMetrics,
    health: HubHealth,
    shards: Shards,
    desk: Arc<PublishDesk>,
    sessions: AtomicU64,
    draining: Arc<AtomicBool>,
    carried_turns: Arc<Semaphore>,
    peers: Arc<Peers>,
    standing: watch::Sender<Option<Standing>>,
}

/// The hub's tasks; they end when this is dropped.
#[derive(Debug)]
pub struct HubTasks(JoinSet<()>);

impl HubTasks {
    /// Waits until one of the tasks ends, which none ever should.
    pub async fn failed(&mut self) {
        self.0.join_next().await;
    }
}

impl Hub {
    /// Starts the hub's tasks. Sessions can connect at once; they are served as soon as the broker answers.
    pub fn start(parts: HubParts) -> (Self, HubTasks) {
        let HubParts {
            broker,
            memory_gate,
            policy,
            mut settings,
            metrics,
            random,
            mutations,
        } = parts;
        settings.shards = settings.shards.clamp(1, 64);
        let partitions = broker.partitions();
        let health = HubHealth::new(&settings);
        let outboxes = i64::try_from(settings.outboxes_bytes).unwrap_or(i64::MAX);
        metrics.outbox_bytes_limit.set(outboxes);
        let draining = Arc::new(AtomicBool::new(false));
        let peers = Arc::new(Peers::default());
        let (shards, inboxes) = shard::queues(settings.shards);
        let desk = Arc::new(PublishDesk {
            broker: Arc::clone(&broker),
            memory_gate: memory_gate.clone(),
            partitions,
            policy: policy.clone(),
            settings: settings.clone(),
            metrics: metrics.clone(),
            known: partitions
                .partitions()
                .map(|_| Mutex::new(Offset::ZERO))
                .collect(),
            held: std::sync::atomic::AtomicUsize::new(0),
        });
        let registrar = Registrar {
            broker: Arc::clone(&broker),
            settings: settings.clone(),
            policy: policy.clone(),
            metrics: metrics.clone(),
            health: health.clone(),
            draining: Arc::clone(&draining),
            peers: Arc::clone(&peers),
            random: Arc::new(Mutex::new(random)),
        };
        let hub = Self(Arc::new(Inner {
            broker,
            memory_gate,
            outboxes: Arc::new(OutboxBudget::new(settings.outboxes_bytes)),
            settings,
            metrics,
            health,
            shards,
            desk,
            sessions: AtomicU64::new(0),
            draining,
            carried_turns: Arc::new(Semaphore::new(0)),
            peers,
            standing: watch::Sender::new(None),
        }));
        let mut tasks = JoinSet::new();
        tasks.spawn(hub.clone().run(registrar, inboxes, policy, mutations));
        (hub, HubTasks(tasks))
    }

    /// Takes in a session. Its rooms by identity and those of its cursors are joined at once; where it starts in each
    /// is told through its outbox.
    pub async fn connect(&self, connect: Connect) -> Result<SessionHandle, Refusal> {
        let inner = &self.0;
        self.admits()?;
        let key = SessionKey(inner.sessions.fetch_add(1, Ordering::Relaxed));
        let queues = inner.shards.of(key);
        let (outbox, receiver) = outbox::Outbox::new(
            inner.settings.outbox_bytes,
            Arc::clone(&inner.outboxes),
            key,
            Arc::clone(&queues.signals),
        );
        let Connect { id, identity, since } = connect;
        let alive = Arc::new(());
        let handle = SessionHandle {
            key,
            id: Arc::clone(&id),
            identity: identity.clone(),
            requests: queues.requests.clone(),
            signals: Arc::clone(&queues.signals),
            publisher: Publisher::new(Arc::clone(&inner.desk), Arc::clone(&id), identity.clone()),
            outbox: Some(receiver),
            alive: Some(Arc::clone(&alive)),
        };
        let request = Request::Connect {
            session: key,
            id,
            identity,
            since,
            outbox,
            alive: Arc::downgrade(&alive),
        };
        drop(alive);
        queues.requests.send(request).await.map_err(|_| Refusal::gone())?;
        Ok(handle)
    }

    /// Whether this gateway's own path works.
    pub fn health(&self) -> &HubHealth {
        &self.0.health
    }

    /// This gateway's present incarnation, once it is registered.
    pub fn incarnation(&self) -> Option<carillon_broker::Incarnation> {
        self.0
            .standing
            .borrow()
            .as_ref()
            .map(|standing| standing.view().incarnation.clone())
    }

    /// Leaves for good: the incarnation is deregistered, so that dispatchers stop sending at once.
    pub async fn leave(&self) {
        let Some(incarnation) = self.incarnation() else {
            return;
        };
        if let Err(error) = carillon_broker::Membership::deregister(&*self.0.broker, &incarnation).await {
            tracing::warn!(%error, %incarnation, "could not deregister; the incarnation expires by itself");
        }
    }
}
