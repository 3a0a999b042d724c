//! Where a session stands in a room.

use carillon_model::Offset;
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
            standing: Standing::Routing(now),
            joining: Some(Joining {
                since,
                doubted: None,
                replies: Vec::new(),
            }),
        }
    }

    pub(super) fn waits_for_route(&self) -> bool {
        matches!(self.standing, Standing::Routing(_))
    }

    pub(super) fn is_live(&self) -> bool {
        self.standing == Standing::Live
    }
}
