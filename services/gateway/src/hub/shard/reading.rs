//! What a read of Redis says, and what follows from it alone.

use std::sync::Arc;

use carillon_broker::{PartitionState, rooms::CURSOR_TRUSTED};
use carillon_model::Offset;

use crate::hub::{delivery::Delivery, ticks::Tick};

/// What one read says of a room, whether it came with a page or with a route.
#[derive(Clone, Copy)]
pub(super) struct Reading<'a> {
    pub(super) issued: Tick,
    pub(super) last: Option<Offset>,
    pub(super) partition: &'a PartitionState,
    /// Entries, without a break from at or below the session's position.
    pub(super) items: &'a [Arc<Delivery>],
    /// History goes on behind the entries, or was not asked for.
    pub(super) more: bool,
}

impl Reading<'_> {
    /// Where a session without a cursor starts: what is complete up to the room's last offset is complete up to the
    /// handled position.
    pub(super) fn start(&self) -> Offset {
        self.last
            .map_or(self.partition.handled, |last| last.max(self.partition.handled))
    }

    /// Whether messages may have been lost between two places that nobody knows.
    pub(super) fn doubts(&self, from: Offset, upto: Offset) -> bool {
        let doubtful = self.partition.doubtful_upto;
        from < doubtful && doubtful <= upto
    }

    /// Whether nothing can be missing after `cursor` although the room's last offset is forgotten: no message came
    /// for 24 hours, so a cursor younger than 12 has seen all there was.
    pub(super) fn quiet_since(&self, cursor: Offset) -> bool {
        let PartitionState {
            handled, birth, now, ..
        } = self.partition;
        let age = now.milliseconds.saturating_sub(cursor.milliseconds);
        cursor >= birth.just_below() && (u128::from(age) < CURSOR_TRUSTED.as_millis() || cursor >= *handled)
    }
}
