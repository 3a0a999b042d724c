//! What a server has after a failover, and markers of what it has not.

use carillon_model::{Offset, Partition, wire::QueueEntry};
use prost::Message as _;

use crate::{
    losses::{GapAppend, GapOutcome, Lineage},
    memory::state::ServerState,
};

/// Which offsets a partition has, after a raise where its offsets are of another life.
pub fn lineage(state: &mut ServerState, now: u64, partition: Partition, known: Offset) -> Lineage {
    let life = state.life.clone();
    let data = state.partition_mut(partition, now);
    data.raise(now, &life, known);
    data.lineage(&life)
}

/// Appends gap markers, if the server has the life they are meant for.
pub fn append_gaps(state: &mut ServerState, now: u64, append: &GapAppend) -> GapOutcome {
    let life = state.life.clone();
    let data = state.partition_mut(append.partition, now);
    if life != append.life || !data.is_of(&life) {
        return GapOutcome::LifeChanged;
    }
    let mut offsets: Vec<Offset> = append
        .rooms
        .iter()
        .map(|(room, gap)| data.push(now, QueueEntry::of_gap(room, *gap).encode_to_vec().into()))
        .collect();
    if append.partition_gap {
        data.doubtful_upto = data.push(now, QueueEntry::of_partition_gap().encode_to_vec().into());
        offsets.push(data.doubtful_upto);
    }
    GapOutcome::Written { position: 0, offsets }
}
