//! Items of plain lists are taken, numbered and settled.

use bytes::Bytes;

use crate::{
    BrokerError, FencingToken, ListItem, Result, TakeOutcome,
    memory::state::{Admission, OVERHEAD, ServerState},
};

/// What a producer does: `RPUSH`.
pub fn push(state: &mut ServerState, list: &str, item: Bytes) -> Result<()> {
    state.admit(item.len() as u64 + OVERHEAD, Admission::Producer)?;
    let data = state.list_mut(list);
    if data.occupied {
        return Err(BrokerError::Corrupt(format!(
            "`{list}` holds something that is no list"
        )));
    }
    data.bytes += item.len() as u64 + OVERHEAD;
    data.items.push_back(item);
    Ok(())
}

/// What a careless person does: puts something that is no list at the key.
pub fn occupy(state: &mut ServerState, list: &str) {
    state.list_mut(list).occupied = true;
}

/// Takes items into pending, as long as no more than `limit` are there, and answers all that is pending.
pub fn take(state: &mut ServerState, now: u64, list: &str, token: FencingToken, limit: usize) -> TakeOutcome {
    let data = state.list_mut(list);
    if !data.lease.is_of(now, token) {
        return TakeOutcome::Lost;
    }
    if data.occupied {
        return TakeOutcome::NotAList;
    }
    let room = limit.saturating_sub(data.pending.len());
    for item in data.items.drain(..room.min(data.items.len())) {
        data.last_number += 1;
        data.pending.insert(data.last_number, item);
    }
    let items = data
        .pending
        .iter()
        .map(|(number, item)| ListItem {
            number: *number,
            item: item.clone(),
        })
        .collect();
    TakeOutcome::Items(items)
}

/// Forgets items that are kept elsewhere now.
pub fn settle(state: &mut ServerState, list: &str, numbers: &[u64]) {
    let data = state.list_mut(list);
    for number in numbers {
        if let Some(item) = data.pending.remove(number) {
            data.bytes -= item.len() as u64 + OVERHEAD;
        }
    }
}
