//! Messages that were accepted and that Redis lost.

use crate::{Offset, wire};

/// Messages of a room are missing before a gap marker.
///
/// A failover or a restart may take back the last writes of a server. Its successor raises the offsets far above those, and
/// moves clients there that miss what was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// The greatest offset lost: who has seen it misses nothing.
    pub lost_upto: Offset,
    /// A client at this offset or above it may have been moved there by a successor.
    pub seen_below: Offset,
}

impl Gap {
    /// Whether an offset is from before the loss and not below it: who stood there had everything that was lost.
    pub fn was_seen_at(&self, position: Offset) -> bool {
        self.lost_upto <= position && position < self.seen_below
    }
}

impl From<Gap> for wire::Gap {
    fn from(gap: Gap) -> Self {
        Self {
            room: String::new(),
            lost_upto: Some(gap.lost_upto.into()),
            seen_below: Some(gap.seen_below.into()),
        }
    }
}

impl From<&wire::Gap> for Gap {
    fn from(gap: &wire::Gap) -> Self {
        let offset = |offset: Option<wire::Offset>| offset.map(Offset::from).unwrap_or_default();
        Self {
            lost_upto: offset(gap.lost_upto),
            seen_below: offset(gap.seen_below),
        }
    }
}
