//! Names of rooms, patterns of them, targets, and offsets.

use carillon_model::{EventName, Offset, PartitionCount, Room, RoomKind, Target, policy::RoomPattern};

/// The first line is a name and an offset, all lines are names, the last one is a pattern.
pub fn target(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let lines: Vec<&str> = text.split('\n').collect();
    for line in lines.iter().take(10) {
        name(line);
        offset(line);
        event(line);
    }
    targets(&lines);
    pattern(lines.last().copied().unwrap_or_default(), &lines);
}

fn name(name: &str) {
    let valid = (1..=Room::MAX_BYTES).contains(&name.len())
        && !name.chars().any(char::is_control)
        && !["user:", "session:"].contains(&name);
    let Ok(room) = Room::new(name) else {
        assert!(!valid, "{name:?}");
        return;
    };
    assert!(valid, "{name:?}");
    assert_eq!(room.as_str(), name);
    let json = serde_json::to_string(&room).expect("a text");
    assert_eq!(serde_json::from_str::<Room>(&json).expect("a room"), room);
    let made = match room.kind() {
        RoomKind::All => Room::all(),
        RoomKind::User(user) => Room::of_user(user).expect("a user"),
        RoomKind::Session(session) => Room::of_session(session).expect("a session"),
        RoomKind::Named(name) => Room::new(name).expect("a name"),
    };
    assert_eq!(made, room);
    assert_eq!(
        room.is_reserved(),
        name == "all" || name.starts_with("user:") || name.starts_with("session:")
    );
    for count in [1, 8, 64, 1024] {
        let partitions = PartitionCount::new(count).expect("a count");
        let partition = partitions.partition_of(&room);
        assert!(u64::from(partition.0) < count);
        assert_eq!(partition, partitions.partition_of(&made));
    }
}

fn offset(text: &str) {
    let Ok(offset) = text.parse::<Offset>() else {
        return;
    };
    let written = offset.to_string();
    assert_eq!(written.parse::<Offset>().ok(), Some(offset));
    let (milliseconds, sequence) = written.split_once('-').expect("two halves");
    assert_eq!(
        Offset::new(
            milliseconds.parse().expect("a number"),
            sequence.parse().expect("a number")
        ),
        offset
    );
    assert!(offset.just_below() <= offset && offset <= offset.just_above());
    if offset != Offset::MAX {
        assert_eq!(offset.just_above().just_below(), offset);
    }
}

fn event(name: &str) {
    if let Ok(event) = EventName::new(name) {
        assert_eq!(event.as_str(), name);
        assert!((1..=EventName::MAX_BYTES).contains(&name.len()));
    }
}

fn targets(lines: &[&str]) {
    const LIMIT: usize = 4;
    let names = || lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    for (target, as_room) in [
        (
            Target::Rooms(names()),
            (|name: &str| Room::new(name)) as fn(&str) -> _,
        ),
        (Target::Users(names()), Room::of_user),
    ] {
        let all_valid = lines.iter().all(|line| as_room(line).is_ok());
        match target.rooms(LIMIT) {
            Ok(rooms) => {
                assert!(all_valid && lines.len() <= LIMIT);
                assert!(rooms.len() <= lines.len());
                assert!(
                    lines
                        .iter()
                        .all(|line| rooms.contains(&as_room(line).expect("a room")))
                );
            }
            Err(error) => {
                assert!(!all_valid || lines.len() > LIMIT);
                assert!(!error.to_string().is_empty());
            }
        }
    }
}

fn pattern(text: &str, lines: &[&str]) {
    let Ok(pattern) = RoomPattern::new(text) else {
        return;
    };
    let plain = !text.contains(['*', '?', '[', ']', '{', '}', '\\', '!']);
    for line in lines.iter().take(10) {
        let Ok(room) = Room::new(line) else { continue };
        if plain {
            assert_eq!(pattern.matches(&room), *line == text, "{text:?} and {line:?}");
        }
        if let Some(start) = text
            .strip_suffix('*')
            .filter(|start| !start.contains(['*', '?', '[', ']', '{', '}', '\\', '!']))
        {
            assert_eq!(
                pattern.matches(&room),
                line.starts_with(start),
                "{text:?} and {line:?}"
            );
        }
    }
}
