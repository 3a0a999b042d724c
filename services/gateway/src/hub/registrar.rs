//! Registers this gateway: its incarnation, and what others see of it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use carillon_broker::{
    BrokerError, Health, Incarnation, Lives, Member, Membership, ServiceKind, SharedBroker,
};
use carillon_model::policy::Policy;
use tokio::sync::watch;

use super::{HubSettings, health::HubHealth, metrics::HubMetrics, peers::Peers};

/// What a gateway says of itself.
#[derive(Clone, Debug)]
pub(super) struct Registrar {
    pub(super) broker: SharedBroker,
    pub(super) settings: HubSettings,
    pub(super) policy: watch::Receiver<Arc<Policy>>,
    pub(super) metrics: HubMetrics,
    pub(super) health: HubHealth,
    pub(super) draining: Arc<AtomicBool>,
    pub(super) peers: Arc<Peers>,
    pub(super) random: Arc<parking_lot::Mutex<fastrand::Rng>>,
}

impl Registrar {
    /// Makes an incarnation alive, and gives the lives of the servers as they were before its first route. `former`: the
    /// one that was declared dead.
    async fn register(
        &self,
        incarnation: &Incarnation,
        former: Option<&Incarnation>,
    ) -> Result<Lives, BrokerError> {
        let lives = Health::lives(&*self.broker, Some(incarnation)).await?;
        let (member, alive_for) = (self.member(incarnation), self.settings.alive_for);
        match former {
            None => Membership::register(&*self.broker, &member, alive_for).await?,
            Some(former) => self.broker.register_again(&member, alive_for, former).await?,
        }
        self.health.alive(true);
        let limit = i64::try_from(self.settings.capacity).unwrap_or(i64::MAX);
        self.metrics.sessions_limit.set(limit);
        tracing::info!(%incarnation, "registered");
        Ok(lives)
    }

    /// A new incarnation, registered for as long as it takes the broker to answer. It is the same at each try: one whose
    /// registration was half done would count as died.
    pub(super) async fn register_patiently(&self, former: Option<&Incarnation>) -> (Incarnation, Lives) {
        let id = { format!("{:016x}", self.random.lock().u64(..)) };
        let incarnation = Incarnation::new(&self.settings.pod, id);
        let mut told = false;
        loop {
            match self.register(&incarnation, former).await {
                Ok(lives) => return (incarnation, lives),
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(%error, "waiting for the broker");
                    }
                    self.metrics
                        .broker_errors
                        .with_label_values(&[error.kind()])
                        .inc();
                    self.health.redis_failed(error.to_string());
                    tokio::time::sleep(self.settings.retry).await;
                }
            }
        }
    }

    /// A call failed: it is counted, and readiness knows why.
    pub(super) fn failed(&self, error: &BrokerError) {
        tracing::debug!(%error, "the broker did not answer");
        self.metrics
            .broker_errors
            .with_label_values(&[error.kind()])
            .inc();
        self.health.redis_failed(error.to_string());
    }

    pub(super) fn member(&self, incarnation: &Incarnation) -> Member {
        Member {
            kind: ServiceKind::Gateway,
            incarnation: incarnation.clone(),
            address: self.settings.address.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            capacity: self.settings.capacity,
            sessions: self.metrics.session_count(),
            last_probe: self.health.last_probe(),
            draining: self.draining.load(Ordering::Relaxed),
            policy_revision: self.policy.borrow().revision.to_string(),
        }
    }
}
