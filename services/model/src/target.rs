//! Where a message goes, as a producer says it: always a list of rooms in the end.

use crate::{Room, room::InvalidRoom};

/// The `to` of a message, before it becomes rooms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every session.
    All,
    /// One room.
    Room(String),
    /// Several rooms.
    Rooms(Vec<String>),
    /// Every session of a user.
    User(String),
    /// Every session of several users.
    Users(Vec<String>),
    /// One session.
    Session(String),
}

/// A target that names no valid list of rooms.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTarget {
    /// An empty list.
    #[error("`{0}` must name at least one")]
    Empty(&'static str),
    /// Over the limit.
    #[error("`{field}` names {count} rooms, at most {limit} are allowed")]
    TooMany {
        /// The field of the request.
        field: &'static str,
        /// How many it names.
        count: usize,
        /// The limit in force.
        limit: usize,
    },
    /// A name no room can have.
    #[error("`{field}` is wrong: {source}")]
    Room {
        /// The field of the request, with its place in the list.
        field: String,
        /// What is wrong with the name.
        source: InvalidRoom,
    },
}

impl Target {
    /// The rooms of this target, each once, in the order named.
    pub fn rooms(&self, limit: usize) -> Result<Vec<Room>, InvalidTarget> {
        let one = |field: &str, room: Result<Room, InvalidRoom>| {
            room.map(|room| vec![room]).map_err(|source| InvalidTarget::Room {
                field: field.to_owned(),
                source,
            })
        };
        match self {
            Self::All => Ok(vec![Room::all()]),
            Self::Room(name) => one("to.room", Room::new(name)),
            Self::User(user) => one("to.user", Room::of_user(user)),
            Self::Session(session) => one("to.session", Room::of_session(session)),
            Self::Rooms(names) => Self::several("to.rooms", names, limit, |name| Room::new(name)),
            Self::Users(users) => Self::several("to.users", users, limit, Room::of_user),
        }
    }

    fn several(
        field: &'static str,
        names: &[String],
        limit: usize,
        room: impl Fn(&str) -> Result<Room, InvalidRoom>,
    ) -> Result<Vec<Room>, InvalidTarget> {
        if names.is_empty() {
            return Err(InvalidTarget::Empty(field));
        }
        if names.len() > limit {
            return Err(InvalidTarget::TooMany {
                field,
                count: names.len(),
                limit,
            });
        }
        let mut rooms = indexmap::IndexSet::with_capacity(names.len());
        for (place, name) in names.iter().enumerate() {
            let room = room(name).map_err(|source| InvalidTarget::Room {
                field: format!("{field}[{place}]"),
                source,
            })?;
            rooms.insert(room);
        }
        Ok(rooms.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_named_twice_is_one() {
        let target = Target::Rooms(vec!["b".into(), "a".into(), "b".into()]);
        let rooms = target.rooms(3).unwrap();
        assert_eq!(rooms.iter().map(Room::as_str).collect::<Vec<_>>(), ["b", "a"]);
    }

    #[test]
    fn errors_name_the_field_and_place() {
        let target = Target::Users(vec!["1".into(), String::new()]);
        assert!(
            target
                .rooms(9)
                .unwrap_err()
                .to_string()
                .starts_with("`to.users[1]`")
        );
        assert_eq!(
            Target::Rooms(vec![]).rooms(9),
            Err(InvalidTarget::Empty("to.rooms"))
        );
    }
}
