//! Who should own what, without anybody deciding.
//!
//! Rendezvous hashing: every dispatcher that sees the same living ones computes the same owner for each partition and
//! list. One more or one less moves only what it gets or had (Thaler and Ravishankar, 1998).

use carillon_broker::{Incarnation, LeaseName};
use xxhash_rust::xxh3::xxh3_64;

/// Who of the living should own this: the one with the greatest hash, ties to the greater name.
pub(crate) fn owner_of<'a>(
    lease: &LeaseName,
    living: impl IntoIterator<Item = &'a Incarnation>,
) -> Option<&'a Incarnation> {
    living
        .into_iter()
        .max_by_key(|candidate| (weight(lease, candidate), *candidate))
}

fn weight(lease: &LeaseName, candidate: &Incarnation) -> u64 {
    let text = match lease {
        LeaseName::Partition(partition) => format!("partition {partition} {candidate}"),
        LeaseName::List(list) => format!("list {list} {candidate}"),
    };
    xxh3_64(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use carillon_model::PartitionCount;

    use super::*;

    fn owners(living: &[Incarnation]) -> Vec<&Incarnation> {
        let count = PartitionCount::new(64).unwrap();
        count
            .partitions()
            .map(|partition| owner_of(&LeaseName::Partition(partition), living).unwrap())
            .collect()
    }

    #[test]
    fn everyone_gets_a_share_whatever_the_order() {
        let mut living: Vec<_> = (0..4).map(|id| Incarnation::new("pod", id)).collect();
        let first = owners(&living).into_iter().cloned().collect::<Vec<_>>();
        for one in &living {
            let share = first.iter().filter(|owner| *owner == one).count();
            assert!((4..=32).contains(&share), "{share} of 64");
        }
        living.reverse();
        assert_eq!(first, owners(&living).into_iter().cloned().collect::<Vec<_>>());
    }

    #[test]
    fn only_what_the_lost_one_had_moves() {
        let living: Vec<_> = (0..4).map(|id| Incarnation::new("pod", id)).collect();
        let before = owners(&living);
        let after = owners(&living[1..]);
        for (before, after) in before.iter().zip(&after) {
            assert!(before == after || **before == living[0]);
        }
    }
}
