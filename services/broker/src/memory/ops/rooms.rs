//! Gateways hold rooms and read their histories.

use std::sync::Arc;

use carillon_model::{Offset, Partition, Room};

use crate::{
    HistoryItem, HistoryPage, HistoryQuery, Incarnation, NewestPage, NewestQuery, Result, RoomsState,
    memory::state::{Admission, OVERHEAD, RoomData, ServerState},
};

/// Adds a route to rooms of a partition and reads where they stand.
pub fn add_routes(
    state: &mut ServerState,
    now: u64,
    partition: Partition,
    rooms: &[Room],
    route: &Incarnation,
) -> Result<RoomsState> {
    state.admit(OVERHEAD * rooms.len() as u64, Admission::Drain)?;
    let data = state.partition_mut(partition, now);
    let last = rooms
        .iter()
        .map(|room| {
            data.with_room(room, |room| {
                room.add_route(now, route);
                room.last(now)
            })
        })
        .collect();
    Ok(RoomsState {
        last,
        partition: state.partition(partition, now).stand(now, &state.life),
    })
}

/// Removes a route from rooms of a partition.
pub fn remove_routes(
    state: &mut ServerState,
    now: u64,
    partition: Partition,
    rooms: &[Room],
    route: &Incarnation,
) {
    let data = state.partition_mut(partition, now);
    for room in rooms {
        if data.room(room).is_some() {
            data.with_room(room, |room| room.remove_route(route));
        }
    }
}

/// The routes of rooms, outside the step that records: for people who look, and for tests that prove that a message
/// may not take these, because it would miss whoever joined meanwhile.
pub fn routes(
    state: &ServerState,
    now: u64,
    partition: Partition,
    rooms: &[Room],
) -> Vec<(Room, Arc<[Incarnation]>)> {
    let data = state.partition(partition, now);
    let routes = |room: &Room| {
        data.room(room)
            .into_iter()
            .flat_map(|held| held.routes(now))
            .cloned()
            .collect()
    };
    rooms.iter().map(|room| (room.clone(), routes(room))).collect()
}

/// Rooms of a partition that gateways hold, after one.
pub fn held(
    state: &ServerState,
    now: u64,
    partition: Partition,
    after: Option<&Room>,
    limit: usize,
) -> Vec<Room> {
    let data = state.partition(partition, now);
    data.rooms_after(after)
        .filter(|(_, held)| held.routes(now).next().is_some())
        .map(|(room, _)| room.clone())
        .take(limit)
        .collect()
}

/// Reads a page of a room's history and where the room and its partition stand.
pub fn read_history(
    state: &ServerState,
    now: u64,
    partition: Partition,
    room: &Room,
    query: HistoryQuery,
) -> HistoryPage {
    let data = state.partition(partition, now);
    let room = data.room(room);
    let (items, more) = match (room, query.after) {
        (Some(room), Some(after)) => page(room, now, after, query),
        _ => (Vec::new(), false),
    };
    HistoryPage {
        last: room.and_then(|room| room.last(now)),
        items,
        more,
        partition: data.stand(now, &state.life),
    }
}

fn page(room: &RoomData, now: u64, after: Offset, query: HistoryQuery) -> (Vec<HistoryItem>, bool) {
    let history = room.history(now);
    let start = history.partition_point(|item| item.offset <= after);
    bounded(history.iter().skip(start), query.entries, query.bytes)
}

/// As many as fit, and whether there are more.
fn bounded<'a>(
    history: impl Iterator<Item = &'a HistoryItem>,
    entries: usize,
    limit: usize,
) -> (Vec<HistoryItem>, bool) {
    let mut items = Vec::new();
    let mut bytes = 0;
    for item in history {
        bytes += item.message.len();
        if items.len() >= entries || (!items.is_empty() && bytes > limit) {
            return (items, true);
        }
        items.push(item.clone());
    }
    (items, false)
}

/// Reads the newest messages of a room below an offset, newest first.
pub fn read_newest(
    state: &ServerState,
    now: u64,
    partition: Partition,
    room: &Room,
    query: NewestQuery,
) -> NewestPage {
    let data = state.partition(partition, now);
    let (items, more) = data.room(room).map_or_else(Default::default, |room| {
        let history = room.history(now).iter().rev();
        let below =
            history.filter(|item| item.gap.is_none() && query.below.is_none_or(|below| item.offset < below));
        bounded(below, query.entries, query.bytes)
    });
    NewestPage {
        items,
        more,
        partition: data.stand(now, &state.life),
    }
}
