//! Positions above everything the queue ever held.
//!
//! Redis lost what they had seen, and they must go down; or the read was of an old primary that does not know of its
//! successor, while frames of the new one have come already, and going down would replay what was delivered. One read
//! can't tell the two apart. So a doubted position is read again some time later, when old primaries are given up; only
//! what is still above then goes down. (Found by the simulator: DESIGN §5 resets at the first read.)

use carillon_model::{Offset, Room};
use tokio::time::Instant;

use super::{
    SessionKey, Shard,
    member::{Joining, Standing},
};

impl Joining {
    /// Whether a first doubt is old enough for this read to be believed; the first one begins the time.
    pub(super) fn doubt_is_over(&mut self, patience: std::time::Duration) -> bool {
        self.doubted.get_or_insert_with(Instant::now).elapsed() >= patience
    }
}

impl Shard {
    /// A read says that the room's last offset is above everything. At the second time it is believed.
    pub(super) fn doubt_room(&mut self, name: &Room, queue_last: Offset) {
        let now = self.around.ticks.now();
        let Some(room) = self.rooms.get_mut(name) else {
            return;
        };
        let since = *room.doubted.get_or_insert_with(Instant::now);
        if since.elapsed() < self.around.settings.doubt {
            self.around.look_at_lives.notify_one();
            self.doubted_rooms.insert(name.clone());
            return;
        }
        room.doubted = None;
        // The only way a position ever goes down, and it is told.
        room.set_last(queue_last, now);
        room.tail.forget();
        self.reset_live(name, queue_last, |position| position > queue_last);
    }

    /// A joining session's cursor is above everything: it waits. Anybody can make up such a cursor, so nothing is looked
    /// at for it: what watches the servers does so often enough.
    pub(super) fn doubt_session(&mut self, key: SessionKey, name: &Room) {
        self.set_standing(key, name, Standing::Doubting);
        self.doubted_sessions
            .push_back((Instant::now() + self.around.settings.doubt, key, name.clone()));
    }

    /// Reads again what was doubted long enough ago.
    pub(super) fn look_again(&mut self) {
        let patience = self.around.settings.doubt;
        for name in std::mem::take(&mut self.doubted_rooms) {
            let Some(room) = self.rooms.get(&name) else {
                continue;
            };
            match (room.doubted, room.last()) {
                (Some(since), Some(last)) if since.elapsed() >= patience => {
                    self.around.history.want(&name, last, self.index);
                }
                (Some(_), _) => {
                    self.doubted_rooms.insert(name);
                }
                (None, _) => {}
            }
        }
        let now = Instant::now();
        while let Some((_, key, name)) = self.doubted_sessions.pop_front_if(|(at, ..)| *at <= now) {
            let standing = self.membership(key, &name).map(|membership| membership.standing);
            if standing == Some(Standing::Doubting) {
                self.read_on(key, &name);
            }
        }
    }
}
