//! What reads say of a room as a whole.

use carillon_model::{Offset, Room};

use super::{SessionKey, Shard, member::Membership, reading::Reading, tail::Stretch};
use crate::hub::history::Page;

impl Shard {
    /// Keeps what a page proves of the room's newest messages.
    pub(super) fn remember(&mut self, page: &Page) {
        if !self.keeps_history(&page.room) {
            return;
        }
        let Some(room) = self.rooms.get_mut(&page.room) else {
            return;
        };
        let (Some(room_last), Some(last)) = (room.last(), page.read.last) else {
            return;
        };
        let items = page.without_breaks();
        let above = match items.first().and_then(|first| first.prev) {
            Some(prev) => prev.max(page.after),
            None if last <= page.after => page.after,
            None => return,
        };
        let reached = items.last().map_or(page.after, |newest| newest.offset);
        // Up to the room's own last offset there is nothing above the last one recorded.
        let upto = if !page.read.more && reached >= last {
            reached.max(room_last)
        } else {
            reached
        };
        room.tail.learn(Stretch { above, upto, items }, room_last);
    }

    /// What a page says of the room: only whether the room's last offset is from a past that Redis lost. Frames under
    /// way explain a room that is ahead of us; they need no catch-up of everybody.
    pub(super) fn compare_positions(&mut self, name: &Room, reading: &Reading<'_>) {
        let now = self.around.ticks.now();
        let Some(room) = self.rooms.get_mut(name) else {
            return;
        };
        let Some(last) = room.last() else {
            let start = reading.start();
            room.set_last(start, now);
            room.tail.nothing_until(start, start);
            return;
        };
        let queue_last = reading.partition.queue_last;
        if last <= queue_last {
            room.doubted = None;
        } else if room.unmoved_since(reading.issued) {
            self.doubt_room(name, queue_last);
        }
    }

    /// What a re-asserted route says of the room: it is a join for everybody in it.
    pub(super) fn compare_all(&mut self, name: &Room, reading: &Reading<'_>) {
        if !name.has_offsets() {
            return;
        }
        self.compare_positions(name, reading);
        let now = self.around.ticks.now();
        let Some(room) = self.rooms.get_mut(name) else {
            return;
        };
        let Some(last) = room.last() else { return };
        let handled = reading.partition.handled;
        if reading.last.is_none_or(|read_last| read_last <= last) && reading.doubts(last, handled) {
            // What the partition lost nobody knows. Everything before the mark of it has come.
            let doubtful = reading.partition.doubtful_upto;
            room.set_last(doubtful, now);
            room.tail.forget();
            self.reset_live(name, doubtful, |position| position < doubtful);
        } else if let Some(read_last) = reading.last.filter(|read_last| *read_last > last) {
            room.set_last(read_last, now);
            room.tail.forget();
            self.catch_up_to(name, read_last);
        } else if !room.unmoved_since(reading.issued) || last >= handled {
            // A frame came since: its prev tells whether anything is missing before it.
        } else if reading.last.is_none() && !reading.quiet_since(last) {
            room.set_last(handled, now);
            room.tail.forget();
            self.reset_live(name, handled, |position| position < handled);
        } else {
            // Nothing came up to the handled position: cursors of quiet rooms move on, so that they stay young.
            // Whoever is below the room's last offset is being walked to, and moves on by what it gets.
            room.set_last(handled, now);
            room.tail.nothing_until(last, handled);
            self.move_live_on(name, last, handled);
        }
    }

    pub(super) fn membership(&self, key: SessionKey, name: &Room) -> Option<&Membership> {
        self.sessions
            .get(&key)
            .and_then(|session| session.rooms.get(name))
    }

    fn live_members(&self, name: &Room) -> Vec<SessionKey> {
        let Some(room) = self.rooms.get(name) else {
            return Vec::new();
        };
        let live = |key: &&SessionKey| self.membership(**key, name).is_some_and(Membership::is_live);
        room.members.iter().filter(live).copied().collect()
    }

    /// The room went on without us: everybody live in it reads what was missed, or is told.
    fn catch_up_to(&mut self, name: &Room, last: Offset) {
        let keeps_history = self.keeps_history(name);
        for key in self.live_members(name) {
            if self.position(key, name) >= last {
                continue;
            }
            self.around.metrics.caught_up_after_join.inc();
            if keeps_history {
                self.read_on(key, name);
            } else {
                self.set_position(key, name, last);
                self.tell(key, name, false);
            }
        }
    }

    pub(super) fn reset_live(&mut self, name: &Room, to: Offset, applies: impl Fn(Offset) -> bool) {
        for key in self.live_members(name) {
            if applies(self.position(key, name)) {
                self.around.metrics.resets.inc();
                self.set_position(key, name, to);
                self.tell(key, name, false);
            }
        }
    }

    fn move_live_on(&mut self, name: &Room, from: Offset, to: Offset) {
        for key in self.live_members(name) {
            if (from..to).contains(&self.position(key, name)) {
                self.set_position(key, name, to);
                self.tell(key, name, true);
            }
        }
    }
}
