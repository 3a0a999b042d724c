//! Which offsets a server's data has.
//!
//! Whenever the identity of a partition's server changes, the first write raises the partition's offsets far above
//! everything that may have been given ([`Queue::append`](crate::Queue::append)), and remembers where they stood before.
//! A replica's data, and what a server reads back from its disk, is its primary's up to some write. Offsets of a partition
//! grow with every write. So an offset that was confirmed is there iff it does not lie in the interval that a raise skipped.
//! That needs neither replication offsets nor the chain of replication IDs, and holds for promotions, planned failovers,
//! restarts from an append-only file or a snapshot, and servers that were emptied.

use std::time::Duration;

use carillon_model::Offset;

use crate::{Life, rooms::FAILOVER_RAISE};

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

/// A server that a confirmed offset is known of, by its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// It gave the offset.
    Gave(Life),
    /// It has the offset from the one that gave it, and was found to have it.
    Has(Life),
}

impl Holder {
    /// The server's identity.
    pub fn life(&self) -> &Life {
        match self {
            Self::Gave(life) | Self::Has(life) => life,
        }
    }
}

/// What became of a confirmed offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The server has it.
    Kept,
    /// The server never had it.
    Lost {
        /// Offsets given since are above this one.
        raised: Offset,
        /// A client at the lost offset or above it, and below this one, was moved there by the server that confirmed it, or
        /// by one that had it.
        seen_below: Offset,
    },
    /// Nobody can say.
    Unknown,
}

impl Lineage {
    /// How many raises a partition remembers.
    pub const RAISES_KEPT: usize = 8;

    /// Whether the server took over from that one: it raised the offsets after the other had, and above this one.
    pub fn succeeds(&self, life: &Life, above: Offset) -> bool {
        self.raises.split_last().is_some_and(|(newest, before)| {
            newest.life == self.life
                && newest.raised > above
                && before.iter().any(|raise| raise.life == *life)
        })
    }

    /// What became of a confirmed offset.
    pub fn fate(&self, holder: &Holder, offset: Offset) -> Fate {
        let remembered = self.raises.last().filter(|newest| newest.life == self.life);
        let (Some(oldest), Some(newest)) = (self.raises.first(), remembered) else {
            // Nothing was raised, or by a version that remembers nothing.
            let own = *holder.life() == self.life;
            return if own { Fate::Kept } else { Fate::Unknown };
        };
        // A server's identity comes back when slots are moved away from it and back: it raises offsets each time.
        match holder {
            Holder::Gave(life) => {
                let gave = |raise: &Raise| raise.life == *life && raise.raised < offset;
                if let Some(place) = self.raises.iter().rposition(gave) {
                    // The raise that ended that server's time tells, even where the clocks of both were far apart.
                    return match self.raises.get(place + 1) {
                        Some(next) if offset > next.before => {
                            let own = self.raises.get(place).map(|own| own.raised);
                            lost(offset, next.raised.max(offset), own)
                        }
                        _ => Fate::Kept,
                    };
                }
            }
            Holder::Has(life) => {
                let had = |raise: &Raise| raise.life == *life && offset <= raise.before;
                if self.raises.iter().any(had) {
                    return Fate::Kept;
                }
            }
        }
        if !self.whole && offset <= oldest.before {
            return Fate::Unknown;
        }
        let skips = |raise: &Raise| raise.before < offset && offset <= raise.raised;
        match self.raises.iter().enumerate().find(|(_, raise)| skips(raise)) {
            // Before the first raise there was none.
            Some((0, oldest)) if self.whole => lost(offset, oldest.raised, Some(Offset::ZERO)),
            Some((_, raise)) => lost(offset, raise.raised, None),
            None if offset > newest.raised => Fate::Unknown,
            None => Fate::Kept,
        }
    }
}

/// A lost offset, and where the server that gave it had raised its offsets to, if that is known.
///
/// A server may have come in between of which nothing is left. It raised its offsets as well, and may have moved clients
/// there without what was lost. Such a raise goes [`FAILOVER_RAISE`] above the clock. A server gives offsets of its own
/// raise's millisecond until its clock is beyond that, and of its clock's from then on: either way it is known how far above
/// the lost offset no raise can lie.
fn lost(offset: Offset, raised: Offset, own: Option<Offset>) -> Fate {
    let of_the_clock = own.is_some_and(|own| own.milliseconds != offset.milliseconds);
    let reach = if of_the_clock {
        FAILOVER_RAISE / 2
    } else {
        Duration::ZERO
    };
    let reach = u64::try_from(reach.as_millis()).unwrap_or(0);
    let above = Offset::new(offset.milliseconds.saturating_add(reach).saturating_add(1), 0);
    Fate::Lost {
        raised,
        seen_below: above.min(raised),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(name: &str) -> Life {
        Life(name.into())
    }

    fn gave(name: &str) -> Holder {
        Holder::Gave(life(name))
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
        let lost = |raised| Fate::Lost {
            raised: at(raised),
            seen_below: at(raised),
        };
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
                Fate::Lost {
                    raised: at(2000),
                    seen_below: at(1501),
                },
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
            let found = lineage(raises, whole).fate(&gave(confirmed_by), at(offset));
            assert_eq!(found, fate, "{what}");
        }
    }

    /// `a` confirmed an offset, `b` raised offsets and moved clients there, and `c` knows nothing of `b`.
    #[test]
    fn who_stands_at_a_raise_of_which_nothing_is_left_has_seen_nothing() {
        const RAISE: u64 = 600_000;
        let clock = 10_000_000;
        let raised_by_b = at(clock + 1000 + RAISE);
        for (own, offset, still_of_a, what) in [
            (
                1,
                Offset::new(clock, 0),
                Offset::new(clock + 900, 0),
                "the clock's",
            ),
            (
                clock + RAISE,
                Offset::new(clock + RAISE, 3),
                Offset::new(clock + RAISE, 7),
                "the first after its own raise",
            ),
        ] {
            let raises = &[("a", 0, own), ("c", own, clock + 5000 + RAISE)];
            let Fate::Lost { seen_below, .. } = lineage(raises, true).fate(&gave("a"), offset) else {
                panic!("it is lost: {what}");
            };
            assert!(
                still_of_a < seen_below && seen_below <= raised_by_b,
                "{what}: {seen_below}"
            );
        }
    }

    /// Slots of a Cluster are moved to `b`, back to `a`, and to `b` again; both are the same processes all the time.
    #[test]
    fn a_server_that_partitions_come_back_to_is_told_apart_by_its_times() {
        let has = |name| Holder::Has(life(name));
        let moves = &[
            ("a", 0, 100),
            ("b", 150, 1000),
            ("a", 1050, 2000),
            ("b", 2050, 3000),
        ][..];
        for (holder, offset, kept) in [
            (gave("a"), 150, true),
            (gave("a"), 151, false),
            (gave("b"), 1050, true),
            (gave("b"), 1051, false),
            (gave("a"), 2050, true),
            (gave("a"), 2051, false),
            (gave("b"), 3001, true),
            (has("b"), 150, true),
            (has("a"), 1050, true),
            (has("a"), 1051, false),
        ] {
            let fate = lineage(moves, true).fate(&holder, at(offset));
            assert_eq!(fate == Fate::Kept, kept, "{holder:?} {offset}");
        }
    }

    /// Slots were moved on to `c`, and another server than the one that `b` and `c` raised offsets on has them now.
    #[test]
    fn what_was_found_at_a_server_is_judged_without_its_raise() {
        let (b, c) = (Holder::Has(life("b")), Holder::Has(life("c")));
        let forgot_b = lineage(&[("a", 0, 100), ("d", 150, 3000)], true);
        assert_eq!(forgot_b.fate(&b, at(150)), Fate::Kept);
        assert_ne!(forgot_b.fate(&b, at(151)), Fate::Kept);
        let few = lineage(&[("c", 1050, 2000), ("d", 2050, 3000)], false);
        assert_eq!(few.fate(&c, at(10)), Fate::Kept, "older than what is remembered");
        assert_eq!(few.fate(&b, at(10)), Fate::Unknown);
    }

    #[test]
    fn a_raise_that_nobody_remembered_makes_everything_unknown() {
        let mut lineage = lineage(&[("a", 0, 100)], true);
        lineage.life = life("b");
        assert_eq!(lineage.fate(&gave("a"), at(50)), Fate::Unknown);
    }
}
