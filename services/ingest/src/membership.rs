//! Being known to the others: which ingests there are, and which policy each applies.
//!
//! Nothing of ingest's own work needs it; whoever wrote a policy wants to know where it holds.

use std::{sync::Arc, time::Duration};

use carillon_broker::{Incarnation, Member, Membership, ServiceKind, membership::LISTED_EVERY};
use carillon_model::policy::Policy;
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

/// How long this process counts as alive after each renewal.
const ALIVE_FOR: Duration = Duration::from_secs(10);
/// How often its life is renewed.
const RENEW: Duration = Duration::from_secs(2);
/// How long to wait where the broker did not answer.
const RETRY: Duration = Duration::from_millis(500);

/// This process among the others.
pub struct Registration {
    broker: Arc<dyn Membership>,
    pod: String,
    policy: watch::Receiver<Arc<Policy>>,
    /// Who it is; `None` while it is nobody.
    standing: Mutex<Option<Incarnation>>,
}

impl Registration {
    /// A process of this pod that applies this policy.
    pub fn new(
        broker: Arc<dyn Membership>,
        pod: impl Into<String>,
        policy: watch::Receiver<Arc<Policy>>,
    ) -> Self {
        Self {
            broker,
            pod: pod.into(),
            policy,
            standing: Mutex::new(None),
        }
    }

    /// Registers and renews, for as long as it is polled. What others see follows the policy at once.
    pub async fn keep(&self, draining: impl Future<Output = ()>) {
        let mut draining = std::pin::pin!(draining);
        let mut going = false;
        let mut former: Option<Incarnation> = None;
        let mut incarnation = Incarnation::new(&self.pod, uuid::Uuid::now_v7().simple());
        loop {
            let mut policy = self.policy.clone();
            policy.mark_unchanged();
            let member = self.member(&incarnation, going);
            let registered = match &former {
                None => self.broker.register(&member, ALIVE_FOR).await,
                Some(former) => self.broker.register_again(&member, ALIVE_FOR, former).await,
            };
            if let Err(error) = registered {
                tracing::debug!(%error, "could not register");
                sleep(RETRY).await;
                continue;
            }
            tracing::info!(%incarnation, "registered");
            *self.standing.lock() = Some(incarnation.clone());
            let mut reported = Some(member);
            let mut renew_at = Instant::now() + RENEW;
            let mut list_at = Instant::now() + LISTED_EVERY;
            loop {
                tokio::select! {
                    biased;
                    () = &mut draining, if !going => going = true,
                    Ok(()) = policy.changed() => {}
                    () = sleep_until(renew_at) => match self.broker.renew(&incarnation, ALIVE_FOR).await {
                        Ok(true) => renew_at = Instant::now() + RENEW,
                        Ok(false) => break,
                        Err(error) => {
                            tracing::debug!(%error, "could not renew this life");
                            renew_at = Instant::now() + RETRY;
                        }
                    },
                }
                let member = self.member(&incarnation, going);
                if reported.as_ref() != Some(&member) || list_at <= Instant::now() {
                    list_at = Instant::now() + LISTED_EVERY;
                    // What could not be told is told with the next renewal.
                    reported = self.broker.report(&member).await.is_ok().then_some(member);
                }
            }
            tracing::warn!(%incarnation, "declared dead; coming back as another incarnation");
            *self.standing.lock() = None;
            let next = Incarnation::new(&self.pod, uuid::Uuid::now_v7().simple());
            former = Some(std::mem::replace(&mut incarnation, next));
        }
    }

    /// Ends this life at once, so that the others need not wait for it.
    pub async fn leave(&self) {
        let Some(incarnation) = self.standing.lock().take() else {
            return;
        };
        if let Err(error) = self.broker.deregister(&incarnation).await {
            tracing::debug!(%incarnation, %error, "the others will see it in a moment");
        }
    }

    fn member(&self, incarnation: &Incarnation, draining: bool) -> Member {
        Member {
            kind: ServiceKind::Ingest,
            incarnation: incarnation.clone(),
            address: String::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            capacity: 0,
            sessions: 0,
            last_probe: None,
            draining,
            policy_revision: self.policy.borrow().revision.to_string(),
        }
    }
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Registration")
            .field("pod", &self.pod)
            .field("standing", &self.standing)
            .finish_non_exhaustive()
    }
}
