//! Who of this gateway's own sessions is in rooms with presence, and what of that is still to be stated.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use carillon_broker::{Person, PresenceStatement};
use carillon_model::Room;
use indexmap::{IndexMap, IndexSet};
use tokio::time::Instant;

use crate::hub::shard::SessionKey;

/// How long a room is remembered that nobody is in.
const EMPTY_REMEMBERED: Duration = Duration::from_secs(300);

/// Rooms with presence.
#[derive(Debug)]
pub(super) struct OwnRooms {
    rooms: IndexMap<Room, OwnRoom>,
    /// Rooms of which something is to be stated.
    unstated: IndexSet<Room>,
    /// Users without a session who may be back, in the order in which their time ends.
    lingering: VecDeque<(Instant, Room, Arc<str>)>,
    /// Rooms nobody is in, in the order in which they are forgotten.
    emptied: VecDeque<(Instant, Room)>,
    users: usize,
    grace: Duration,
}

#[derive(Debug, Default)]
struct OwnRoom {
    sessions: IndexMap<SessionKey, Person>,
    people: IndexMap<Person, Count>,
    changed: IndexSet<Person>,
    whole: bool,
    forgotten_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct Count {
    sessions: u32,
    lingers_until: Option<Instant>,
}

impl OwnRooms {
    /// At most so many users are named per room; sessions of further ones count without a name.
    pub(super) fn new(users: usize, grace: Duration) -> Self {
        Self {
            rooms: IndexMap::new(),
            unstated: IndexSet::new(),
            lingering: VecDeque::new(),
            emptied: VecDeque::new(),
            users,
            grace,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.rooms.len()
    }

    /// `true`: there is something to state.
    pub(super) fn enter(&mut self, name: &Room, session: SessionKey, user: Option<&Arc<str>>) -> bool {
        let room = self.rooms.entry(name.clone()).or_default();
        room.forgotten_at = None;
        if room.sessions.contains_key(&session) {
            return false;
        }
        let user: Person = user.filter(|user| !user.is_empty()).cloned();
        let person = user.filter(|user| {
            room.people.len() < self.users || room.people.contains_key(&Some(Arc::clone(user)))
        });
        room.sessions.insert(session, person.clone());
        let count = room.people.entry(person.clone()).or_default();
        count.sessions += 1;
        count.lingers_until = None;
        room.changed.insert(person);
        self.unstated.insert(name.clone());
        true
    }

    /// `true`: there is something to state.
    pub(super) fn leave(&mut self, name: &Room, session: SessionKey, may_return: bool, now: Instant) -> bool {
        let Some(room) = self.rooms.get_mut(name) else {
            return false;
        };
        let Some(person) = room.sessions.swap_remove(&session) else {
            return false;
        };
        let Some(count) = room.people.get_mut(&person) else {
            return false;
        };
        count.sessions = count.sessions.saturating_sub(1);
        if count.sessions == 0 {
            match &person {
                Some(user) if may_return => {
                    let until = now + self.grace;
                    count.lingers_until = Some(until);
                    self.lingering.push_back((until, name.clone(), Arc::clone(user)));
                }
                _ => {
                    room.people.swap_remove(&person);
                }
            }
        }
        room.changed.insert(person);
        self.unstated.insert(name.clone());
        true
    }

    /// Who is in a room, as it would be stated now.
    pub(super) fn people(&self, name: &Room) -> BTreeMap<Person, u32> {
        let people = self.rooms.get(name).into_iter().flat_map(|room| &room.people);
        people
            .map(|(person, count)| (person.clone(), count.sessions))
            .collect()
    }

    /// When the next user's or room's time ends.
    pub(super) fn next_end(&self) -> Option<Instant> {
        let user = self.lingering.front().map(|(until, ..)| *until);
        let room = self.emptied.front().map(|(until, _)| *until);
        user.into_iter().chain(room).min()
    }

    /// Lets those go whose time is over.
    pub(super) fn let_go(&mut self, now: Instant) {
        while let Some((until, ..)) = self.lingering.front()
            && *until <= now
            && let Some((until, name, user)) = self.lingering.pop_front()
        {
            let person = Some(user);
            if let Some(room) = self.rooms.get_mut(&name)
                && room
                    .people
                    .get(&person)
                    .is_some_and(|count| count.lingers_until == Some(until))
            {
                room.people.swap_remove(&person);
                room.changed.insert(person);
                self.unstated.insert(name);
            }
        }
        while let Some((until, _)) = self.emptied.front()
            && *until <= now
            && let Some((until, name)) = self.emptied.pop_front()
        {
            if self
                .rooms
                .get(&name)
                .is_some_and(|room| room.forgotten_at == Some(until))
            {
                self.rooms.swap_remove(&name);
            }
        }
    }

    /// All of some rooms is to be stated again.
    pub(super) fn state_whole(&mut self, concerned: impl Fn(&Room) -> bool) {
        for (name, room) in &mut self.rooms {
            if concerned(name) {
                room.whole = true;
                self.unstated.insert(name.clone());
            }
        }
    }

    /// Takes what is to be stated, until [`OwnRooms::was_stated`] or [`OwnRooms::was_not_stated`] says what became of it.
    pub(super) fn take_unstated(&mut self) -> Vec<PresenceStatement> {
        let mut statements = Vec::new();
        for name in std::mem::take(&mut self.unstated) {
            let Some(room) = self.rooms.get_mut(&name) else {
                continue;
            };
            let changed = std::mem::take(&mut room.changed);
            let whole = std::mem::take(&mut room.whole);
            let people = if whole {
                let all = room.people.iter();
                all.map(|(person, count)| (person.clone(), Some(count.sessions)))
                    .collect()
            } else {
                let known = |person: &Person| room.people.get(person).map(|count| count.sessions);
                changed
                    .into_iter()
                    .map(|person| {
                        let known = known(&person);
                        (person, known)
                    })
                    .collect()
            };
            statements.push(PresenceStatement {
                room: name,
                whole,
                people,
            });
        }
        statements
    }

    /// A statement is where it should be. A room nobody is in is forgotten after a while: a failover may take the
    /// statement back, and then it must be stated again that nobody is there.
    pub(super) fn was_stated(&mut self, name: &Room, now: Instant) {
        if let Some(room) = self.rooms.get_mut(name)
            && room.people.is_empty()
            && room.forgotten_at.is_none()
        {
            let until = now + EMPTY_REMEMBERED;
            room.forgotten_at = Some(until);
            self.emptied.push_back((until, name.clone()));
        }
    }

    /// A statement may be lost: it is taken again, with what is so by then.
    pub(super) fn was_not_stated(&mut self, statement: PresenceStatement) {
        let room = self.rooms.entry(statement.room.clone()).or_default();
        room.whole |= statement.whole;
        room.changed
            .extend(statement.people.into_iter().map(|(person, _)| person));
        self.unstated.insert(statement.room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> Room {
        Room::new("lobby").unwrap()
    }

    fn user(name: &str) -> Person {
        Some(Arc::from(name))
    }

    fn stated(own: &mut OwnRooms) -> Vec<(Person, Option<u32>)> {
        let statements = own.take_unstated();
        assert!(statements.len() <= 1);
        let people = statements
            .into_iter()
            .flat_map(|statement| statement.people)
            .collect();
        own.was_stated(&room(), Instant::now());
        people
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_with_tabs_is_one_and_lingers_after_the_last() {
        let mut own = OwnRooms::new(10, Duration::from_secs(15));
        let (name, ann) = (room(), user("ann"));
        assert!(own.enter(&name, SessionKey(1), ann.as_ref()));
        assert!(own.enter(&name, SessionKey(2), ann.as_ref()));
        assert!(!own.enter(&name, SessionKey(2), ann.as_ref()), "said before");
        assert_eq!(stated(&mut own), [(ann.clone(), Some(2))]);
        let now = Instant::now();
        assert!(own.leave(&name, SessionKey(1), true, now));
        assert!(!own.leave(&name, SessionKey(1), true, now));
        assert_eq!(own.next_end(), None);
        own.leave(&name, SessionKey(2), true, now);
        assert_eq!(stated(&mut own), [(ann.clone(), Some(0))]);
        own.let_go(now + Duration::from_secs(14));
        assert_eq!(stated(&mut own), []);
        // Back, and gone again: the first end counts no more.
        own.enter(&name, SessionKey(3), ann.as_ref());
        own.leave(&name, SessionKey(3), true, now + Duration::from_secs(10));
        own.let_go(now + Duration::from_secs(15));
        assert_eq!(stated(&mut own), [(ann.clone(), Some(0))]);
        own.let_go(now + Duration::from_secs(25));
        assert_eq!(stated(&mut own), [(ann, None)]);
        // A failover may bring her back; the room is remembered so that she can be taken away again.
        own.state_whole(|_| true);
        assert!(own.take_unstated().remove(0).people.is_empty());
        assert_eq!(own.next_end(), Some(now + EMPTY_REMEMBERED));
        own.let_go(now + EMPTY_REMEMBERED);
        assert!(own.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_leaves_by_request_or_has_no_name_is_gone_at_once() {
        let mut own = OwnRooms::new(10, Duration::from_secs(15));
        let name = room();
        own.enter(&name, SessionKey(1), user("ann").as_ref());
        own.enter(&name, SessionKey(2), None);
        own.leave(&name, SessionKey(1), false, Instant::now());
        own.leave(&name, SessionKey(2), true, Instant::now());
        assert_eq!(stated(&mut own), [(user("ann"), None), (None, None)]);
    }

    #[tokio::test(start_paused = true)]
    async fn users_over_the_limit_count_without_a_name() {
        let mut own = OwnRooms::new(1, Duration::from_secs(15));
        let name = room();
        own.enter(&name, SessionKey(1), user("ann").as_ref());
        own.enter(&name, SessionKey(2), user("ben").as_ref());
        own.enter(&name, SessionKey(3), user("ann").as_ref());
        assert_eq!(stated(&mut own), [(user("ann"), Some(2)), (None, Some(1))]);
        own.leave(&name, SessionKey(2), true, Instant::now());
        assert_eq!(stated(&mut own), [(None, None)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_stated_is_stated_as_it_is_by_then() {
        let mut own = OwnRooms::new(10, Duration::from_secs(15));
        let name = room();
        own.enter(&name, SessionKey(1), user("ann").as_ref());
        own.state_whole(|_| true);
        let lost = own.take_unstated().remove(0);
        own.leave(&name, SessionKey(1), false, Instant::now());
        own.was_not_stated(lost);
        let again = own.take_unstated().remove(0);
        assert!(again.whole && again.people.is_empty());
    }
}
