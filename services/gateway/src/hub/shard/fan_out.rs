//! Frames to members, in slices.
//!
//! A wide room is walked a few hundred members at a time; requests and answers of Redis get in between, so that a
//! join never waits behind a broadcast. The room's last offset moves when the walk begins. A session that is not
//! live when its turn comes is passed by: its own catch-up has to reach the room's last offset before it is live.

use std::sync::Arc;

use carillon_model::{Gap, Room, policy::SlowSessions};
use indexmap::IndexMap;

use super::{SessionKey, Shard, member::Standing, sessions::Session};
use crate::hub::{
    delivery::Delivery,
    outbox::{CloseReason, CursorNote, NoRoom},
    ticks::Tick,
    traces::Arrival,
};

/// A walk over a room's members.
#[derive(Debug)]
pub(super) struct FanOut {
    room: Room,
    messages: Vec<Frame>,
    members: Arc<[SessionKey]>,
    next: usize,
    keeps_history: bool,
    slow: SlowSessions,
}

#[derive(Debug)]
struct Frame {
    arrival: Arrival,
    /// Its prev was above what the room had seen: something was missed.
    hole: bool,
}

/// Members per slice.
const SLICE: usize = 256;

/// What became of a message for one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It is in the outbox.
    Queued,
    /// The session has it already, or is not to get it.
    Passed,
    /// There is no room for it.
    Full(NoRoom),
}

impl Shard {
    /// Takes in a batch of frames: one walk per room.
    pub(super) fn frames(&mut self, frames: Vec<Arrival>) {
        let mut by_room: IndexMap<Room, Vec<Arrival>> = IndexMap::new();
        for arrival in frames {
            let room = arrival.delivery.room.clone();
            by_room.entry(room).or_default().push(arrival);
        }
        for (room, arrivals) in by_room {
            self.begin_fan_out(room, arrivals);
        }
    }

    fn begin_fan_out(&mut self, name: Room, arrivals: Vec<Arrival>) {
        let Some(room) = self.rooms.get_mut(&name) else {
            return;
        };
        let rule = Arc::clone(self.around.policy.borrow().room(&name));
        let keeps_history = rule.history.keeps_any() && name.has_offsets();
        let now = self.around.ticks.now();
        let mut messages = Vec::with_capacity(arrivals.len());
        for arrival in arrivals {
            let delivery = &arrival.delivery;
            let last = room.last();
            if last.is_some_and(|last| delivery.offset <= last) {
                self.around.metrics.repeats_dropped.inc();
                continue;
            }
            let hole = match (last, delivery.prev) {
                (Some(last), Some(prev)) => prev > last && !self.around.mutations.prev_check_removed,
                _ => false,
            };
            if hole {
                self.around.metrics.holes_found.inc();
            }
            room.set_last(delivery.offset, now);
            if delivery.gap.is_some() {
                // Whoever comes with a cursor from before it has to read what it is told there.
                room.tail.forget();
            } else if keeps_history {
                room.tail.push(delivery);
            }
            messages.push(Frame { arrival, hole });
        }
        if messages.is_empty() || room.members.is_empty() {
            return;
        }
        let members = room.members();
        self.fan_outs.push_back(FanOut {
            room: name,
            messages,
            members,
            next: 0,
            keeps_history,
            slow: rule.slow,
        });
    }

    /// Walks on for one slice.
    pub(super) fn slice(&mut self) {
        let Some(mut walk) = self.fan_outs.pop_front() else {
            return;
        };
        let end = (walk.next + SLICE).min(walk.members.len());
        let members = Arc::clone(&walk.members);
        for key in members.get(walk.next..end).unwrap_or_default() {
            self.deliver_frames(*key, &walk);
        }
        walk.next = end;
        if end < members.len() {
            self.fan_outs.push_front(walk);
        }
    }

    fn deliver_frames(&mut self, key: SessionKey, walk: &FanOut) {
        for Frame { arrival, hole } in &walk.messages {
            let delivery = &arrival.delivery;
            let Some(session) = self.sessions.get_mut(&key) else {
                return;
            };
            let Some(membership) = session.rooms.get_mut(&walk.room) else {
                return;
            };
            if !membership.is_live() {
                return;
            }
            if let (true, Some(prev)) = (*hole, delivery.prev)
                && prev > membership.position
            {
                if walk.keeps_history {
                    self.read_on(key, &walk.room);
                    return;
                }
                membership.told_at(prev);
                session.outbox.tell(
                    &walk.room,
                    CursorNote::At {
                        offset: prev,
                        recovered: false,
                    },
                );
            }
            if let Some(gap) = &delivery.gap {
                self.pass_gap(key, delivery, gap);
                continue;
            }
            match (self.push(key, delivery, true), &arrival.span) {
                (Pushed::Full(why), _) => {
                    self.fell_behind(key, walk, delivery.weight, why);
                    return;
                }
                (Pushed::Queued, Some(span)) => span.queued(),
                (Pushed::Queued | Pushed::Passed, _) => {}
            }
        }
    }

    /// Queues a message for a session that has everything before it, `live` if it has just come.
    pub(super) fn push(&mut self, key: SessionKey, delivery: &Arc<Delivery>, live: bool) -> Pushed {
        let filter = !self.around.mutations.filter_without_session_cursor;
        let Some(session) = self.sessions.get_mut(&key) else {
            return Pushed::Passed;
        };
        let Some(membership) = session.rooms.get_mut(&delivery.room) else {
            return Pushed::Passed;
        };
        if (filter && delivery.offset <= membership.position) || session.closing {
            return Pushed::Passed;
        }
        if delivery.message.copies > 1 && session.copies.contains(&delivery.message.id) {
            membership.move_to(delivery.offset);
            session.passed_over.insert(delivery.room.clone());
            self.passed_over.insert(key);
            return Pushed::Passed;
        }
        if let Err(why) = session.outbox.push(delivery, live) {
            return Pushed::Full(why);
        }
        membership.move_to(delivery.offset);
        if delivery.message.copies > 1 {
            session.is_first_copy(delivery.message.id);
        }
        if !session.passed_over.is_empty() {
            session.passed_over.swap_remove(&delivery.room);
        }
        self.around.metrics.deliveries.inc();
        Pushed::Queued
    }

    /// Messages were lost before this place: who misses them is told, who had them goes on.
    pub(super) fn pass_gap(&mut self, key: SessionKey, delivery: &Delivery, gap: &Gap) {
        let session = self.sessions.get_mut(&key);
        let Some(membership) = session.and_then(|session| session.rooms.get_mut(&delivery.room)) else {
            return;
        };
        if delivery.offset <= membership.position {
            return;
        }
        let misses = membership.misses(gap);
        membership.move_to(delivery.offset);
        self.tell(key, &delivery.room, !misses);
    }

    fn fell_behind(&mut self, key: SessionKey, walk: &FanOut, weight: usize, why: NoRoom) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        if !walk.room.has_offsets() {
            // At most once: a session room has nothing to catch up from.
            self.around.metrics.session_messages_dropped.inc();
            return;
        }
        let slow = if walk.keeps_history {
            walk.slow
        } else {
            lenient(walk.slow)
        };
        self.around.metrics.fell_behind.inc();
        let closes = match why {
            NoRoom::Outbox => CloseReason::SlowReader,
            NoRoom::Budget => {
                self.around.metrics.over_budget.inc();
                CloseReason::MemoryBudget
            }
        };
        match slow {
            SlowSessions::Close => session.close(closes),
            SlowSessions::CatchUp => set_aside(session, &walk.room, Standing::Full),
            SlowSessions::Latest => set_aside(session, &walk.room, Standing::Skipping),
        }
        let drained = self
            .sessions
            .get(&key)
            .is_some_and(|session| session.outbox.has_room_for(weight));
        if drained {
            self.resume(key, &walk.room);
        }
    }

    /// There is room again for a session that was set aside.
    pub(super) fn resume(&mut self, key: SessionKey, name: &Room) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let Some(membership) = session.rooms.get_mut(name) else {
            return;
        };
        match membership.standing {
            Standing::Full => self.read_on(key, name),
            Standing::Skipping => {
                membership.standing = Standing::Live;
                let last = self.rooms.get(name).and_then(super::room::ShardRoom::last);
                if let Some(last) = last.filter(|last| *last > membership.position) {
                    membership.told_at(last);
                    session.outbox.tell(
                        name,
                        CursorNote::At {
                            offset: last,
                            recovered: false,
                        },
                    );
                }
            }
            Standing::Routing(_) | Standing::Reading(_) | Standing::Doubting | Standing::Live => {}
        }
    }

    /// The session reads on from its position, in a page issued from now on.
    pub(super) fn read_on(&mut self, key: SessionKey, name: &Room) {
        let asked: Tick = self.around.ticks.now();
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let Some(membership) = session.rooms.get_mut(name) else {
            return;
        };
        membership.standing = Standing::Reading(asked);
        self.around.history.want(name, membership.position, self.index);
    }
}

/// Where there is no history, nothing can be caught up.
fn lenient(slow: SlowSessions) -> SlowSessions {
    match slow {
        SlowSessions::CatchUp => SlowSessions::Latest,
        other => other,
    }
}

fn set_aside(session: &mut Session, room: &Room, standing: Standing) {
    if let Some(membership) = session.rooms.get_mut(room) {
        membership.standing = standing;
    }
}
