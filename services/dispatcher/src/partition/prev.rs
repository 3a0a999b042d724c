//! The last offset of each room that this owner read itself.
//!
//! It is the source of a message's `prev`: the owner reads its partition contiguously, so what it read last of a room
//! is the room's message before. That is only true within one lease and without a break, so the memory dies with the
//! lease and with every re-read from the head. Forgetting a room is always safe: the broker then finds prev itself.

use carillon_model::{Offset, Room, collections::LookupMap};

/// A bounded memory in two generations: when the young one is full it becomes the old one, and what was old is
/// forgotten unless it was used meanwhile. So it holds at most `limit` rooms and forgets long unused ones, without the
/// bookkeeping of a true LRU.
#[derive(Debug)]
pub(crate) struct PrevMemory {
    generation: usize,
    young: LookupMap<Room, Offset>,
    old: LookupMap<Room, Offset>,
}

impl PrevMemory {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            generation: (limit / 2).max(1),
            young: LookupMap::default(),
            old: LookupMap::default(),
        }
    }

    /// Notes that this offset is the room's newest, and answers which was before.
    pub(crate) fn replace(&mut self, room: &Room, offset: Offset) -> Option<Offset> {
        if let Some(newest) = self.young.get_mut(room) {
            return Some(std::mem::replace(newest, offset));
        }
        let before = self.old.remove(room);
        if self.young.len() >= self.generation {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(room.clone(), offset);
        before
    }

    pub(crate) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(number: usize) -> Room {
        Room::new(format!("room {number}")).unwrap()
    }

    #[test]
    fn rooms_chain() {
        let mut memory = PrevMemory::new(10);
        assert_eq!(memory.replace(&room(1), Offset::new(1, 0)), None);
        assert_eq!(
            memory.replace(&room(1), Offset::new(2, 0)),
            Some(Offset::new(1, 0))
        );
        memory.clear();
        assert_eq!(memory.replace(&room(1), Offset::new(3, 0)), None);
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let mut memory = PrevMemory::new(10);
        for number in 0..1000 {
            memory.replace(&room(number), Offset::new(1, 0));
            assert!(memory.replace(&room(0), Offset::new(1, 0)).is_some());
            assert!(memory.young.len() + memory.old.len() <= 10);
        }
        assert_eq!(memory.replace(&room(1), Offset::new(2, 0)), None);
    }
}
