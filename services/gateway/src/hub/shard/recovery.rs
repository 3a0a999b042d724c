//! Answers of Redis: where rooms stand, and what sessions missed.
//!
//! A join is judged once, by a read issued after it asked: complete iff the first entry's prev is not above the
//! cursor and the chain holds. Then it reads page by page, as its outbox drains, until a read reached history's end
//! and the room's last offset; from then on it is live. There is no buffer of live messages: what arrives meanwhile
//! moves the room's last offset, and the session reads on.

use std::sync::Arc;

use carillon_broker::{PartitionState, rooms::CURSOR_TRUSTED};
use carillon_model::{Offset, Room};

use super::{
    SessionKey, Shard,
    fan_out::Pushed,
    member::{Membership, Standing},
    tail::Stretch,
};
use crate::hub::{
    history::Page,
    outbox::{CursorNote, Delivery},
    routes::RoomState,
    session::Joined,
    standing::Epoch,
    ticks::Tick,
};

/// What one read says of a room, whether it came with a page or with a route.
#[derive(Clone, Copy)]
struct Reading<'a> {
    issued: Tick,
    last: Option<Offset>,
    partition: &'a PartitionState,
    /// Entries, without a break from at or below the session's position.
    items: &'a [Arc<Delivery>],
    /// History goes on behind the entries, or was not asked for.
    more: bool,
}

impl Reading<'_> {
    /// Where a session without a cursor starts: what is complete up to the room's last offset is complete up to the
    /// handled position.
    fn start(&self) -> Offset {
        self.last
            .map_or(self.partition.handled, |last| last.max(self.partition.handled))
    }

    /// Whether nothing can be missing after `cursor` although the room's last offset is forgotten: no message came
    /// for 24 hours, so a cursor younger than 12 has seen all there was.
    fn quiet_since(&self, cursor: Offset) -> bool {
        let PartitionState {
            handled, birth, now, ..
        } = self.partition;
        let age = now.milliseconds.saturating_sub(cursor.milliseconds);
        cursor >= birth.just_below() && (u128::from(age) < CURSOR_TRUSTED.as_millis() || cursor >= *handled)
    }
}

impl Shard {
    /// A room's route stands in an epoch.
    pub(super) fn routed(&mut self, name: &Room, epoch: Epoch, state: Option<RoomState>) {
        let Some(room) = self.rooms.get_mut(name) else {
            return;
        };
        if epoch != self.around.standing.view().epoch(room.partition) {
            return;
        }
        room.routed = Some(epoch);
        if let Some(state) = &state {
            let (last, partition) = (state.last, &*state.partition);
            let reading = Reading {
                issued: state.issued,
                last,
                partition,
                items: &[],
                more: true,
            };
            self.compare_all(name, &reading);
            self.advance_by_state(name, state);
            return;
        }
        for key in self.waiting(name) {
            self.route_stands(key, name);
        }
    }

    /// Everybody in the room who is not live and waits for Redis.
    fn waiting(&self, name: &Room) -> Vec<SessionKey> {
        let Some(room) = self.rooms.get(name) else {
            return Vec::new();
        };
        let waits = |key: &&SessionKey| self.asked(**key, name).is_some();
        room.members.iter().filter(waits).copied().collect()
    }

    /// A session's room is routed: it starts from memory if that proves enough, else it reads.
    pub(super) fn route_stands(&mut self, key: SessionKey, name: &Room) {
        if !name.has_offsets() {
            self.go_live_without_offsets(key, name);
            return;
        }
        if !self.start_from_memory(key, name) {
            self.read_on(key, name);
        }
    }

    /// The answer of a route's addition serves those who asked before it was issued; a page the others.
    fn advance_by_state(&mut self, name: &Room, state: &RoomState) {
        for key in self.waiting(name) {
            if !name.has_offsets() {
                self.go_live_without_offsets(key, name);
                continue;
            }
            let position = self.position(key, name);
            let reading = Reading {
                issued: state.issued,
                last: state.last,
                partition: &state.partition,
                items: &[],
                // Entries above the position were not asked for.
                more: state.last.is_some_and(|last| last > position),
            };
            if self.asked(key, name).is_some_and(|asked| asked < state.issued) {
                self.advance(key, name, &reading);
            } else {
                self.route_stands(key, name);
            }
        }
    }

    fn asked(&self, key: SessionKey, name: &Room) -> Option<Tick> {
        match self.membership(key, name)?.standing {
            Standing::Routing(asked) | Standing::Reading(asked) => Some(asked),
            Standing::Full | Standing::Skipping | Standing::Live => None,
        }
    }

    fn position(&self, key: SessionKey, name: &Room) -> Offset {
        self.membership(key, name)
            .map_or(Offset::ZERO, |membership| membership.position)
    }

    fn go_live_without_offsets(&mut self, key: SessionKey, name: &Room) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        if let Some(membership) = session.rooms.get_mut(name) {
            membership.standing = Standing::Live;
            membership.joining = None;
        }
    }

    /// Serves a join from what the room holds in memory, if it is there and proves completeness.
    fn start_from_memory(&mut self, key: SessionKey, name: &Room) -> bool {
        let keeps_history = self.keeps_history(name);
        let Some(room) = self.rooms.get(name) else {
            return false;
        };
        let Some(last) = room.last() else { return false };
        let Some(joining) = self
            .membership(key, name)
            .and_then(|membership| membership.joining.as_ref())
        else {
            return false;
        };
        let since = joining.since;
        if !keeps_history {
            // Nothing could be replayed, so nothing needs to be read.
            self.set_position(key, name, since.map_or(last, |cursor| cursor.max(last)));
            self.judged(key, name, since.is_none());
            self.set_standing(key, name, Standing::Live);
            return true;
        }
        let cursor = since.unwrap_or(last);
        let Some(missed) = room.tail.after(cursor, last) else {
            return false;
        };
        self.around.metrics.recoveries_from_memory.inc();
        self.set_position(key, name, cursor);
        self.judged(key, name, true);
        for delivery in &missed {
            if self.push(key, delivery) == Pushed::Full {
                self.wait_for_room(key, name, delivery.weight);
                return true;
            }
        }
        self.set_standing(key, name, Standing::Live);
        true
    }

    /// A page of a room's history.
    pub(super) fn page(&mut self, page: &Page) {
        let Some(room) = self.rooms.get_mut(&page.room) else {
            return;
        };
        let epoch = self.around.standing.view().epoch(room.partition);
        let unrouted = self.around.mutations.join_reads_before_routing;
        if page.epoch != epoch || (room.routed != Some(epoch) && !unrouted) {
            // The incarnation or the server's life changed meanwhile: joins start over when the route stands again.
            return;
        }
        let reading = Reading {
            issued: page.issued,
            last: page.read.last,
            partition: &page.read.partition,
            items: &page.items,
            more: page.read.more,
        };
        self.compare_positions(&page.room, &reading);
        self.remember(page);
        for key in self.waiting(&page.room) {
            if self
                .asked(key, &page.room)
                .is_some_and(|asked| asked < page.issued)
                && page.after <= self.position(key, &page.room)
                && !self
                    .membership(key, &page.room)
                    .is_some_and(Membership::waits_for_route)
            {
                self.advance(key, &page.room, &reading);
            }
        }
    }

    /// Keeps what a page proves of the room's newest messages.
    fn remember(&mut self, page: &Page) {
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
    fn compare_positions(&mut self, name: &Room, reading: &Reading<'_>) {
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
        if last > queue_last && room.unmoved_since(reading.issued) {
            // The only way a position ever goes down, and it is told.
            room.set_last(queue_last, now);
            room.tail.forget();
            self.reset_live(name, queue_last, |position| position > queue_last);
        }
    }

    /// What a re-asserted route says of the room: it is a join for everybody in it.
    fn compare_all(&mut self, name: &Room, reading: &Reading<'_>) {
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
        if let Some(read_last) = reading.last.filter(|read_last| *read_last > last) {
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

    fn membership(&self, key: SessionKey, name: &Room) -> Option<&Membership> {
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

    fn reset_live(&mut self, name: &Room, to: Offset, applies: impl Fn(Offset) -> bool) {
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

    /// What a read means for one session that waits for it.
    fn advance(&mut self, key: SessionKey, name: &Room, reading: &Reading<'_>) {
        let Some(membership) = self.membership(key, name) else {
            return;
        };
        let items = newer(reading.items, membership.position);
        if membership.joining.is_some() && !self.judge(key, name, reading, items) {
            self.read_on(key, name);
            return;
        }
        let position = self.position(key, name);
        for delivery in newer(items, position) {
            if let Some(prev) = delivery.prev
                && prev > self.position(key, name)
            {
                self.set_position(key, name, prev);
                self.tell(key, name, false);
            }
            if self.push(key, delivery) == Pushed::Full {
                self.wait_for_room(key, name, delivery.weight);
                return;
            }
            if self.around.mutations.filter_without_session_cursor {
                self.set_position(key, name, delivery.offset);
            }
        }
        if reading.more && !(items.is_empty() && self.reached(key, name, reading)) {
            self.read_on(key, name);
            return;
        }
        self.finish(key, name, reading, items.is_empty());
    }

    /// With the answer of a route only: whether the room has nothing above the session's position.
    fn reached(&self, key: SessionKey, name: &Room, reading: &Reading<'_>) -> bool {
        reading.last.is_none_or(|last| last <= self.position(key, name))
    }

    /// Says where a joining session starts. `false`: the read does not tell, it needs the next page.
    fn judge(
        &mut self,
        key: SessionKey,
        name: &Room,
        reading: &Reading<'_>,
        items: &[Arc<Delivery>],
    ) -> bool {
        let keeps_history = self.keeps_history(name);
        let Some(membership) = self
            .sessions
            .get_mut(&key)
            .and_then(|session| session.rooms.get_mut(name))
        else {
            return true;
        };
        let cursor = membership.joining.as_ref().and_then(|joining| joining.since);
        let partition = reading.partition;
        let (position, recovered) = match (cursor, reading.last) {
            (None, _) => (reading.start(), true),
            // From a past that Redis lost.
            (Some(cursor), _) if cursor > partition.queue_last => (partition.queue_last, false),
            (Some(cursor), _) if !keeps_history => (cursor.max(reading.start()), false),
            (Some(cursor), None) => (cursor.max(partition.handled), reading.quiet_since(cursor)),
            (Some(cursor), Some(last)) => match items.first().and_then(|first| first.prev) {
                Some(prev) if prev <= cursor => (cursor, true),
                Some(prev) => (prev, false),
                None if cursor >= last => (cursor.max(partition.handled), true),
                None if reading.more => return false,
                None => (last.max(partition.handled), false),
            },
        };
        membership.position = position;
        self.judged(key, name, recovered);
        true
    }

    /// Tells client and waiting requests where the session starts.
    fn judged(&mut self, key: SessionKey, name: &Room, recovered: bool) {
        let recovered = recovered && !self.around.mutations.always_false;
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let Some(membership) = session.rooms.get_mut(name) else {
            return;
        };
        let Some(joining) = membership.joining.take() else {
            return;
        };
        let offset = membership.position;
        let result = match (joining.since, recovered) {
            (None, _) => "fresh",
            (Some(_), true) => "complete",
            (Some(_), false) => "incomplete",
        };
        self.around.metrics.recoveries.with_label_values(&[result]).inc();
        session.outbox.tell(name, CursorNote::At { offset, recovered });
        for reply in joining.replies {
            let _ = reply.send(Ok(Joined {
                room: name.clone(),
                offset: Some(offset),
                recovered,
            }));
        }
    }

    /// A read reached the end of history.
    fn finish(&mut self, key: SessionKey, name: &Room, reading: &Reading<'_>, nothing_new: bool) {
        let Some(room) = self.rooms.get(name) else { return };
        let room_last = room.last().unwrap_or_default();
        let unmoved = room.unmoved_since(reading.issued);
        let mut position = self.position(key, name);
        if reading.last.is_some_and(|last| position >= last) {
            position = position.max(reading.partition.handled);
            self.set_position(key, name, position);
        }
        let complete = reading.last.is_some_and(|last| last >= room_last);
        if nothing_new && position < room_last && (unmoved || complete) {
            // History's end, and it lacks what the room has seen.
            position = room_last;
            self.set_position(key, name, position);
            self.tell(key, name, false);
        }
        if position >= room_last || self.around.mutations.join_stops_at_first_late_frame {
            self.set_standing(key, name, Standing::Live);
            if self.around.mutations.join_reads_before_routing {
                self.around.routes.hold(name, self.index);
            }
        } else {
            self.read_on(key, name);
        }
    }

    fn wait_for_room(&mut self, key: SessionKey, name: &Room, weight: usize) {
        self.set_standing(key, name, Standing::Full);
        if self
            .sessions
            .get(&key)
            .is_some_and(|session| session.outbox.has_room_for(weight))
        {
            self.resume(key, name);
        }
    }

    fn keeps_history(&self, name: &Room) -> bool {
        name.has_offsets() && self.around.policy.borrow().room(name).history.keeps_any()
    }

    fn set_position(&mut self, key: SessionKey, name: &Room, position: Offset) {
        if let Some(membership) = self
            .sessions
            .get_mut(&key)
            .and_then(|session| session.rooms.get_mut(name))
        {
            membership.position = position;
        }
    }

    fn set_standing(&mut self, key: SessionKey, name: &Room, standing: Standing) {
        if let Some(membership) = self
            .sessions
            .get_mut(&key)
            .and_then(|session| session.rooms.get_mut(name))
        {
            membership.standing = standing;
        }
    }

    /// Tells a session where it is in a room.
    fn tell(&mut self, key: SessionKey, name: &Room, recovered: bool) {
        let recovered = recovered && !self.around.mutations.always_false;
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let Some(membership) = session.rooms.get(name) else {
            return;
        };
        if !recovered {
            self.around.metrics.gaps_told.inc();
        }
        session.outbox.tell(
            name,
            CursorNote::At {
                offset: membership.position,
                recovered,
            },
        );
    }
}

/// The entries above a position.
fn newer(items: &[Arc<Delivery>], position: Offset) -> &[Arc<Delivery>] {
    let from = items.partition_point(|delivery| delivery.offset <= position);
    items.get(from..).unwrap_or_default()
}
