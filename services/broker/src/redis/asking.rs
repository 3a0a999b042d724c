//! Asks several addresses at once who is primary, because one of them may accept connections and never answer.
//!
//! The first good answer starts a short grace time in which others may contradict it; the one with the highest epoch wins,
//! so that a sentinel or a node that was cut off does not lead back to an old primary. Pure but for the clock: how an
//! address is asked is the caller's business, so that the simulator asks this way too.

use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use indexmap::IndexSet;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::{BrokerError, Result};

/// How long others may contradict the first good answer, and how long the preferred ones are alone.
const GRACE: Duration = Duration::from_millis(200);
/// An answer of a lower epoch than one seen within this time is not believed.
const EPOCH_KEPT: Duration = Duration::from_secs(600);

/// The last slot of each range, in order, and the address of its primary.
pub type Ranges = Vec<(u16, String)>;

/// One address' answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Who holds which slots.
    pub ranges: Ranges,
    /// How new that is; `None` if access rules do not let us ask.
    pub epoch: Option<u64>,
}

/// What came of asking.
#[derive(Debug)]
pub struct Asked {
    /// The answer with the highest epoch, and whose it is; an error where there was no good one.
    pub best: Result<(String, Answer)>,
    /// Who was asked, and had neither answered nor failed when that was clear.
    pub silent: IndexSet<String>,
}

/// Asks the first `preferred` addresses at once, and after the grace time, or when they failed, all others.
pub async fn ask_all<F>(addresses: Vec<String>, preferred: usize, ask: impl Fn(String) -> F) -> Asked
where
    F: Future<Output = (String, Result<Answer>)>,
{
    let mut silent: IndexSet<String> = addresses.iter().cloned().collect();
    let mut waiting = addresses.into_iter();
    let mut asked: FuturesUnordered<F> = waiting.by_ref().take(preferred).map(&ask).collect();
    let mut hedge_at = Some(Instant::now() + GRACE);
    let mut best: Option<(String, Answer)> = None;
    let mut decide_at: Option<Instant> = None;
    let mut problem: Option<BrokerError> = None;
    loop {
        if asked.is_empty() {
            // Everybody who was asked has answered or failed.
            if best.is_none() {
                asked.extend(waiting.by_ref().map(&ask));
            }
            if asked.is_empty() {
                break;
            }
        }
        tokio::select! {
            biased;
            Some((address, answer)) = asked.next() => {
                silent.swap_remove(&address);
                match answer {
                    Ok(answer) => {
                        decide_at.get_or_insert_with(|| Instant::now() + GRACE);
                        if best.as_ref().is_none_or(|(_, best)| best.epoch < answer.epoch) {
                            best = Some((address, answer));
                        }
                    }
                    Err(error) => problem = Some(worse(problem, error)),
                }
            }
            () = at(decide_at.or(hedge_at)) => {
                if decide_at.is_some() {
                    break;
                }
                hedge_at = None;
                asked.extend(waiting.by_ref().map(&ask));
            }
        }
    }
    // Those who were not asked are not to blame.
    for address in waiting {
        silent.swap_remove(&address);
    }
    let best = best.ok_or_else(|| {
        problem.unwrap_or_else(|| BrokerError::Unavailable("no address of Redis is set".to_owned()))
    });
    Asked { best, silent }
}

/// The highest epoch, and when it was last seen.
#[derive(Debug, Default)]
pub struct HighestEpoch(Mutex<Option<(u64, Instant)>>);

impl HighestEpoch {
    /// Believes an answer, unless a newer state was seen lately.
    pub fn believe(&self, address: &str, answer: &Answer) -> Result<()> {
        let Some(epoch) = answer.epoch else { return Ok(()) };
        let now = Instant::now();
        let mut highest = self.0.lock();
        if let Some((before, seen)) = *highest
            && epoch < before
            && now.duration_since(seen) < EPOCH_KEPT
        {
            return Err(BrokerError::Unavailable(format!(
                "{address} is behind the others: it tells of epoch {epoch}, {before} was seen before"
            )));
        }
        *highest = Some((epoch, now));
        Ok(())
    }
}

/// What to tell where several addresses failed: what can be mended by settings comes first.
fn worse(before: Option<BrokerError>, error: BrokerError) -> BrokerError {
    match before {
        Some(before @ BrokerError::Misconfigured(_)) => before,
        _ => error,
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_behind_is_not_believed_for_a_while() {
        let highest = HighestEpoch::default();
        let answer = |port: u16, epoch| Answer {
            ranges: vec![(u16::MAX, format!("redis:{port}"))],
            epoch: Some(epoch),
        };
        assert!(highest.believe("a", &answer(1, 4)).is_ok());
        let error = highest.believe("b", &answer(2, 3)).unwrap_err().to_string();
        assert!(error.contains("b is behind"), "{error}");
        assert!(highest.believe("b", &answer(2, 5)).is_ok());
        tokio::time::advance(EPOCH_KEPT).await;
        let reset = highest.believe("c", &answer(3, 0));
        assert!(reset.is_ok(), "sentinels that were set up anew count from 0");
    }
}
