//! Bytes per second: what was read more than that is waited for before the next read.

use std::time::Duration;

use tokio::time::Instant;

/// What may be read at once after a rest, in time.
const BURST: Duration = Duration::from_secs(1);

/// A token bucket that goes into debt, because how much a read brings is known only afterwards.
#[derive(Debug)]
pub(super) struct Budget {
    per_second: usize,
    /// When everything read so far would have been read at the allowed rate.
    paid: Instant,
}

impl Budget {
    pub(super) fn new(per_second: usize) -> Self {
        Self {
            per_second: per_second.max(1),
            paid: Instant::now(),
        }
    }

    /// When the next read may start; `None`: now.
    pub(super) fn opens(&self) -> Option<Instant> {
        let opens = self.paid.checked_sub(BURST)?;
        (opens > Instant::now()).then_some(opens)
    }

    /// So much was read.
    #[allow(clippy::cast_precision_loss)] // far below 2^53
    pub(super) fn spend(&mut self, bytes: usize) {
        let takes = Duration::from_secs_f64(bytes as f64 / self.per_second as f64);
        self.paid = self.paid.max(Instant::now()) + takes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_read_too_quickly_is_waited_for() {
        let mut budget = Budget::new(1_000);
        let start = Instant::now();
        tokio::time::advance(Duration::from_secs(60)).await;
        budget.spend(1_000);
        assert_eq!(budget.opens(), None, "one second's worth at once");
        budget.spend(500);
        assert_eq!(budget.opens(), Some(start + Duration::from_millis(60_500)));
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(budget.opens(), None);
    }
}
