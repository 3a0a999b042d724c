//! Which offsets a server's data has.
//!
//! Whenever the identity of a partition's server changes, the first write raises the partition's offsets far above
//! everything that may have been given ([`Queue::append`](crate::Queue::append)), and remembers where they stood before.
//! A replica's data, and what a server reads back from its disk, is its primary's up to some write. Offsets of a partition
//! grow with every write. So an offset that was confirmed is there iff it does not lie in the interval that a raise skipped.
//! That needs neither replication offsets nor the chain of replication IDs, and holds for promotions, planned failovers,
//! restarts from an append-only file or a snapshot, and servers that were emptied.

use carillon_model::Offset;

use crate::Life;

/// One raise of a partition's offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raise {
    /// The identity of the server that raised them.
    pub life: Life,
    /// The greatest offset its data had.
    pub before: Offset,
    /// Offsets given since are above this.
    pub raised: Offset,
}

/// The raises in the data of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The server's identity.
    pub life: Life,
    /// The server's replication offset.
    pub position: u64,
    /// The newest raises, oldest first.
    pub raises: Vec<Raise>,
    /// Whether these are all there ever were; else older ones were forgotten.
    pub whole: bool,
}

/// What became of a confirmed offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The server has it.
    Kept,
    /// The server never had it. Offsets given since are above this one.
    Lost(Offset),
    /// Nobody can say.
    Unknown,
}

impl Lineage {
    /// How many raises a partition remembers.
    pub const RAISES_KEPT: usize = 8;

    /// What became of an offset that was confirmed by a server of this identity.
    pub fn fate(&self, confirmed_by: &Life, offset: Offset) -> Fate {
        if *confirmed_by == self.life {
            return Fate::Kept;
        }
        let (Some(oldest), Some(newest)) = (self.raises.first(), self.raises.last()) else {
            return Fate::Unknown;
        };
        // Raised by a version that remembers nothing.
        if newest.life != self.life {
            return Fate::Unknown;
        }
        let skips = |raise: &&Raise| raise.before < offset && offset <= raise.raised;
        let place = self.raises.iter().position(|raise| raise.life == *confirmed_by);
        match place {
            // The raise that ended that server's time tells, even where the clocks of both were far apart.
            Some(place) => match self.raises.get(place + 1) {
                Some(next) if offset > next.before => Fate::Lost(next.raised.max(offset)),
                _ => Fate::Kept,
            },
            None if !self.whole && offset <= oldest.before => Fate::Unknown,
            None => match self.raises.iter().find(skips) {
                Some(raise) => Fate::Lost(raise.raised),
                None if offset > newest.raised => Fate::Unknown,
                None => Fate::Kept,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(name: &str) -> Life {
        Life(name.into())
    }

    fn at(milliseconds: u64) -> Offset {
        Offset::new(milliseconds, 0)
    }

    /// A lineage whose newest raise is that of the server that answers.
    fn lineage(raises: &[(&str, u64, u64)], whole: bool) -> Lineage {
        let raises: Vec<Raise> = raises
            .iter()
            .map(|(name, before, raised)| Raise {
                life: life(name),
                before: at(*before),
                raised: at(*raised),
            })
            .collect();
        Lineage {
            life: raises
                .last()
                .map_or_else(|| life("z"), |raise| raise.life.clone()),
            position: 0,
            raises,
            whole,
        }
    }

    #[test]
    fn an_offset_is_lost_iff_a_raise_skipped_it() {
        let promoted = &[("a", 0, 100), ("b", 150, 1000)][..];
        let twice = &[("a", 0, 100), ("b", 150, 1000), ("c", 1020, 2000)][..];
        let lost = |raised| Fate::Lost(at(raised));
        for (raises, whole, confirmed_by, offset, fate, what) in [
            (promoted, true, "b", 1500, Fate::Kept, "its own"),
            (promoted, true, "a", 150, Fate::Kept, "the replica's last"),
            (
                promoted,
                true,
                "a",
                151,
                lost(1000),
                "the first the replica lacked",
            ),
            (
                promoted,
                true,
                "a",
                1200,
                lost(1200),
                "after the promotion, by a clock far ahead",
            ),
            (twice, true, "a", 150, Fate::Kept, "kept by both"),
            (twice, true, "a", 160, lost(1000), "lost with the first"),
            (twice, true, "b", 1020, Fate::Kept, "kept by the second"),
            (twice, true, "b", 1021, lost(2000), "lost with the second"),
            (
                twice,
                true,
                "x",
                1500,
                lost(2000),
                "of a server that was never replicated from",
            ),
            (
                twice,
                true,
                "x",
                90,
                lost(100),
                "of a server of an earlier installation",
            ),
            (
                twice,
                true,
                "x",
                2500,
                Fate::Unknown,
                "of a server whose clock was far ahead",
            ),
            (
                twice,
                false,
                "x",
                0,
                Fate::Unknown,
                "before everything that is remembered",
            ),
            (twice, false, "x", 1010, Fate::Kept, "between two raises"),
            (&[], true, "a", 5, Fate::Unknown, "never raised"),
        ] {
            let found = lineage(raises, whole).fate(&life(confirmed_by), at(offset));
            assert_eq!(found, fate, "{what}");
        }
    }

    #[test]
    fn a_raise_that_nobody_remembered_makes_everything_unknown() {
        let mut lineage = lineage(&[("a", 0, 100)], true);
        lineage.life = life("b");
        assert_eq!(lineage.fate(&life("a"), at(50)), Fate::Unknown);
    }
}
