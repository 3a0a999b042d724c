//! Which of the P queues a room belongs to.
//!
//! P, the hash and the format are fixed when an installation is born: the order of a room rests on every service
//! computing the same partition for it.

use std::{fmt, num::NonZeroU16};

use xxhash_rust::xxh3::xxh3_64;

use crate::Room;

/// How many partitions an installation has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PartitionCount(NonZeroU16);

/// A number of partitions outside 1..=1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} partitions are not possible: choose between 1 and {max}", max = PartitionCount::MAX)]
pub struct InvalidPartitionCount(pub u64);

impl PartitionCount {
    /// More would spread a batch too thin to be worth a round trip.
    pub const MAX: u16 = 1024;

    /// Checks the range 1..=1024.
    pub fn new(count: u64) -> Result<Self, InvalidPartitionCount> {
        u16::try_from(count)
            .ok()
            .filter(|count| *count <= Self::MAX)
            .and_then(NonZeroU16::new)
            .map(Self)
            .ok_or(InvalidPartitionCount(count))
    }

    /// The number itself.
    pub const fn get(self) -> u16 {
        self.0.get()
    }

    /// All partitions, in order.
    pub fn partitions(self) -> impl DoubleEndedIterator<Item = Partition> + ExactSizeIterator + Clone {
        (0..self.get()).map(Partition)
    }

    /// The partition of a room: XXH3-64 with seed 0 of the room's bytes, modulo the count.
    #[allow(clippy::cast_possible_truncation)] // below the count, which is a u16
    pub fn partition_of(self, room: &Room) -> Partition {
        Partition((xxh3_64(room.as_str().as_bytes()) % u64::from(self.get())) as u16)
    }
}

/// One of the P queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub u16);

impl Partition {
    /// The partition's place in a list of all partitions.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fixed_for_ever() {
        let count = PartitionCount::new(64).unwrap();
        let of = |name: &str| count.partition_of(&Room::new(name).unwrap()).0;
        assert_eq!(
            [of("all"), of("lobby"), of("user:42")],
            [of("all"), of("lobby"), of("user:42")]
        );
        // XXH3-64 of "all" with seed 0; a different value would strand every stored room.
        assert_eq!(u64::from(of("all")), xxh3_64(b"all") % 64);
    }

    #[test]
    fn the_count_has_bounds() {
        assert!(PartitionCount::new(0).is_err());
        assert!(PartitionCount::new(1025).is_err());
        assert_eq!(PartitionCount::new(1024).unwrap().partitions().len(), 1024);
    }
}
