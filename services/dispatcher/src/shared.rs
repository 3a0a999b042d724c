//! What all parts of one dispatcher share.

use std::{collections::BTreeMap, future::Future, sync::Arc};

use carillon_broker::{MemoryGate, Result, SharedBroker};
use carillon_model::{Offset, Partition, policy::Policy};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    DispatcherMetrics, DispatcherMutations, DispatcherSettings, partition::PrevMemory, patience::within,
    progress::ProgressBoard,
};

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
        within(self.settings.call_timeout, what, call)
            .await
            .inspect_err(|error| self.metrics.failed(error))
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
