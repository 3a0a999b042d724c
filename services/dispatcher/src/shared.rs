//! What all parts of one dispatcher share.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use carillon_broker::{Incarnation, MemoryGate, Result, ServiceKind, SharedBroker};
use carillon_model::{Offset, Partition, policy::Policy};
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};
use tracing::{debug, warn};

use crate::{
    DispatcherMetrics, DispatcherMutations, DispatcherSettings, partition::PrevMemory, patience::within,
    progress::ProgressBoard,
};

/// How long the gateways are not asked for after a failure.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct KnownGateways {
    living: Vec<Incarnation>,
    failed: Option<Instant>,
}

/// Made once, shared by every task.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) broker: SharedBroker,
    pub(crate) memory_gate: MemoryGate,
    pub(crate) policy: watch::Receiver<Arc<Policy>>,
    pub(crate) settings: DispatcherSettings,
    pub(crate) metrics: DispatcherMetrics,
    pub(crate) mutations: DispatcherMutations,
    pub(crate) known: KnownOffsets,
    pub(crate) board: ProgressBoard,
    /// Who was listed when members were last looked at, of every kind.
    pub(crate) listed: Mutex<Arc<[(ServiceKind, Incarnation)]>>,
    known_gateways: Mutex<KnownGateways>,
    /// Only for [`DispatcherMutations::keep_prev_over_lease`].
    kept_prevs: Mutex<BTreeMap<Partition, Arc<Mutex<PrevMemory>>>>,
    random: Mutex<fastrand::Rng>,
}

impl Shared {
    pub(crate) fn new(
        broker: SharedBroker,
        memory_gate: MemoryGate,
        policy: watch::Receiver<Arc<Policy>>,
        settings: DispatcherSettings,
        metrics: DispatcherMetrics,
        mutations: DispatcherMutations,
        random: fastrand::Rng,
    ) -> Self {
        Self {
            broker,
            memory_gate,
            policy,
            settings,
            metrics,
            mutations,
            known: KnownOffsets::default(),
            board: ProgressBoard::default(),
            listed: Mutex::default(),
            known_gateways: Mutex::default(),
            kept_prevs: Mutex::default(),
            random: Mutex::new(random),
        }
    }

    /// Makes a call to the broker, gives it up after its time, and counts its failure.
    pub(crate) async fn call<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.call_within(self.settings.call_timeout, what, call).await
    }

    /// The same, with a time of its own.
    pub(crate) async fn call_within<T>(
        &self,
        limit: Duration,
        what: &'static str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        within(limit, what, call)
            .await
            .inspect_err(|error| self.metrics.failed(error))
    }

    /// The living gateways. Their lives lie on many servers: where one of those does not answer, they are as before, and
    /// nobody asks again for a while.
    pub(crate) async fn gateways(&self) -> Vec<Incarnation> {
        let wait = |failed: Instant| failed.elapsed() < ASK_AGAIN_AFTER;
        {
            let known = self.known_gateways.lock();
            if known.failed.is_some_and(wait) {
                return known.living.clone();
            }
        }
        let members = self.broker.members(ServiceKind::Gateway);
        let members = self
            .call_within(self.settings.channel_patience, "members", members)
            .await;
        let mut known = self.known_gateways.lock();
        match members {
            Ok(members) => {
                known.failed = None;
                known.living = members.into_iter().map(|member| member.incarnation).collect();
            }
            Err(error) => {
                debug!(%error, "probes go to the gateways known from before");
                known.failed = Some(Instant::now());
            }
        }
        known.living.clone()
    }

    /// The gateways that a marker of the partition is for. Where it is not known who lives, all that are listed: a dead
    /// one's channel says so.
    pub(crate) async fn gateways_for_marker(&self) -> Vec<Incarnation> {
        let members = self.broker.members(ServiceKind::Gateway);
        match self.call("members", members).await {
            Ok(members) => members.into_iter().map(|member| member.incarnation).collect(),
            Err(error) => {
                debug!(%error, "the marker goes to all gateways that were listed");
                let listed = self.listed.lock().clone();
                let gateways = listed.iter().filter(|(kind, _)| *kind == ServiceKind::Gateway);
                gateways.map(|(_, incarnation)| incarnation.clone()).collect()
            }
        }
    }

    /// After a dead letter was written: drops the oldest of too many. Where that fails, the next letter's turn does it.
    pub(crate) async fn cap_dead_letters(&self, partition: Partition) {
        let keep = self.settings.dead_letters;
        let cap = self.broker.cap_dead_letters(partition, keep);
        match self.call("cap_dead_letters", cap).await {
            Ok(0) => {}
            Ok(dropped) => {
                warn!(%partition, dropped, keep, "there are too many dead letters; the oldest were dropped");
                self.metrics.dead_letters_dropped.inc_by(dropped);
            }
            Err(error) => debug!(%partition, %error, "too many dead letters may be kept"),
        }
    }

    /// Randomness of its own for a task.
    pub(crate) fn fork_random(&self) -> fastrand::Rng {
        self.random.lock().fork()
    }

    /// A new lease's memory of what was read.
    pub(crate) fn prev_memory(&self, partition: Partition) -> Arc<Mutex<PrevMemory>> {
        let fresh = || Arc::new(Mutex::new(PrevMemory::new(self.settings.remembered_rooms)));
        if self.mutations.keep_prev_over_lease {
            Arc::clone(self.kept_prevs.lock().entry(partition).or_insert_with(fresh))
        } else {
            fresh()
        }
    }
}

/// The greatest offset this process knows of each partition: after a failover no offset at or below it may be given
/// again. It outlives leases.
#[derive(Debug, Default)]
pub(crate) struct KnownOffsets(Mutex<BTreeMap<Partition, Offset>>);

impl KnownOffsets {
    pub(crate) fn of(&self, partition: Partition) -> Offset {
        self.0.lock().get(&partition).copied().unwrap_or_default()
    }

    pub(crate) fn saw(&self, partition: Partition, offset: Offset) {
        let mut known = self.0.lock();
        let greatest = known.entry(partition).or_default();
        *greatest = offset.max(*greatest);
    }
}
