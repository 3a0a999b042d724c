//! Messages that were accepted and that Redis lost.

use crate::{Offset, wire};

/// Messages of a room are missing before a gap marker.
///
/// A failover or a restart may take back the last writes of a server. Offsets given since then are raised, so an offset
/// between the last one that was kept and the raised one is an offset that was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// The greatest offset lost: who has seen it misses nothing.
    pub lost_upto: Offset,
    /// Offsets given since are above this.
    pub raised: Offset,
}

impl Gap {
    /// Whether an offset is from before the loss and not below it: who stood there had everything that was lost.
    pub fn was_seen_at(&self, position: Offset) -> bool {
        self.lost_upto <= position && position < self.raised
    }
}

impl From<Gap> for wire::Gap {
    fn from(gap: Gap) -> Self {
        Self {
            room: String::new(),
            lost_upto: Some(gap.lost_upto.into()),
            raised: Some(gap.raised.into()),
        }
    }
}

impl From<&wire::Gap> for Gap {
    fn from(gap: &wire::Gap) -> Self {
        let offset = |offset: Option<wire::Offset>| offset.map(Offset::from).unwrap_or_default();
        Self {
            lost_upto: offset(gap.lost_upto),
            raised: offset(gap.raised),
        }
    }
}
