//! Dispatchers write to channels, each gateway reads its own.

use std::sync::Arc;

use bytes::Bytes;
use carillon_model::Offset;

use super::membership::is_alive;
use crate::{
    ChannelAppend, ChannelItem, ChannelRead, Incarnation, Result,
    memory::state::{Admission, Channel, OVERHEAD, ServerState},
};

/// Appends an entry to a living gateway's channel, or leaves an overrun mark where it would hold more than `limit`
/// bytes. A limit of 0 always leaves the mark: that is how a dispatcher says that a gateway may have missed something.
pub fn append_channel(
    state: &mut ServerState,
    now: u64,
    gateway: &Incarnation,
    entry: Bytes,
    limit: u64,
) -> Result<ChannelAppend> {
    if !is_alive(state, now, gateway) {
        state.channels.remove(gateway);
        return Ok(ChannelAppend::Dead);
    }
    state.admit(entry.len() as u64 + OVERHEAD, Admission::Drain)?;
    let channel = Arc::make_mut(state.channels.entry(gateway.clone()).or_default());
    if limit == 0 || channel.bytes + entry.len() as u64 > limit {
        channel.overrun(now);
        return Ok(ChannelAppend::Overrun);
    }
    channel.push(now, entry);
    Ok(ChannelAppend::Kept)
}

/// Reads a channel after the reader's position; the answer comes with the new position.
///
/// A channel whose last id is below the position was lost with a server: it is read from its beginning.
pub fn read_channel(
    state: &ServerState,
    gateway: &Incarnation,
    position: Offset,
    limit: usize,
) -> (ChannelRead, Offset) {
    let channel = state.channels.get(gateway);
    let lost = channel.map_or(Offset::ZERO, |channel| channel.last) < position;
    let position = if lost { Offset::ZERO } else { position };
    let entries = || {
        channel
            .into_iter()
            .flat_map(|channel| &channel.entries)
            .filter(|(id, _)| *id > position)
            .take(limit)
    };
    let items: Vec<ChannelItem> = entries().map(|(_, item)| item.clone()).collect();
    let reached = entries().last().map_or(position, |(id, _)| *id);
    let life = state.life.clone();
    (ChannelRead { items, life, lost }, reached)
}

/// Whether [`trim_channel`] has anything to do.
pub fn has_read_entries(state: &ServerState, gateway: &Incarnation, position: Offset) -> bool {
    let channel = state.channels.get(gateway);
    channel
        .and_then(|channel| channel.entries.front())
        .is_some_and(|(id, _)| *id <= position)
}

/// Removes what the reader has taken over.
pub fn trim_channel(state: &mut ServerState, gateway: &Incarnation, position: Offset) {
    if let Some(channel) = state.channels.get_mut(gateway)
        && channel.last >= position
    {
        Arc::make_mut(channel).trim(position);
    }
}

/// Makes the channel of a gateway that registers.
pub(super) fn make_channel(state: &mut ServerState, gateway: &Incarnation) {
    state
        .channels
        .entry(gateway.clone())
        .or_insert_with(|| Arc::new(Channel::default()));
}
