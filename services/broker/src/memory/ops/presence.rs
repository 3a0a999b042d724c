//! Who is in which room.

use carillon_model::{Partition, Room};

use crate::{
    Incarnation, Life, PresenceRead, PresenceStatement, PresenceVersion, Result,
    memory::state::{Admission, OVERHEAD, PresenceData, ServerState},
    presence::PEOPLE_PER_READ,
};

/// A gateway states who of it is in rooms of a partition.
pub fn state_presence(
    state: &mut ServerState,
    now: u64,
    partition: Partition,
    gateway: &Incarnation,
    number: u64,
    statements: &[PresenceStatement],
) -> Result<Life> {
    let people: usize = statements.iter().map(|statement| statement.people.len()).sum();
    state.admit(OVERHEAD * people as u64, Admission::Drain)?;
    let data = state.partition_mut(partition, now);
    for statement in statements {
        data.with_room(&statement.room, |room| {
            room.with_presence(now, |presence| presence.state(now, gateway, number, statement));
        });
    }
    Ok(state.life.clone())
}

/// Who is in rooms of a partition, where it is not known in this version.
pub fn read_presence(
    state: &ServerState,
    now: u64,
    partition: Partition,
    rooms: &[(Room, Option<PresenceVersion>)],
) -> PresenceRead {
    let data = state.partition(partition, now);
    let nobody = PresenceData::default();
    let mut answers = Vec::new();
    let mut left = PEOPLE_PER_READ;
    for (room, known) in rooms {
        let presence = data
            .room(room)
            .and_then(|room| room.presence(now))
            .unwrap_or(&nobody);
        if *known == Some(presence.version(&state.life)) {
            answers.push(None);
            continue;
        }
        if left == 0 && !answers.is_empty() {
            break;
        }
        left = left.saturating_sub(presence.people());
        answers.push(Some(presence.read(&state.life)));
    }
    PresenceRead {
        rooms: answers,
        life: state.life.clone(),
    }
}

/// Removes what a dead gateway stated of rooms of a partition.
pub fn forget_presence(
    state: &mut ServerState,
    now: u64,
    partition: Partition,
    rooms: &[Room],
    dead: &Incarnation,
) {
    let data = state.partition_mut(partition, now);
    for room in rooms {
        if data.room(room).is_some_and(|room| room.presence(now).is_some()) {
            data.with_room(room, |room| {
                room.with_presence(now, |presence| presence.forget(dead))
            });
        }
    }
}
