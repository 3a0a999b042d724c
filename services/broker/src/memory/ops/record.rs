//! A batch goes from the queue into the histories of its rooms.

use std::{collections::BTreeMap, sync::Arc};

use carillon_model::{Offset, Room};
use indexmap::IndexMap;

use super::queue::still_owned;
use crate::{
    Fenced, HistoryItem, Incarnation, Record, RecordEntry, RecordOutcome, Recorded, Result,
    memory::state::{Admission, PartitionData, RoomData, ServerState, milliseconds},
    rooms::CURSOR_TRUSTED,
};

/// Records a batch: fence, histories, last offsets, then routes, in this order and in one step.
pub fn record(state: &mut ServerState, now: u64, record: &Record) -> Result<Fenced<RecordOutcome>> {
    if !still_owned(state, now, record.partition, record.token, &record.life) {
        return Ok(Fenced::Lost);
    }
    let bytes = record
        .entries
        .iter()
        .map(|entry| entry.message.len() as u64)
        .sum();
    state.admit(bytes, Admission::Drain)?;
    let partition = state.partition_mut(record.partition, now);
    // What this batch itself holds of a room is the owner's own contiguous reading.
    let mut read: BTreeMap<Room, Offset> = BTreeMap::new();
    let mut entries = Vec::with_capacity(record.entries.len());
    for entry in &record.entries {
        if !entry.room.has_offsets() {
            entries.push(Recorded {
                prev: None,
                repeated: false,
            });
            continue;
        }
        let given = read.insert(entry.room.clone(), entry.offset).or(entry.prev);
        entries.push(record_one(partition, now, record.horizon, entry, given));
    }
    let routes = routes(partition, now, &record.entries);
    Ok(Fenced::Done(RecordOutcome { entries, routes }))
}

fn record_one(
    partition: &mut PartitionData,
    now: u64,
    horizon: Offset,
    entry: &RecordEntry,
    given: Option<Offset>,
) -> Recorded {
    let (birth, doubtful_upto) = (partition.birth, partition.doubtful_upto);
    partition.with_room(&entry.room, |room| {
        let mut prev = prev(room, now, birth, horizon, entry.offset, given);
        // What was lost below this nobody knows: the chain of every room breaks here once.
        if prev < doubtful_upto && doubtful_upto < entry.offset {
            prev = doubtful_upto;
        }
        let repeated = room.refuses(now, entry.offset);
        if !repeated {
            let item = HistoryItem {
                offset: entry.offset,
                prev,
                message: entry.message.clone(),
                gap: entry.gap,
            };
            room.record(now, item, entry.history);
        }
        Recorded {
            prev: Some(prev),
            repeated,
        }
    })
}

/// The offset below which nothing of the room is missing (DESIGN §5). In order of preference: what the owner read
/// itself; what a repeat was stored with; the room's last offset, if it is below; and where none is known, what can
/// be said of every room of the partition.
fn prev(
    room: &RoomData,
    now: u64,
    birth: Offset,
    horizon: Offset,
    offset: Offset,
    given: Option<Offset>,
) -> Offset {
    if let Some(given) = given.filter(|given| *given < offset) {
        return given;
    }
    if let Some(kept) = room.kept(now, offset) {
        return kept.prev;
    }
    let prev = match (given, room.last(now)) {
        (None, Some(last)) if last < offset => last,
        // No last offset: no message for 24 h. What is younger than 12 h by any clock is covered by that.
        (None, None) => {
            let trusted = Offset::new(now.saturating_sub(milliseconds(CURSOR_TRUSTED)), 0);
            horizon.min(birth.max(trusted))
        }
        // A repeat whose own prev was not stored.
        _ => horizon,
    };
    prev.min(offset.just_below())
}

fn routes(partition: &PartitionData, now: u64, entries: &[RecordEntry]) -> Vec<(Room, Arc<[Incarnation]>)> {
    let mut routes: IndexMap<&Room, Arc<[Incarnation]>> = IndexMap::new();
    for entry in entries {
        routes.entry(&entry.room).or_insert_with(|| {
            partition
                .room(&entry.room)
                .map(|room| room.routes(now).cloned().collect())
                .unwrap_or_default()
        });
    }
    routes
        .into_iter()
        .map(|(room, routes)| (room.clone(), routes))
        .collect()
}
