//! Which reads of histories may start: so many at once, and one of the same thing at a time.
//!
//! A partition whose last read failed gets one read at a time until one succeeds, and all such partitions together at
//! most half of the places: a server that is away does not take the places of the others.

use std::hash::Hash;

use carillon_model::Partition;
use indexmap::{IndexMap, IndexSet};

/// The reads under way, by what they read.
#[derive(Debug)]
pub(super) struct ReadSlots<K> {
    busy: IndexMap<K, Partition>,
    failing: IndexSet<Partition>,
    limit: usize,
}

impl<K: Eq + Hash> ReadSlots<K> {
    /// So many places.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            busy: IndexMap::new(),
            failing: IndexSet::new(),
            limit: limit.max(1),
        }
    }

    /// Whether no other read may start now.
    pub(super) fn are_taken(&self) -> bool {
        self.busy.len() >= self.limit
    }

    /// Whether a read of this may start now.
    pub(super) fn may_start(&self, what: &K, partition: Partition) -> bool {
        if self.are_taken() || self.busy.contains_key(what) {
            return false;
        }
        if !self.failing.contains(&partition) {
            return true;
        }
        let failing = self.busy.values().filter(|other| self.failing.contains(*other));
        let here = self.busy.values().any(|other| *other == partition);
        !here && failing.count() < (self.limit / 2).max(1)
    }

    /// A read starts.
    pub(super) fn start(&mut self, what: K, partition: Partition) {
        self.busy.insert(what, partition);
    }

    /// A read has ended.
    pub(super) fn end(&mut self, what: &K, succeeded: bool) {
        let Some(partition) = self.busy.swap_remove(what) else {
            return;
        };
        if succeeded {
            self.failing.swap_remove(&partition);
        } else {
            self.failing.insert(partition);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_being_read_is_not_read_twice_at_once() {
        let mut slots = ReadSlots::new(2);
        assert!(slots.may_start(&"a", Partition(0)));
        slots.start("a", Partition(0));
        assert!(!slots.may_start(&"a", Partition(0)));
        assert!(slots.may_start(&"b", Partition(0)));
        slots.start("b", Partition(0));
        assert!(slots.are_taken() && !slots.may_start(&"c", Partition(1)));
        slots.end(&"a", true);
        assert!(slots.may_start(&"a", Partition(0)));
    }

    #[test]
    fn partitions_that_fail_leave_half_of_the_places() {
        let mut slots = ReadSlots::new(4);
        for (what, partition) in [("a", 0), ("b", 1), ("c", 2)] {
            slots.start(what, Partition(partition));
            slots.end(&what, false);
        }
        slots.start("a", Partition(0));
        assert!(!slots.may_start(&"a2", Partition(0)), "one at a time");
        assert!(slots.may_start(&"b", Partition(1)));
        slots.start("b", Partition(1));
        assert!(
            !slots.may_start(&"c", Partition(2)),
            "half of the places are taken"
        );
        assert!(slots.may_start(&"d", Partition(3)));
        slots.end(&"a", true);
        assert!(slots.may_start(&"a2", Partition(0)), "it answers again");
    }
}
