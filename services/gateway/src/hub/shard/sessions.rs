//! Connecting, joining, leaving, going.

use std::sync::Arc;

use carillon_broker::Growth;
use carillon_chassis::metrics::GaugeGuard;
use carillon_model::{MessageId, Offset, Room, RoomKind};
use indexmap::{IndexMap, IndexSet};
use tokio::sync::oneshot;

use super::{
    SessionKey, Shard,
    looking_back::LookingBack,
    member::{Joining, Membership, Standing},
    room::ShardRoom,
    tail::{Tail, TailBudget},
};
use crate::hub::{
    outbox::{CloseReason, CursorNote, Outbox},
    session::{Identity, Joined, Refusal, RefusalCode, Start},
};

/// A session as its shard knows it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) identity: Identity,
    pub(super) outbox: Outbox,
    pub(super) rooms: IndexMap<Room, Membership>,
    /// Messages to several rooms that it got lately: it gets each once.
    pub(super) copies: IndexSet<MessageId>,
    /// Rooms in which it moved on without getting anything, to be told.
    pub(super) passed_over: IndexSet<Room>,
    pub(super) looking_back: LookingBack,
    /// Rooms joined by request.
    named_rooms: usize,
    /// It has been told to go; nothing is delivered any more.
    pub(super) closing: bool,
    reason: Option<CloseReason>,
    _gauge: GaugeGuard,
}

/// Messages to several rooms remembered per session.
const COPIES_REMEMBERED: usize = 256;

impl Session {
    pub(super) fn close(&mut self, reason: CloseReason) {
        self.closing = true;
        self.reason.get_or_insert(reason);
        self.outbox.close(reason);
    }

    /// Remembers a message that goes to several rooms; `false` if the session got it already.
    pub(super) fn is_first_copy(&mut self, id: MessageId) -> bool {
        if !self.copies.insert(id) {
            return false;
        }
        if self.copies.len() > COPIES_REMEMBERED {
            self.copies.shift_remove_index(0);
        }
        true
    }

    fn authenticated(&self) -> bool {
        self.identity.user.is_some()
    }
}

impl Shard {
    pub(super) fn connect(
        &mut self,
        key: SessionKey,
        id: Arc<str>,
        identity: Identity,
        since: Vec<(Room, Offset)>,
        outbox: Outbox,
    ) {
        let mut rooms = vec![Room::all()];
        rooms.extend(identity.user.as_deref().and_then(|user| Room::of_user(user).ok()));
        rooms.extend(Room::of_session(&id).ok());
        let session = Session {
            identity,
            outbox,
            rooms: IndexMap::new(),
            copies: IndexSet::new(),
            passed_over: IndexSet::new(),
            looking_back: LookingBack::default(),
            named_rooms: 0,
            closing: false,
            reason: None,
            _gauge: self.around.metrics.session(),
        };
        self.sessions.insert(key, session);
        let mut cursors: IndexMap<Room, Offset> = since.into_iter().collect();
        for room in rooms {
            let cursor = cursors.shift_remove(&room).filter(|_| room.has_offsets());
            self.begin_join(key, &room, cursor, Vec::new());
        }
        for (room, cursor) in cursors {
            if let Err(error) = self.may_join(key, &room) {
                // A cursor of a session that is gone, or of a room it may not have, is no reason to keep it.
                let note = match room.kind() {
                    RoomKind::Session(_) => CursorNote::Left,
                    _ => CursorNote::Refused { error },
                };
                if let Some(session) = self.sessions.get(&key) {
                    session.outbox.tell(&room, note);
                }
                continue;
            }
            if let Some(session) = self.sessions.get_mut(&key) {
                session.named_rooms += 1;
            }
            self.begin_join(key, &room, Some(cursor), Vec::new());
        }
    }

    pub(super) fn join_on_request(
        &mut self,
        key: SessionKey,
        room: &Room,
        start: Start,
        reply: oneshot::Sender<Result<Joined, Refusal>>,
    ) {
        if let Err(refusal) = self.may_join(key, room) {
            let _ = reply.send(Err(refusal));
            return;
        }
        let joins = self
            .sessions
            .get(&key)
            .is_some_and(|session| !session.rooms.contains_key(room));
        if joins && let Err(refusal) = self.may_grow(room) {
            let _ = reply.send(Err(refusal));
            return;
        }
        let Some(reply) = self.wait_for_rewind(key, room, reply) else {
            return;
        };
        match start {
            Start::Rewind(entries) if entries > 0 && self.keeps_history(room) => {
                self.rewind(key, room.clone(), entries, reply);
            }
            Start::Now | Start::Rewind(_) => self.join_from(key, room, None, vec![reply]),
            Start::Since(offset) => self.join_from(key, room, Some(offset), vec![reply]),
        }
    }

    /// Joins a room that the session may join, after a cursor or now.
    pub(super) fn join_from(
        &mut self,
        key: SessionKey,
        room: &Room,
        since: Option<Offset>,
        replies: Vec<oneshot::Sender<Result<Joined, Refusal>>>,
    ) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        match session.rooms.get_mut(room) {
            None => session.named_rooms += 1,
            Some(membership) if since.is_none() => {
                // Joining again changes nothing.
                match &mut membership.joining {
                    Some(joining) => joining.replies.extend(replies),
                    None => {
                        let joined = Joined {
                            room: room.clone(),
                            offset: Some(membership.position),
                            recovered: true,
                        };
                        for reply in replies {
                            let _ = reply.send(Ok(joined.clone()));
                        }
                    }
                }
                return;
            }
            Some(_) => {}
        }
        self.begin_join(key, room, since, replies);
    }

    pub(super) fn may_join(&self, key: SessionKey, room: &Room) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get(&key) else {
            return Err(Refusal::gone());
        };
        if room.is_reserved() {
            return Err(Refusal::new(
                RefusalCode::ReservedRoom,
                format!("`{room}` is joined by identity, never on request"),
            ));
        }
        let by_identity = session.identity.rooms.iter().any(|pattern| pattern.matches(room));
        let policy = self.around.policy.borrow();
        if !by_identity && !policy.room(room).join.allows(session.authenticated()) {
            return Err(Refusal::new(
                RefusalCode::Forbidden,
                format!("policy does not let this session join `{room}`"),
            ));
        }
        let limit = self.around.settings.rooms_per_session;
        let is_new = |other: &&Room| *other != room && !session.rooms.contains_key(*other);
        let coming = session.looking_back.rewinding().filter(is_new).count();
        if !session.rooms.contains_key(room) && session.named_rooms + coming >= limit {
            return Err(Refusal::new(
                RefusalCode::TooManyRooms,
                format!("a session may be in {limit} rooms; leave one first"),
            ));
        }
        Ok(())
    }

    /// A room that nobody of this gateway is in needs a route, and that is memory of the broker.
    fn may_grow(&self, room: &Room) -> Result<(), Refusal> {
        let here = self.rooms.get(room).is_some_and(|room| !room.members.is_empty());
        if here || self.around.routes.shards_of(room) != 0 {
            return Ok(());
        }
        let asked = self.around.memory_gate.ask(Growth::Room);
        asked.map_err(Refusal::memory_full)
    }

    fn begin_join(
        &mut self,
        key: SessionKey,
        name: &Room,
        since: Option<Offset>,
        replies: Vec<oneshot::Sender<Result<Joined, Refusal>>>,
    ) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let mut membership = Membership::joining(since, self.around.ticks.now());
        if let Some(joining) = &mut membership.joining {
            joining.replies.extend(replies);
            if let Some(before) = session
                .rooms
                .get_mut(name)
                .and_then(|before| before.joining.take())
            {
                joining.replies.extend(before.replies);
            }
        }
        session.rooms.insert(name.clone(), membership);
        self.enter_presence(key, name);
        let partition = self.around.partitions.partition_of(name);
        let budget = || TailBudget {
            each: self.around.settings.tail_bytes,
            together: self.around.settings.tails_bytes,
            held: Arc::clone(&self.around.metrics.tail_bytes),
        };
        let room = self
            .rooms
            .entry(name.clone())
            .or_insert_with(|| ShardRoom::new(partition, Tail::new(budget())));
        let first = room.members.is_empty();
        room.insert(key);
        let epoch = self.around.standing.view().epoch(partition);
        if self.around.mutations.join_reads_before_routing && name.has_offsets() {
            self.read_on(key, name);
        } else if first {
            // Also when the route stands already: it lingers, and this cancels its removal.
            self.around.routes.hold(name, self.index);
            if room.routed == Some(epoch) {
                self.route_stands(key, name);
            }
        } else if room.routed == Some(epoch) {
            self.route_stands(key, name);
        }
    }

    pub(super) fn leave_on_request(&mut self, key: SessionKey, room: &Room) -> Result<(), Refusal> {
        if room.is_reserved() {
            let message = format!("`{room}` is left by disconnecting");
            return Err(Refusal::new(RefusalCode::ReservedRoom, message));
        }
        let was_coming = self.forget_rewind(key, room);
        let session = self.sessions.get_mut(&key).ok_or_else(Refusal::gone)?;
        let Some(membership) = session.rooms.swap_remove(room) else {
            if was_coming {
                return Ok(());
            }
            return Err(Refusal::new(
                RefusalCode::NotJoined,
                format!("the session is not in `{room}`"),
            ));
        };
        session.named_rooms -= 1;
        session.passed_over.swap_remove(room);
        session.outbox.tell(room, CursorNote::Left);
        for reply in membership
            .joining
            .map(|Joining { replies, .. }| replies)
            .unwrap_or_default()
        {
            let _ = reply.send(Err(Refusal::new(
                RefusalCode::NotJoined,
                "left before the join was done",
            )));
        }
        self.abandon(key, room);
        self.around.presence.leave(room, key, false);
        Ok(())
    }

    /// Takes a session out of a room; the last one lets its route linger.
    fn abandon(&mut self, key: SessionKey, name: &Room) {
        let Some(room) = self.rooms.get_mut(name) else {
            return;
        };
        room.remove(key);
        if room.members.is_empty() {
            self.around.routes.release(name, self.index);
        }
    }

    pub(super) fn disconnect(&mut self, key: SessionKey, reason: Option<CloseReason>) {
        let Some(session) = self.sessions.swap_remove(&key) else {
            return;
        };
        let reason = session.reason.or(reason).unwrap_or(CloseReason::ClientGone);
        self.around
            .metrics
            .closes
            .with_label_values(&[reason.as_str()])
            .inc();
        self.passed_over.swap_remove(&key);
        self.stop_looking_back(key, &session.looking_back);
        for room in session.rooms.keys() {
            self.abandon(key, room);
            self.around.presence.leave(room, key, true);
        }
    }

    /// The session's outbox has room again.
    pub(super) fn drained(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get(&key) else {
            return;
        };
        let waiting =
            |membership: &Membership| matches!(membership.standing, Standing::Full | Standing::Skipping);
        let rooms: Vec<Room> = session
            .rooms
            .iter()
            .filter(|(_, membership)| waiting(membership))
            .map(|(room, _)| room.clone())
            .collect();
        for room in rooms {
            self.resume(key, &room);
        }
    }

    /// Once a second: tells sessions where they are in rooms whose messages were passed over for them.
    pub(super) fn tell_passed_over(&mut self) {
        for key in std::mem::take(&mut self.passed_over) {
            let Some(session) = self.sessions.get_mut(&key) else {
                continue;
            };
            for room in std::mem::take(&mut session.passed_over) {
                if let Some(membership) = session.rooms.get(&room) {
                    let note = CursorNote::At {
                        offset: membership.position,
                        recovered: true,
                    };
                    session.outbox.tell(&room, note);
                }
            }
        }
    }

    /// A room's route is gone: nothing of the room reaches this shard until somebody joins again.
    pub(super) fn forget(&mut self, name: &Room) {
        let Some(room) = self.rooms.get_mut(name) else {
            return;
        };
        room.routed = None;
        if room.members.is_empty() {
            self.rooms.remove(name);
        }
    }
}
