//! Where a joining session starts, and what it is told.

use std::sync::Arc;

use carillon_model::{Offset, Room};

use super::{SessionKey, Shard, member::Standing, reading::Reading};
use crate::hub::{delivery::Delivery, outbox::CursorNote, session::Joined};

/// What came of a read for a joining session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// It knows where it starts.
    Told,
    /// The next page has to tell.
    NeedsMore,
    /// The cursor is above everything the queue ever held: from a past that Redis lost, or the read was of an old
    /// primary that does not know of its successor. A second read some time later has to tell.
    Doubted,
}

impl Shard {
    /// Says where a joining session starts, if this read tells.
    pub(super) fn judge(
        &mut self,
        key: SessionKey,
        name: &Room,
        reading: &Reading<'_>,
        items: &[Arc<Delivery>],
    ) -> Judged {
        let keeps_history = self.keeps_history(name);
        let Some(membership) = self
            .sessions
            .get_mut(&key)
            .and_then(|session| session.rooms.get_mut(name))
        else {
            return Judged::Told;
        };
        let cursor = membership.joining.as_ref().and_then(|joining| joining.since);
        let partition = reading.partition;
        // What is lost is told here already, and once more at its place.
        let misses = |gap| membership.misses(gap);
        let lost = items.iter().filter_map(|item| item.gap.as_ref()).any(misses);
        let certain = |cursor: Offset| !lost && cursor >= partition.doubtful_upto;
        let (position, recovered) = match (cursor, reading.last) {
            (None, _) => (reading.start(), true),
            (Some(cursor), _) if cursor > partition.queue_last => {
                let patience = self.around.settings.doubt;
                if !membership
                    .joining
                    .as_mut()
                    .is_some_and(|joining| joining.doubt_is_over(patience))
                {
                    return Judged::Doubted;
                }
                (partition.queue_last, false)
            }
            (Some(cursor), _) if !keeps_history => (cursor.max(reading.start()), false),
            (Some(cursor), None) => (
                cursor.max(partition.handled),
                reading.quiet_since(cursor) && certain(cursor),
            ),
            (Some(cursor), Some(last)) if cursor < last && self.around.mutations.false_instead_of_replay => {
                (last.max(partition.handled), false)
            }
            (Some(cursor), Some(last)) => match items.first().and_then(|first| first.prev) {
                Some(prev) if prev <= cursor => (cursor, certain(cursor)),
                Some(prev) => (prev, false),
                None if cursor >= last => (cursor.max(partition.handled), certain(cursor)),
                None if reading.more => return Judged::NeedsMore,
                None => (last.max(partition.handled), false),
            },
        };
        membership.move_to(position);
        self.judged(key, name, recovered);
        Judged::Told
    }

    /// Tells client and waiting requests where the session starts.
    pub(super) fn judged(&mut self, key: SessionKey, name: &Room, recovered: bool) {
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
        if joining.since.is_none() || !recovered {
            membership.told_at(offset);
        }
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

    pub(super) fn keeps_history(&self, name: &Room) -> bool {
        name.has_offsets() && self.around.policy.borrow().room(name).history.keeps_any()
    }

    pub(super) fn set_position(&mut self, key: SessionKey, name: &Room, position: Offset) {
        if let Some(membership) = self
            .sessions
            .get_mut(&key)
            .and_then(|session| session.rooms.get_mut(name))
        {
            membership.move_to(position);
        }
    }

    pub(super) fn set_standing(&mut self, key: SessionKey, name: &Room, standing: Standing) {
        if let Some(membership) = self
            .sessions
            .get_mut(&key)
            .and_then(|session| session.rooms.get_mut(name))
        {
            membership.standing = standing;
        }
    }

    /// Tells a session where it is in a room.
    pub(super) fn tell(&mut self, key: SessionKey, name: &Room, recovered: bool) {
        let recovered = recovered && !self.around.mutations.always_false;
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let Some(membership) = session.rooms.get_mut(name) else {
            return;
        };
        if !recovered {
            membership.told_at(membership.position);
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
