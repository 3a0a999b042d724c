//! One append that was confirmed, and what becomes of it.

use std::collections::BTreeMap;

use carillon_model::{Gap, Offset, Room};

use super::lineage::{Fate, Lineage};
use crate::Life;

/// One append that was confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// The identity of the server that wrote it.
    pub life: Life,
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
}

/// A confirmed offset that was lost.
struct LostOffset<'a> {
    offset: Offset,
    raised: Offset,
    confirmed_by: &'a Life,
    /// A server came in between of which nothing is left: who stands above the offset may have been moved on by that one,
    /// and never got what was lost.
    hidden: bool,
}

impl Lost {
    pub(super) fn is_empty(&self) -> bool {
        self.rooms.is_empty() && !self.unknown
    }

    fn add(&mut self, room: Room, lost: &LostOffset<'_>) {
        let mut gap = Gap {
            lost_upto: lost.offset,
            raised: lost.raised,
        };
        let before = self.rooms.get(&room);
        // Who stands above the last of two servers' losses may lack those of the first.
        let of_another = before.is_some_and(|before| before.confirmed_by != *lost.confirmed_by);
        if let Some(before) = before {
            gap.lost_upto = gap.lost_upto.max(before.gap.lost_upto);
            gap.raised = gap.raised.max(before.gap.raised);
        }
        if lost.hidden || of_another {
            gap.lost_upto = gap.lost_upto.max(gap.raised.just_below());
        }
        let confirmed_by = lost.confirmed_by.clone();
        self.rooms.insert(room, LostInRoom { gap, confirmed_by });
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
    /// Moves what the server never had into `lost`. `hidden`: a server came in between of which nothing is left.
    pub(super) fn judge(&mut self, lineage: &Lineage, hidden: bool, lost: &mut Lost) -> Judgement {
        let mut found = Judgement::default();
        let mut sort_out = |places: &mut Box<[(Room, Offset)]>| {
            let mut kept = Vec::new();
            for (room, offset) in std::mem::take(places) {
                match lineage.fate(&self.life, offset) {
                    Fate::Kept => kept.push((room, offset)),
                    Fate::Lost(raised) => {
                        found.messages += 1;
                        let offset = LostOffset {
                            offset,
                            raised,
                            confirmed_by: &self.life,
                            hidden,
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
                if lineage.fate(&self.life, *offset) != Fate::Kept {
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
