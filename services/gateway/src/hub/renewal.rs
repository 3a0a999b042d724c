//! Keeps this gateway's incarnation alive in the eyes of the others.
//!
//! Only the server's clock says whether an incarnation is dead. One that was declared dead never comes back: the
//! gateway takes another, with another channel, and joins all its rooms again.
//!
//! This is a task of its own on a connection of its own: no look at the servers and no call of a client is in front of a
//! renewal.

use std::sync::Arc;

use carillon_broker::Membership;
use carillon_model::PartitionCount;

use super::{
    intervals::every, presence::PresenceDesk, registrar::Registrar, route_table::RouteTable,
    standing::Standing,
};

/// The task.
pub(super) struct RenewalTask {
    pub(super) registrar: Registrar,
    pub(super) partitions: PartitionCount,
    pub(super) standing: Standing,
    pub(super) routes: Arc<RouteTable>,
    pub(super) presence: Arc<PresenceDesk>,
}

impl RenewalTask {
    /// Runs until the gateway ends.
    pub(super) async fn run(self) {
        let settings = &self.registrar.settings;
        let mut renew = every(settings.renew);
        loop {
            renew.tick().await;
            while !self.renew().await {
                // The key must not run out while the next renewal is waited for.
                tokio::time::sleep(settings.renew / 4).await;
            }
        }
    }

    /// Renews once; `false` if the broker did not answer.
    async fn renew(&self) -> bool {
        let incarnation = self.standing.view().incarnation.clone();
        let registrar = &self.registrar;
        match Membership::renew(&*registrar.broker, &incarnation, registrar.settings.alive_for).await {
            Ok(true) => registrar.health.alive(true),
            Ok(false) => {
                tracing::warn!(%incarnation, "declared dead; starting over as another incarnation");
                registrar.health.alive(false);
                registrar.metrics.reincarnations.inc();
                let (incarnation, lives) = registrar.register_patiently(Some(&incarnation)).await;
                self.standing.reincarnate(incarnation, lives.channel);
                self.presence.reassert(self.partitions.partitions());
                self.routes.reassert(self.partitions.partitions());
            }
            Err(error) => {
                registrar.failed(&error);
                return false;
            }
        }
        true
    }
}
