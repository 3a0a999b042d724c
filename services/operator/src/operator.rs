//! The operator's life: wait to lead, watch, go round, and end when told or when another leads.

use std::{sync::Arc, time::Duration};

use carillon_broker::SharedBroker;
use carillon_chassis::health::Health;
use kube::Client;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    apply::Applier,
    events::Events,
    leader::{Candidate, LeadershipLost, Standing},
    metrics::OperatorMetrics,
    picture::{Place, Scope, Troubles, Watches},
    round::{Memory, Tools, round},
};

/// Changes that come together make one round.
const TOGETHER: Duration = Duration::from_millis(200);

/// Where the operator is and what it answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorSettings {
    /// Its own namespace: the PushCluster, the pods and the Lease are here.
    pub namespace: String,
    /// Namespaces whose PushRooms and PushProducers count; empty: its own; `*`: all.
    pub watch: Vec<String>,
    /// The PushCluster it answers for.
    pub cluster: String,
    /// Which pods and Deployments are this installation's, as a label selector.
    pub selector: String,
    /// The Lease that replicas share.
    pub lease: String,
    /// What this process is called: its pod's name.
    pub pod: String,
}

impl OperatorSettings {
    /// Where its PushCluster is.
    pub(crate) fn cluster(&self) -> Place {
        Place {
            namespace: self.namespace.clone(),
            name: self.cluster.clone(),
        }
    }

    fn scope(&self) -> Scope {
        let namespaces = match &*self.watch {
            [] => Some(vec![self.namespace.clone()]),
            names if names.iter().any(|name| name == "*") => None,
            names => {
                let mut names = names.to_vec();
                names.sort();
                names.dedup();
                Some(names)
            }
        };
        Scope {
            home: self.namespace.clone(),
            namespaces,
            selector: self.selector.clone(),
        }
    }
}

/// What an operator is made of.
#[derive(Clone)]
pub struct OperatorParts {
    /// Where it is.
    pub settings: OperatorSettings,
    /// The API.
    pub client: Client,
    /// Redis.
    pub broker: SharedBroker,
    /// Where readiness is told.
    pub health: Health,
    /// Its metrics.
    pub metrics: OperatorMetrics,
}

/// Turns custom resources into the policy in force.
#[derive(Clone)]
pub struct Operator {
    parts: OperatorParts,
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Operator")
            .field("settings", &self.parts.settings)
            .finish_non_exhaustive()
    }
}

impl Operator {
    /// An operator that does nothing yet.
    pub fn new(parts: OperatorParts) -> Self {
        Self { parts }
    }

    /// Works until told to end.
    ///
    /// # Errors
    /// Ends with [`LeadershipLost`] when another process leads instead of this one.
    pub async fn run(self, draining: CancellationToken) -> Result<(), LeadershipLost> {
        let OperatorParts {
            settings,
            client,
            health,
            metrics,
            ..
        } = &self.parts;
        let (sender, mut standing) = watch::channel(Standing::Following);
        // Another life of the same pod is another candidate.
        let mut id = [0; 8];
        let identity = match ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut id) {
            Ok(()) => format!("{}_{}", settings.pod, hex::encode(id)),
            Err(_) => format!("{}_{}", settings.pod, std::process::id()),
        };
        let mut candidate = Candidate::new(
            client.clone(),
            &settings.namespace,
            &settings.lease,
            &identity,
            sender,
            health.register("election"),
        );
        let ended = {
            let work = self.work(&mut standing);
            tokio::select! {
                lost = candidate.run() => Err(lost),
                () = work => Ok(()),
                () = draining.cancelled() => Ok(()),
            }
        };
        metrics.leader.set(0);
        candidate.resign().await;
        ended
    }

    async fn work(&self, standing: &mut watch::Receiver<Standing>) {
        let OperatorParts {
            settings,
            client,
            broker,
            health,
            metrics,
        } = &self.parts;
        // The sender outlives this: the election ends after the work does.
        let _ = standing.wait_for(|standing| *standing == Standing::Leading).await;
        metrics.leader.set(1);
        let troubles = Troubles::default();
        let told = troubles.clone();
        health.observe(move || vec![("watches", told.told())]);
        let watches = Watches::start(client, &settings.scope(), troubles);
        let tools = Tools {
            settings: Arc::new(settings.clone()),
            broker: broker.clone(),
            applier: Applier::new(client.clone()),
            events: Events::new(client.clone(), &settings.pod),
            metrics: metrics.clone(),
        };
        watches.ready().await;
        let mut memory = Memory::default();
        loop {
            // A leader that is not sure that it leads waits until it is.
            let leading = *standing.borrow_and_update() == Standing::Leading;
            metrics.leader.set(i64::from(leading));
            if !leading {
                let _ = standing.wait_for(|standing| *standing == Standing::Leading).await;
                continue;
            }
            let pause = tokio::select! {
                pause = round(&tools, &mut memory, watches.picture()) => pause,
                _ = standing.changed() => continue,
            };
            // Changes or time, whichever comes first.
            if timeout(pause, watches.changed()).await.is_ok() {
                sleep(TOGETHER).await;
            }
        }
    }
}
