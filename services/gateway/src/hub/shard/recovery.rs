//! Answers of Redis: where rooms stand, and what sessions missed.
//!
//! A join is judged once, by a read issued after it asked: complete iff the first entry's prev is not above the
//! cursor and the chain holds. Then it reads page by page, as its outbox drains, until a read reached history's end
//! and the room's last offset; from then on it is live. There is no buffer of live messages: what arrives meanwhile
//! moves the room's last offset, and the session reads on.

use std::sync::Arc;

use carillon_model::{Offset, Room};

use super::{
    SessionKey, Shard,
    fan_out::Pushed,
    judgement::Judged,
    member::{Membership, Standing},
    reading::Reading,
};
use crate::hub::{delivery::Delivery, history::Page, routes::RoomState, standing::Epoch, ticks::Tick};

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
        if self.around.mutations.join_reads_before_routing && name.has_offsets() {
            // What the addition's answer says of the room would heal what the early read missed.
            return;
        }
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
            Standing::Doubting | Standing::Full | Standing::Skipping | Standing::Live => None,
        }
    }

    pub(super) fn position(&self, key: SessionKey, name: &Room) -> Offset {
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
        if cursor < last && self.around.mutations.false_instead_of_replay {
            return false;
        }
        let Some(missed) = room.tail.after(cursor, last) else {
            return false;
        };
        self.around.metrics.recoveries_from_memory.inc();
        self.set_position(key, name, cursor);
        self.judged(key, name, true);
        for delivery in &missed {
            if matches!(self.push(key, delivery, false), Pushed::Full(_)) {
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

    /// What a read means for one session that waits for it.
    fn advance(&mut self, key: SessionKey, name: &Room, reading: &Reading<'_>) {
        let Some(membership) = self.membership(key, name) else {
            return;
        };
        let items = newer(reading.items, membership.position);
        if membership.joining.is_some() {
            match self.judge(key, name, reading, items) {
                Judged::Told => {}
                Judged::NeedsMore => return self.read_on(key, name),
                Judged::Doubted => return self.doubt_session(key, name),
            }
        }
        let position = self.position(key, name);
        for delivery in newer(items, position) {
            if let Some(prev) = delivery.prev
                && prev > self.position(key, name)
            {
                self.set_position(key, name, prev);
                self.tell(key, name, false);
            }
            if let Some(gap) = &delivery.gap {
                self.pass_gap(key, delivery, gap);
                continue;
            }
            if matches!(self.push(key, delivery, false), Pushed::Full(_)) {
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

    /// A read reached the end of history.
    fn finish(&mut self, key: SessionKey, name: &Room, reading: &Reading<'_>, nothing_new: bool) {
        let Some(room) = self.rooms.get(name) else { return };
        let room_last = room.last().unwrap_or_default();
        let unmoved = room.unmoved_since(reading.issued);
        let mut position = self.position(key, name);
        if reading.last.is_some_and(|last| position >= last) {
            let from = position;
            position = position.max(reading.partition.handled);
            self.set_position(key, name, position);
            if reading.doubts(from, position) {
                self.tell(key, name, false);
            }
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
}

/// The entries above a position.
fn newer(items: &[Arc<Delivery>], position: Offset) -> &[Arc<Delivery>] {
    let from = items.partition_point(|delivery| delivery.offset <= position);
    items.get(from..).unwrap_or_default()
}
