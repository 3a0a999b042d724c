//! Who of this shard's sessions is in rooms with presence. A policy that changes is followed within a second.

use carillon_model::Room;

use super::{SessionKey, Shard};
use crate::hub::{
    presence::{PresenceWish, none_kept},
    session::{Refusal, RefusalCode},
};

impl Shard {
    fn keeps_presence(&self, room: &Room) -> bool {
        room.has_offsets() && self.around.policy.borrow().room(room).presence
    }

    /// A session has come into a room.
    pub(super) fn enter_presence(&self, key: SessionKey, room: &Room) {
        if self.keeps_presence(room)
            && let Some(session) = self.sessions.get(&key)
        {
            self.around
                .presence
                .enter(room, key, session.identity.user.as_ref());
        }
    }

    /// A session wants to know who is in a room.
    pub(super) fn grant_presence(&self, key: SessionKey, room: &Room, wish: PresenceWish) {
        let Some(session) = self.sessions.get(&key) else {
            return wish.refuse(Refusal::gone());
        };
        if !session.rooms.contains_key(room) {
            let message = format!("join `{room}` before asking who is in it");
            return wish.refuse(Refusal::new(RefusalCode::NotJoined, message));
        }
        if !self.keeps_presence(room) {
            return wish.refuse(none_kept(room));
        }
        self.around.presence.grant(room, key, &session.outbox, wish);
    }

    /// After a change of policy: rooms may keep presence now, or no more.
    pub(super) fn review_presence(&mut self) {
        if !self.around.policy.has_changed().unwrap_or(false) {
            return;
        }
        let policy = self.around.policy.borrow_and_update().clone();
        for (key, session) in &self.sessions {
            for room in session.rooms.keys().filter(|room| room.has_offsets()) {
                if policy.room(room).presence {
                    self.around
                        .presence
                        .enter(room, *key, session.identity.user.as_ref());
                } else {
                    self.around.presence.end(room, *key);
                }
            }
        }
    }
}
