//! One lease, from its grant to its end: renewed while the work goes on, given back when it ends.

use std::{future::Future, sync::Arc, time::Duration};

use carillon_broker::{FencingToken, Incarnation, LeaseName};
use carillon_model::Partition;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::{
    lists::ListTaker,
    lives::Seen,
    partition::{Owner, OwnerEnd},
    shared::Shared,
};

/// How a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TenureEnd {
    /// It never began: another one has it.
    HeldByAnother,
    /// It never began: the broker did not grant it.
    NotGranted,
    /// The work was finished and the lease given back.
    HandedOver,
    /// Another one has it.
    Lost,
    /// It was given back at once, whatever was in hand.
    Revoked,
}

/// How a lease is ended from outside.
#[derive(Clone, Debug, Default)]
pub(crate) struct Orders {
    /// Finish the batch in hand, then give the lease back.
    pub(crate) handover: CancellationToken,
    /// Give it back at once.
    pub(crate) revoke: CancellationToken,
}

/// Takes a partition and works for it as long as possible.
pub(crate) async fn partition(
    shared: Arc<Shared>,
    partition: Partition,
    owner: Incarnation,
    lives: watch::Receiver<Seen>,
    orders: Orders,
) -> TenureEnd {
    let lasts = shared.settings.lease_for;
    let known = shared.known.of(partition);
    let acquire = shared.broker.acquire_partition(partition, &owner, lasts, known);
    let grant = match shared.call("acquire_partition", acquire).await {
        Ok(Some(grant)) => grant,
        Ok(None) => return TenureEnd::HeldByAnother,
        Err(error) => {
            debug!(%partition, %error, "the partition could not be taken");
            return TenureEnd::NotGranted;
        }
    };
    shared.metrics.takeovers.inc();
    info!(%partition, handled = %grant.handled, "took the partition over");
    let owned = shared.metrics.own("partition");
    let lease = LeaseName::Partition(partition);
    let mut owner = Owner::new(Arc::clone(&shared), partition, &grant, lives);
    let work = async {
        match owner.run(&orders.handover).await {
            OwnerEnd::HandedOver => TenureEnd::HandedOver,
            OwnerEnd::Lost => TenureEnd::Lost,
        }
    };
    let end = hold(&shared, &lease, grant.token, &orders, work).await;
    drop(owned);
    // This process lives: what it tried did not kill it, however the lease ended.
    let open_try = owner.open_try();
    drop(owner);
    let open_try = match open_try {
        Some(open_try) if open_try.take_back().await => None,
        other => other,
    };
    give_back(&shared, &lease, grant.token).await;
    info!(%partition, ?end, "the partition is given up");
    if let Some(open_try) = open_try {
        open_try.take_back_within(TAKE_BACK_FOR, orders.handover).await;
    }
    end
}

/// A broker that is away for longer than this leaves a try behind: one of those that it takes to blame a message.
const TAKE_BACK_FOR: Duration = Duration::from_secs(600);

/// Takes a list and moves its items as long as possible.
pub(crate) async fn list(shared: Arc<Shared>, list: String, owner: Incarnation, orders: Orders) -> TenureEnd {
    let acquire = shared
        .broker
        .acquire_list(&list, &owner, shared.settings.lease_for);
    let grant = match shared.call("acquire_list", acquire).await {
        Ok(Some(grant)) => grant,
        Ok(None) => return TenureEnd::HeldByAnother,
        Err(error) => {
            debug!(list, %error, "the list could not be taken");
            return TenureEnd::NotGranted;
        }
    };
    info!(list, "took the list over");
    let owned = shared.metrics.own("list");
    let mut taker = ListTaker::new(Arc::clone(&shared), list.clone(), grant.token);
    let lease = LeaseName::List(list.clone());
    let work = async {
        match taker.run(&orders.handover).await {
            OwnerEnd::HandedOver => TenureEnd::HandedOver,
            OwnerEnd::Lost => TenureEnd::Lost,
        }
    };
    let end = hold(&shared, &lease, grant.token, &orders, work).await;
    drop(owned);
    give_back(&shared, &lease, grant.token).await;
    info!(list, ?end, "the list is given up");
    end
}

/// Renews the lease while the work goes on.
async fn hold(
    shared: &Shared,
    lease: &LeaseName,
    token: FencingToken,
    orders: &Orders,
    work: impl Future<Output = TenureEnd>,
) -> TenureEnd {
    tokio::select! {
        biased;
        () = orders.revoke.cancelled() => TenureEnd::Revoked,
        () = renew_until_lost(shared, lease, token) => TenureEnd::Lost,
        end = work => end,
    }
}

/// Ends when somebody else may have the lease. A broker that does not answer is no reason to stop: the token decides.
async fn renew_until_lost(shared: &Shared, lease: &LeaseName, token: FencingToken) {
    let settings = &shared.settings;
    let mut pause = settings.renew_lease_every;
    loop {
        sleep(pause).await;
        let renew = shared.broker.renew_lease(lease, token, settings.lease_for);
        pause = match shared.call("renew_lease", renew).await {
            Ok(true) => settings.renew_lease_every,
            Ok(false) => return,
            Err(error) => {
                debug!(?lease, %error, "the lease could not be renewed");
                settings.renew_lease_every / 4
            }
        };
    }
}

async fn give_back(shared: &Shared, lease: &LeaseName, token: FencingToken) {
    let release = shared.broker.release_lease(lease, token);
    if let Err(error) = shared.call("release_lease", release).await {
        debug!(?lease, %error, "the lease runs out by itself");
    }
}
