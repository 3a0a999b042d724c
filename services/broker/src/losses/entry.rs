//! One append that was confirmed, and what becomes of it.

use std::collections::BTreeMap;

use carillon_model::{Gap, Offset, Room};

use super::lineage::{Fate, Holder, Lineage};
use crate::Life;

/// One append that was confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// The server that gave the offsets, or the last one that was found to have them.
    pub holder: Holder,
    /// That server's replication offset just before. A replica beyond it has the append.
    pub position: u64,
    /// What was appended.
    pub what: Placed,
}

/// What was appended, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    /// Messages: their rooms and offsets.
    Messages(Box<[(Room, Offset)]>),
    /// Gap markers of rooms. They must not get lost either.
    Gaps(Box<[(Room, Offset)]>),
    /// The gap marker of the partition.
    PartitionGap(Offset),
}

/// What a partition lost, as far as it is not written down yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// The rooms, and what each lost.
    pub(super) rooms: BTreeMap<Room, LostInRoom>,
    /// Something was lost of which nobody knows what.
    pub(super) unknown: bool,
}

/// What one room lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LostInRoom {
    pub(super) gap: Gap,
    /// The server that had confirmed it.
    confirmed_by: Life,
    /// Offsets given since are above this one.
    raised: Offset,
}

/// A confirmed offset that was lost.
struct LostOffset<'a> {
    offset: Offset,
    raised: Offset,
    seen_below: Offset,
    confirmed_by: &'a Life,
}

impl Lost {
    pub(super) fn is_empty(&self) -> bool {
        self.rooms.is_empty() && !self.unknown
    }

    fn add(&mut self, room: Room, lost: &LostOffset<'_>) {
        let mut gap = Gap {
            lost_upto: lost.offset,
            seen_below: lost.seen_below,
        };
        let mut raised = lost.raised;
        if let Some(before) = self.rooms.get(&room) {
            gap.lost_upto = gap.lost_upto.max(before.gap.lost_upto);
            gap.seen_below = gap.seen_below.max(before.gap.seen_below);
            raised = raised.max(before.raised);
            if before.confirmed_by != *lost.confirmed_by {
                // Who stands above the last of two servers' losses may lack those of the first.
                gap.lost_upto = gap.lost_upto.max(raised.just_below());
            }
        }
        let lost = LostInRoom {
            gap,
            confirmed_by: lost.confirmed_by.clone(),
            raised,
        };
        self.rooms.insert(room, lost);
    }
}

/// What a judgement found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Judgement {
    /// Messages that were lost.
    pub(super) messages: u64,
    /// Whether more may be, that nobody knows of.
    pub(super) unknown: bool,
}

impl Confirmed {
    /// Moves what the server never had into `lost`.
    pub(super) fn judge(&mut self, lineage: &Lineage, lost: &mut Lost) -> Judgement {
        let mut found = Judgement::default();
        let mut sort_out = |places: &mut Box<[(Room, Offset)]>| {
            let mut kept = Vec::new();
            for (room, offset) in std::mem::take(places) {
                match lineage.fate(&self.holder, offset) {
                    Fate::Kept => kept.push((room, offset)),
                    Fate::Lost { raised, seen_below } => {
                        found.messages += 1;
                        let offset = LostOffset {
                            offset,
                            raised,
                            seen_below,
                            confirmed_by: self.holder.life(),
                        };
                        lost.add(room, &offset);
                    }
                    Fate::Unknown => found.unknown = true,
                }
            }
            *places = kept.into();
        };
        match &mut self.what {
            Placed::Messages(places) | Placed::Gaps(places) => sort_out(places),
            Placed::PartitionGap(offset) => {
                if lineage.fate(&self.holder, *offset) != Fate::Kept {
                    found.unknown = true;
                    self.what = Placed::Messages(Box::default());
                }
            }
        }
        found
    }

    /// Bytes in memory, about.
    pub(super) fn weight(&self) -> usize {
        const EACH: usize = 96;
        match &self.what {
            Placed::Messages(places) | Placed::Gaps(places) => {
                EACH + places
                    .iter()
                    .map(|(room, _)| 48 + room.as_str().len())
                    .sum::<usize>()
            }
            Placed::PartitionGap(_) => EACH,
        }
    }
}

impl Placed {
    /// The greatest offset; none if there is nothing.
    pub(super) fn last(&self) -> Option<Offset> {
        match self {
            Self::Messages(places) | Self::Gaps(places) => places.iter().map(|(_, offset)| *offset).max(),
            Self::PartitionGap(offset) => Some(*offset),
        }
    }
}
