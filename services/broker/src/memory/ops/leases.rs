//! Ownership is taken, kept and given back.

use std::time::Duration;

use carillon_model::{Offset, Partition};

use crate::{
    FencingToken, Grant, Incarnation, LeaseName, PartitionGrant,
    memory::state::{Lease, ServerState, milliseconds},
};

/// Takes a partition nobody holds, and raises its offsets where the server has another life than they.
pub fn acquire_partition(
    state: &mut ServerState,
    now: u64,
    partition: Partition,
    owner: &Incarnation,
    lasts: Duration,
    known: Offset,
) -> Option<PartitionGrant> {
    let life = state.life.clone();
    let data = state.partition_mut(partition, now);
    let token = data.lease.acquire(now, &life, owner, milliseconds(lasts))?;
    data.raise(now, &life, known);
    Some(PartitionGrant {
        token,
        handled: data.handled(),
        life,
    })
}

/// Takes a list nobody holds.
pub fn acquire_list(
    state: &mut ServerState,
    now: u64,
    list: &str,
    owner: &Incarnation,
    lasts: Duration,
) -> Option<Grant> {
    let life = state.life.clone();
    let lease = &mut state.list_mut(list).lease;
    let token = lease.acquire(now, &life, owner, milliseconds(lasts))?;
    Some(Grant { token })
}

/// Prolongs a lease that is still its owner's.
pub fn renew_lease(
    state: &mut ServerState,
    now: u64,
    lease: &LeaseName,
    token: FencingToken,
    lasts: Duration,
) -> bool {
    of(state, now, lease).renew(now, token, milliseconds(lasts))
}

/// Gives a lease back.
pub fn release_lease(state: &mut ServerState, now: u64, lease: &LeaseName, token: FencingToken) {
    of(state, now, lease).release(token);
}

fn of<'a>(state: &'a mut ServerState, now: u64, lease: &LeaseName) -> &'a mut Lease {
    match lease {
        LeaseName::Partition(partition) => &mut state.partition_mut(*partition, now).lease,
        LeaseName::List(list) => &mut state.list_mut(list).lease,
    }
}
