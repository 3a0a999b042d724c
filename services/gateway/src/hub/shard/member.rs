//! Where a session stands in a room.

use carillon_model::{Gap, Offset};
use tokio::{sync::oneshot, time::Instant};

use crate::hub::{
    session::{Joined, Refusal},
    ticks::Tick,
};

/// A session's membership of one room.
#[derive(Debug)]
pub(super) struct Membership {
    /// Everything up to it was queued for the session, or told. Goes down only by a told reset.
    pub(super) position: Offset,
    /// Where it was before offsets last went up by more than one: in the ten minutes after a failover, before that.
    before_raise: Offset,
    /// The last place where it was told that messages may be missing, or that it began at without a cursor.
    told: Offset,
    pub(super) standing: Standing,
    /// Where it starts has not been told yet.
    pub(super) joining: Option<Joining>,
}

/// A join that has not been judged.
#[derive(Debug, Default)]
pub(super) struct Joining {
    /// The cursor, if one was brought.
    pub(super) since: Option<Offset>,
    /// Since when reads have said that the cursor is above everything the queue ever held.
    pub(super) doubted: Option<Instant>,
    /// Who waits for the answer.
    pub(super) replies: Vec<oneshot::Sender<Result<Joined, Refusal>>>,
}

/// What a membership waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The room's route, in the present epoch; an answer counts that was issued after this.
    Routing(Tick),
    /// A page of history that is issued after this.
    Reading(Tick),
    /// A second read, some time after one that may have been of an old primary.
    Doubting,
    /// Room in the outbox; then it reads on.
    Full,
    /// Room in the outbox; then it goes on with what comes, and is told of the gap.
    Skipping,
    /// Nothing: it gets every frame.
    Live,
}

impl Membership {
    pub(super) fn joining(since: Option<Offset>, now: Tick) -> Self {
        Self {
            position: since.unwrap_or_default(),
            before_raise: Offset::ZERO,
            told: Offset::ZERO,
            standing: Standing::Routing(now),
            joining: Some(Joining {
                since,
                doubted: None,
                replies: Vec::new(),
            }),
        }
    }

    /// Moves on. While offsets are ahead of the clock, as they are after a failover, only their second half grows.
    pub(super) fn move_to(&mut self, position: Offset) {
        if position.milliseconds != self.position.milliseconds {
            self.before_raise = self.position;
        }
        self.position = position;
    }

    /// Nothing is promised of what lies before this place.
    pub(super) fn told_at(&mut self, position: Offset) {
        self.move_to(position);
        self.told = position;
    }

    /// Whether what was lost at a gap is missing here, and nobody said so.
    pub(super) fn misses(&self, gap: &Gap) -> bool {
        let had = gap.was_seen_at(self.position) || gap.was_seen_at(self.before_raise);
        !had && self.told < gap.lost_upto
    }

    pub(super) fn waits_for_route(&self) -> bool {
        matches!(self.standing, Standing::Routing(_))
    }

    pub(super) fn is_live(&self) -> bool {
        self.standing == Standing::Live
    }
}
