//! Who leads: one of the operator's replicas, by a Lease in the API.
//!
//! The Lease holds a name and a time, and nobody compares that time with a clock: a follower takes over when *it* has
//! not seen the Lease change for the Lease's duration. A leader that can't renew stops acting before that, and goes on
//! if nobody has taken over when the API is back; so an API server that is away for a while restarts nothing. One whose
//! Lease was taken ends its process: it may know things that are no longer true.

mod record;

use std::time::Duration;

use carillon_chassis::health::CheckHandle;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use record::{Decision, Record};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

/// A follower takes over when it has seen no renewal for so long.
const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for so long stops acting.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause between looks.
const PAUSE: Duration = Duration::from_secs(2);
/// How long a call may take.
const CALL: Duration = Duration::from_secs(4);

/// How this process stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Another leads, or nobody yet.
    Following,
    /// This one leads, and may act.
    Leading,
    /// This one led when it last could tell; it may not act.
    Unsure,
}

/// Another process took over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the Lease {lease} was taken by {holder}; this process ends, and its successor starts with fresh eyes"
)]
pub struct LeadershipLost {
    lease: String,
    holder: String,
}

/// Takes part in the election.
#[derive(Debug)]
pub(crate) struct Candidate {
    api: Api<Lease>,
    lease: String,
    identity: String,
    standing: watch::Sender<Standing>,
    check: CheckHandle,
    record: Record,
}

impl Candidate {
    pub(crate) fn new(
        client: Client,
        namespace: &str,
        lease: &str,
        identity: &str,
        standing: watch::Sender<Standing>,
        check: CheckHandle,
    ) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            lease: lease.to_owned(),
            identity: identity.to_owned(),
            standing,
            check,
            record: Record::default(),
        }
    }

    /// Takes part until another has taken over.
    pub(crate) async fn run(&mut self) -> LeadershipLost {
        let mut renewed = Instant::now();
        loop {
            let began = Instant::now();
            let attempt = timeout(CALL, self.attempt()).await;
            match attempt {
                Ok(Ok(Decision::Lead)) => {
                    renewed = began;
                    self.check.pass();
                    self.stand(Standing::Leading);
                }
                Ok(Ok(Decision::Follow(holder))) => {
                    self.check.pass();
                    if *self.standing.borrow() != Standing::Following {
                        let lease = self.lease.clone();
                        return LeadershipLost { lease, holder };
                    }
                }
                Ok(Err(error)) => self.failed(&error.to_string(), renewed),
                Err(_) => self.failed(&format!("no answer for {} s", CALL.as_secs()), renewed),
            }
            sleep(PAUSE).await;
        }
    }

    /// Gives the Lease up, so that another need not wait for it.
    pub(crate) async fn resign(&mut self) {
        if *self.standing.borrow() != Standing::Leading {
            return;
        }
        self.stand(Standing::Following);
        let resigned = timeout(CALL, async {
            let mut lease = self.api.get(&self.lease).await?;
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() == Some(&self.identity) {
                spec.holder_identity = None;
                self.api
                    .replace(&self.lease, &PostParams::default(), &lease)
                    .await?;
            }
            Ok::<_, kube::Error>(())
        });
        if let Ok(Err(error)) = resigned.await {
            tracing::debug!(%error, "the Lease could not be given up; another takes it when it runs out");
        }
    }

    fn stand(&self, standing: Standing) {
        self.standing.send_if_modified(|current| {
            let changed = *current != standing;
            if changed {
                tracing::info!(standing = ?standing, lease = self.lease, identity = self.identity, "election");
                *current = standing;
            }
            changed
        });
    }

    fn failed(&self, why: &str, renewed: Instant) {
        self.check.fail(format!(
            "the Lease {} can't be read or written: {why}; is the API server there, and may this service account use leases?",
            self.lease
        ));
        if *self.standing.borrow() == Standing::Leading && renewed.elapsed() + PAUSE + CALL > PATIENCE {
            self.stand(Standing::Unsure);
        }
    }

    async fn attempt(&mut self) -> Result<Decision, kube::Error> {
        let Some(lease) = self.api.get_opt(&self.lease).await? else {
            let fresh = Lease {
                metadata: ObjectMeta {
                    name: Some(self.lease.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.held(0)),
            };
            self.api.create(&PostParams::default(), &fresh).await?;
            return Ok(Decision::Lead);
        };
        let decision = self.record.look(&lease, &self.identity, DURATION, Instant::now());
        if decision == Decision::Lead {
            let mut taken = lease;
            let spec = taken.spec.take().unwrap_or_default();
            let mine = spec.holder_identity.as_deref() == Some(&self.identity);
            let transitions = spec.lease_transitions.unwrap_or_default();
            let mut held = self.held(if mine {
                transitions
            } else {
                transitions.saturating_add(1)
            });
            if mine {
                held.acquire_time = spec.acquire_time;
            }
            taken.spec = Some(held);
            // With the version that was read: if another was faster, this fails.
            self.api
                .replace(&self.lease, &PostParams::default(), &taken)
                .await?;
        }
        Ok(decision)
    }

    fn held(&self, transitions: i32) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}
