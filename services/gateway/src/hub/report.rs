//! Tells the others how this gateway is, and hears how they are.

use std::sync::{Arc, atomic::Ordering};

use carillon_broker::{Membership, ServiceKind};
use carillon_model::policy::Policy;
use tokio::sync::watch;

use super::{
    intervals::every, rebalance::Census, registrar::Registrar, route_table::RouteTable, standing::Standing,
};

/// The task.
pub(super) struct ReportTask {
    pub(super) registrar: Registrar,
    pub(super) standing: Standing,
    pub(super) routes: Arc<RouteTable>,
    pub(super) census: Arc<Census>,
}

impl ReportTask {
    /// Runs until the gateway ends.
    pub(super) async fn run(self) {
        let mut report = every(self.registrar.settings.report);
        let mut policy = self.registrar.policy.clone();
        loop {
            tokio::select! {
                biased;
                _ = report.tick() => {}
                // The writer of a policy waits to hear that it is applied.
                () = changed(&mut policy) => {}
            }
            self.report().await;
        }
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
            return self.registrar.failed(&error);
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
            Err(error) => self.registrar.failed(&error),
        }
    }
}

async fn changed(policy: &mut watch::Receiver<Arc<Policy>>) {
    if policy.changed().await.is_err() {
        // It never will again.
        std::future::pending::<()>().await;
    }
}
