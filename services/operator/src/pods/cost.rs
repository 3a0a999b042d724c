//! What it would cost to delete a gateway, so that a scale-down takes the emptiest.
//!
//! The ReplicaSet controller deletes pods with the lowest `pod-deletion-cost` first. The cost is the connections'
//! order of magnitude, in steps of a factor of two: an exact count would be a write to the API per connection.

/// The annotation that the ReplicaSet controller reads.
pub(crate) const ANNOTATION: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The cost of so many sessions: 0 for none, and one more for each doubling.
///
/// A count that swings around a step keeps the cost it has: it has to be a tenth beyond the step to change it.
pub(crate) fn cost(sessions: u64, written: Option<u32>) -> u32 {
    let plain = bucket(sessions);
    match written {
        Some(written) if written != plain => {
            let tenth = sessions / 10;
            let (low, high) = (bucket(sessions - tenth), bucket(sessions + tenth));
            // One of the two is still what is written: not far enough yet.
            if sessions > 0 && (low == written || high == written) {
                written
            } else {
                plain
            }
        }
        _ => plain,
    }
}

fn bucket(sessions: u64) -> u32 {
    u64::BITS - sessions.leading_zeros()
}

/// The cost that is written on a pod.
pub(crate) fn written(text: &str) -> Option<u32> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_is_the_order_of_magnitude() {
        let costs: Vec<_> = [0, 1, 2, 3, 4, 1000, 1023, 1024, 50_000, u64::MAX / 2]
            .map(|sessions| cost(sessions, None))
            .into();
        assert_eq!(costs, [0, 1, 2, 2, 3, 10, 10, 11, 16, 63]);
    }

    #[test]
    fn a_count_that_swings_around_a_step_writes_nothing() {
        assert_eq!(cost(1030, Some(10)), 10);
        assert_eq!(cost(1000, Some(11)), 11);
        assert_eq!(cost(1200, Some(10)), 11);
        assert_eq!(cost(900, Some(11)), 10);
        assert_eq!(cost(0, Some(1)), 0, "an empty one is empty");
        assert_eq!(cost(5000, Some(0)), 13);
        assert_eq!(
            (written("12"), written("-7"), written("x")),
            (Some(12), None, None)
        );
    }
}
