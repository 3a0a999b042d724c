//! Being alive, and saying so.
//!
//! A dispatcher is alive while its key is, and only Redis' clock counts. One that was declared dead (it stalled, or
//! was cut off) never comes back under its name: it takes a new incarnation, and with it new leases.

use std::sync::Arc;

use carillon_broker::{Incarnation, Member, ServiceKind, membership::LISTED_EVERY};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{patience::Pauses, shared::Shared};

/// Keeps this process alive among the others.
#[derive(Debug)]
pub(crate) struct Membership {
    shared: Arc<Shared>,
    random: fastrand::Rng,
    pauses: Pauses,
    /// Who this process is; None while it is nobody.
    standing: watch::Sender<Option<Incarnation>>,
}

impl Membership {
    pub(crate) fn new(shared: Arc<Shared>, standing: watch::Sender<Option<Incarnation>>) -> Self {
        let (least, most) = (shared.settings.pause_least, shared.settings.pause_most);
        Self {
            random: shared.fork_random(),
            pauses: Pauses::new(least, most, shared.fork_random()),
            shared,
            standing,
        }
    }

    /// Registers and renews, for ever. Once drained, the others are told that this one is on its way out.
    pub(crate) async fn run(&mut self, drain: &CancellationToken) {
        let mut former = None;
        loop {
            let mut bytes = [0; 16];
            self.random.fill(&mut bytes);
            let id = uuid::Builder::from_random_bytes(bytes).into_uuid();
            let incarnation = Incarnation::new(&self.shared.settings.pod, id.simple());
            let registered = self.register(&incarnation, former.as_ref(), drain).await;
            info!(%incarnation, "registered");
            self.standing.send_replace(Some(incarnation.clone()));
            self.live(&incarnation, registered, drain).await;
            warn!(%incarnation, "declared dead; coming back as another incarnation");
            self.shared.metrics.reincarnations.inc();
            self.standing.send_replace(None);
            former = Some(incarnation);
        }
    }

    /// Ends this life at once, so that the others need not wait for it.
    pub(crate) async fn leave(&self) {
        let Some(incarnation) = self.standing.send_replace(None) else {
            return;
        };
        let deregister = self.shared.broker.deregister(&incarnation);
        if let Err(error) = self.shared.call("deregister", deregister).await {
            debug!(%incarnation, %error, "the others will see it in a moment");
        }
    }

    /// Registers, and gives what the others see since.
    async fn register(
        &mut self,
        incarnation: &Incarnation,
        former: Option<&Incarnation>,
        drain: &CancellationToken,
    ) -> Member {
        let alive_for = self.shared.settings.alive_for;
        loop {
            let member = self.member(incarnation, drain);
            let broker = &self.shared.broker;
            let register = async {
                match former {
                    None => broker.register(&member, alive_for).await,
                    Some(former) => broker.register_again(&member, alive_for, former).await,
                }
            };
            match self.shared.call("register", register).await {
                Ok(()) => {
                    self.pauses.reset();
                    return member;
                }
                Err(error) => debug!(%error, "could not register"),
            }
            self.pauses.pause().await;
        }
    }

    /// Renews until declared dead. What has changed since it registered, such as the policy, is reported by and by.
    async fn live(&mut self, incarnation: &Incarnation, mut reported: Member, drain: &CancellationToken) {
        let settings = &self.shared.settings;
        let mut policy = self.shared.policy.clone();
        let mut renew_at = Instant::now() + settings.renew_alive_every;
        let mut list_at = Instant::now() + LISTED_EVERY;
        loop {
            tokio::select! {
                biased;
                () = drain.cancelled(), if !reported.draining => {}
                // Whoever wrote a policy waits to hear that it is applied.
                Ok(()) = policy.changed() => {}
                () = sleep_until(renew_at) => {
                    let renew = self.shared.broker.renew(incarnation, settings.alive_for);
                    let pause = match self.shared.call("renew", renew).await {
                        Ok(true) => settings.renew_alive_every,
                        Ok(false) => return,
                        Err(error) => {
                            debug!(%error, "could not renew this life");
                            settings.renew_alive_every / 4
                        }
                    };
                    renew_at = Instant::now() + pause;
                }
            }
            let member = self.member(incarnation, drain);
            if member != reported || list_at <= Instant::now() {
                list_at = Instant::now() + LISTED_EVERY;
                let report = self.shared.broker.report(&member);
                match self.shared.call("report", report).await {
                    Ok(()) => reported = member,
                    Err(error) => {
                        debug!(%error, "could not report");
                        // Not again at once: the next renewal tries it.
                        reported.draining = member.draining;
                        reported.policy_revision.clear();
                    }
                }
            }
        }
    }

    fn member(&self, incarnation: &Incarnation, drain: &CancellationToken) -> Member {
        Member {
            kind: ServiceKind::Dispatcher,
            incarnation: incarnation.clone(),
            address: String::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            capacity: 0,
            sessions: 0,
            last_probe: None,
            draining: drain.is_cancelled(),
            policy_revision: self.shared.policy.borrow().revision.to_string(),
        }
    }
}
