//! Time-outs for calls and pauses after failures: what every loop here does when the broker is away.

use std::{future::Future, time::Duration};

use carillon_broker::{BrokerError, Result};
use tokio::time::timeout;

/// Gives a call up after a time. What it wrote by then, nobody knows.
pub(crate) async fn within<T>(
    limit: Duration,
    what: &'static str,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    timeout(limit, call).await.unwrap_or_else(|_| {
        Err(BrokerError::Unknown(format!(
            "no answer to `{what}` within {limit:?}"
        )))
    })
}

/// Pauses that grow while failures follow each other, with jitter, so that many loops don't knock at once.
#[derive(Debug)]
pub(crate) struct Pauses {
    least: Duration,
    most: Duration,
    failures: u32,
    random: fastrand::Rng,
}

impl Pauses {
    pub(crate) fn new(least: Duration, most: Duration, random: fastrand::Rng) -> Self {
        Self {
            least,
            most,
            failures: 0,
            random,
        }
    }

    /// Something worked: the next pause is the least again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The pause after one more failure: between half and all of what the failures so far ask for.
    pub(crate) fn next_pause(&mut self) -> Duration {
        let full = self
            .least
            .saturating_mul(1 << self.failures.min(16))
            .min(self.most);
        self.failures = self.failures.saturating_add(1);
        full.mul_f64(0.5 + self.random.f64() / 2.0)
    }

    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.next_pause()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_start_again() {
        let most = Duration::from_secs(1);
        let mut pauses = Pauses::new(Duration::from_millis(50), most, fastrand::Rng::with_seed(1));
        assert!(pauses.next_pause() <= Duration::from_millis(50));
        let late = (0..40).map(|_| pauses.next_pause()).last().unwrap();
        assert!(late >= most / 2 && late <= most);
        pauses.reset();
        assert!(pauses.next_pause() <= Duration::from_millis(50));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_an_answer_has_an_unknown_outcome() {
        let call = std::future::pending::<Result<()>>();
        let outcome = within(Duration::from_secs(2), "trim", call).await;
        assert!(matches!(outcome, Err(BrokerError::Unknown(text)) if text.contains("trim")));
    }
}
