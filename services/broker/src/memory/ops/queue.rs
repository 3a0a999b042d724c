//! An owner reads and trims its partition.

use std::{collections::BTreeSet, time::Duration};

use carillon_model::{Offset, Partition};

use crate::{
    Backlog, Fenced, FencingToken, HeadRead, Incarnation, Life, QueueRead, memory::state::ServerState,
};

/// Reads from the head.
pub fn read_head(
    state: &ServerState,
    now: u64,
    partition: Partition,
    token: FencingToken,
    limit: usize,
) -> HeadRead {
    let data = state.partition(partition, now);
    HeadRead {
        items: data.after(Offset::ZERO, limit),
        life: state.life.clone(),
        handled: data.handled(),
        owned: data.lease.is_of(now, token),
        parked: data.parked.iter().cloned().collect(),
    }
}

/// Reads what lies after an offset.
pub fn read_after(
    state: &ServerState,
    now: u64,
    partition: Partition,
    after: Offset,
    limit: usize,
) -> QueueRead {
    QueueRead {
        items: state.partition(partition, now).after(after, limit),
        life: state.life.clone(),
    }
}

/// What waits.
pub fn backlog(state: &ServerState, now: u64, partition: Partition) -> Backlog {
    let queue = &state.partition(partition, now).queue;
    let waited = queue
        .front()
        .map_or(0, |head| now.saturating_sub(head.offset.milliseconds));
    Backlog {
        entries: queue.len() as u64,
        age: Duration::from_millis(waited),
    }
}

/// Acknowledges everything up to an offset.
pub fn trim(
    state: &mut ServerState,
    now: u64,
    partition: Partition,
    token: FencingToken,
    life: &Life,
    upto: Offset,
) -> Fenced<()> {
    if !still_owned(state, now, partition, token, life) {
        return Fenced::Lost;
    }
    let data = state.partition_mut(partition, now);
    data.tries = None;
    while data.queue.front().is_some_and(|head| head.offset <= upto) {
        data.pop();
    }
    Fenced::Done(())
}

/// In the step of a trim that was done: these channels did not get what it acknowledged.
pub fn park(state: &mut ServerState, now: u64, partition: Partition, gateways: &[Incarnation]) {
    if !gateways.is_empty() {
        let data = state.partition_mut(partition, now);
        data.parked.extend(gateways.iter().cloned());
    }
}

/// These gateways were told that they missed something.
pub fn unpark(
    state: &mut ServerState,
    now: u64,
    partition: Partition,
    token: FencingToken,
    life: &Life,
    gateways: &[Incarnation],
) -> Fenced<()> {
    if !still_owned(state, now, partition, token, life) {
        return Fenced::Lost;
    }
    let data = state.partition_mut(partition, now);
    data.parked.retain(|gateway| !gateways.contains(gateway));
    Fenced::Done(())
}

/// Acknowledges without asking who does. No broker offers this: an owner that lost its partition would trim what
/// nobody read. For tests that prove so.
pub fn trim_unfenced(state: &mut ServerState, now: u64, partition: Partition, upto: Offset) {
    let data = state.partition_mut(partition, now);
    while data.queue.front().is_some_and(|head| head.offset <= upto) {
        data.pop();
    }
}

/// Writes down that an owner tries the head.
pub fn count_try(
    state: &mut ServerState,
    now: u64,
    partition: Partition,
    token: FencingToken,
    head: Offset,
) -> Fenced<u32> {
    let data = state.partition_mut(partition, now);
    if !data.lease.is_of(now, token) {
        return Fenced::Lost;
    }
    let mut owners = match data.tries.take() {
        Some((tried, owners)) if tried == head => owners,
        _ => BTreeSet::new(),
    };
    owners.insert(token);
    let count = u32::try_from(owners.len()).unwrap_or(u32::MAX);
    data.tries = Some((head, owners));
    Fenced::Done(count)
}

/// An owner that is alive takes its try back.
pub fn take_back_try(state: &mut ServerState, now: u64, partition: Partition, token: FencingToken) {
    if let Some((_, owners)) = &mut state.partition_mut(partition, now).tries {
        owners.remove(&token);
    }
}

/// The check every write of an owner begins with.
pub(super) fn still_owned(
    state: &ServerState,
    now: u64,
    partition: Partition,
    token: FencingToken,
    life: &Life,
) -> bool {
    state.life == *life && state.partition(partition, now).lease.is_of(now, token)
}
