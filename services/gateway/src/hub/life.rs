//! Keeps this gateway alive in the eyes of the others, and looks at the servers' lives.
//!
//! Only the server's clock says whether an incarnation is dead. One that was declared dead never comes back: the
//! gateway takes another, with another channel, and joins all its rooms again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use carillon_broker::{
    BrokerError, Health, Incarnation, Lives, Member, Membership, ServiceKind, SharedBroker,
};
use carillon_model::{Partition, PartitionCount, policy::Policy};
use indexmap::IndexSet;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior},
};

use super::{
    HubSettings, health::HubHealth, metrics::HubMetrics, peers::Peers, presence::PresenceDesk,
    rebalance::Census, route_table::RouteTable, standing::Standing,
};

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
    /// A new incarnation, alive, with the lives of the servers as they were before its first route.
    pub(super) async fn register(&self) -> Result<(Incarnation, Lives), BrokerError> {
        let id = { format!("{:016x}", self.random.lock().u64(..)) };
        let incarnation = Incarnation::new(&self.settings.pod, id);
        let lives = Health::lives(&*self.broker, Some(&incarnation)).await?;
        Membership::register(&*self.broker, &self.member(&incarnation), self.settings.alive_for).await?;
        self.health.redis_answered();
        self.health.alive(true);
        let limit = i64::try_from(self.settings.capacity).unwrap_or(i64::MAX);
        self.metrics.sessions_limit.set(limit);
        tracing::info!(%incarnation, "registered");
        Ok((incarnation, lives))
    }

    /// As [`Registrar::register`], for as long as it takes the broker to answer.
    pub(super) async fn register_patiently(&self) -> (Incarnation, Lives) {
        let mut told = false;
        loop {
            match self.register().await {
                Ok(registered) => return registered,
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

    fn member(&self, incarnation: &Incarnation) -> Member {
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

/// The task.
pub(super) struct LifeTask {
    pub(super) registrar: Registrar,
    pub(super) partitions: PartitionCount,
    pub(super) standing: Standing,
    pub(super) routes: Arc<RouteTable>,
    pub(super) presence: Arc<PresenceDesk>,
    pub(super) census: Arc<Census>,
    pub(super) look_at_lives: Arc<Notify>,
}

impl LifeTask {
    /// Runs until the gateway ends.
    pub(super) async fn run(self) {
        let settings = &self.registrar.settings;
        let mut renew = every(settings.renew);
        let mut look = every(settings.look_at_lives);
        let mut report = every(settings.report);
        let mut policy = self.registrar.policy.clone();
        let mut second_look: Option<(Instant, IndexSet<Partition>)> = None;
        loop {
            let second_at = second_look.as_ref().map(|(at, _)| *at);
            tokio::select! {
                biased;
                // The rarer, the earlier: on a slow server a look takes longer than its interval, and nothing may
                // starve behind it.
                () = at(second_at) => {
                    if let Some((_, partitions)) = second_look.take() {
                        // What an old primary still took in its last moments.
                        self.reassert(partitions);
                    }
                }
                _ = report.tick() => self.report().await,
                // Whoever wrote a policy waits to hear that it is applied.
                () = changed(&mut policy) => self.report().await,
                _ = renew.tick() => self.renew().await,
                _ = look.tick() => self.look(&mut second_look).await,
                () = self.look_at_lives.notified() => {
                    self.look(&mut second_look).await;
                    look.reset();
                    // Whoever woke us reads again at once; looking more often finds nothing new.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// Whatever this gateway keeps in these partitions is written again.
    fn reassert(&self, partitions: IndexSet<Partition>) {
        self.presence.reassert(partitions.iter().copied());
        self.routes.reassert(partitions);
    }

    async fn renew(&self) {
        let incarnation = self.standing.view().incarnation.clone();
        let Registrar {
            broker,
            settings,
            metrics,
            health,
            ..
        } = &self.registrar;
        match Membership::renew(&**broker, &incarnation, settings.alive_for).await {
            Ok(true) => {
                health.redis_answered();
                health.alive(true);
            }
            Ok(false) => {
                tracing::warn!(%incarnation, "declared dead; starting over as another incarnation");
                health.alive(false);
                metrics.reincarnations.inc();
                let (incarnation, lives) = self.registrar.register_patiently().await;
                self.standing.reincarnate(incarnation, lives.channel);
                self.reassert(self.partitions.partitions().collect());
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&self, error: &BrokerError) {
        tracing::debug!(%error, "the broker did not answer");
        self.registrar
            .metrics
            .broker_errors
            .with_label_values(&[error.kind()])
            .inc();
        self.registrar.health.redis_failed(error.to_string());
    }

    /// A change of a life is a failover: all rooms of its partitions are joined again, and once more later.
    async fn look(&self, second_look: &mut Option<(Instant, IndexSet<Partition>)>) {
        let incarnation = self.standing.view().incarnation.clone();
        let Registrar {
            broker,
            settings,
            metrics,
            health,
            ..
        } = &self.registrar;
        let lives = match Health::lives(&**broker, Some(&incarnation)).await {
            Ok(lives) => lives,
            Err(error) => return self.failed(&error),
        };
        health.redis_answered();
        let changes = self.standing.observe(&lives);
        let changed: IndexSet<Partition> = if changes.channel {
            self.partitions.partitions().collect()
        } else {
            changes.partitions.into_iter().collect()
        };
        if changed.is_empty() {
            return;
        }
        tracing::warn!(
            partitions = changed.len(),
            channel = changes.channel,
            "a server failed over or restarted"
        );
        metrics.failovers.inc();
        self.reassert(changed.clone());
        let again = Instant::now() + settings.second_look;
        let (at, partitions) = second_look.get_or_insert_with(|| (again, IndexSet::new()));
        *at = again;
        partitions.extend(changed);
    }

    async fn report(&self) {
        let incarnation = self.standing.view().incarnation.clone();
        let Registrar {
            broker,
            metrics,
            health,
            ..
        } = &self.registrar;
        metrics
            .rooms
            .set(i64::try_from(self.routes.rooms()).unwrap_or(i64::MAX));
        let tails = metrics.tail_bytes.load(Ordering::Relaxed);
        metrics
            .tail_bytes_gauge
            .set(i64::try_from(tails).unwrap_or(i64::MAX));
        if let Err(error) = Membership::report(&**broker, &self.registrar.member(&incarnation)).await {
            return self.failed(&error);
        }
        match Membership::members(&**broker, ServiceKind::Gateway).await {
            Ok(members) => {
                self.registrar.peers.see(&members);
                self.census.take(&members, &incarnation);
                let others = members.iter().filter(|member| member.incarnation != incarnation);
                let probes =
                    others.filter_map(|member| Some((member.incarnation.clone(), member.last_probe?)));
                health.others_report(probes.collect());
            }
            Err(error) => self.failed(&error),
        }
    }
}

async fn changed(policy: &mut watch::Receiver<Arc<Policy>>) {
    if policy.changed().await.is_err() {
        // It never will again.
        std::future::pending::<()>().await;
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}
