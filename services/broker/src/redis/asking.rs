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
const EPOCH_KEPT: Duration = Duration::from_secs(60);

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
    /// Several addresses were set, and each of them gave a good answer: nobody is left who could contradict.
    pub unanimous: bool,
}

/// Asks the first `preferred` addresses at once, and after the grace time, or when they failed, all others.
pub async fn ask_all<F>(addresses: Vec<String>, preferred: usize, ask: impl Fn(String) -> F) -> Asked
where
    F: Future<Output = (String, Result<Answer>)>,
{
    let mut silent: IndexSet<String> = addresses.iter().cloned().collect();
    let several = addresses.len() > 1;
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
    let unanimous = several && silent.is_empty() && problem.is_none();
    // Those who were not asked are not to blame.
    for address in waiting {
        silent.swap_remove(&address);
    }
    let best = best.ok_or_else(|| {
        problem.unwrap_or_else(|| BrokerError::Unavailable("no address of Redis is set".to_owned()))
    });
    Asked {
        best,
        silent,
        unanimous,
    }
}

/// The highest epoch, and when it was last seen.
#[derive(Debug, Default)]
pub struct HighestEpoch(Mutex<Option<(u64, Instant)>>);

impl HighestEpoch {
    /// Believes an answer, unless a newer state was seen lately. Where nobody contradicts, they were all set up anew.
    pub fn believe(&self, address: &str, answer: &Answer, unanimous: bool) -> Result<()> {
        let Some(epoch) = answer.epoch else { return Ok(()) };
        let now = Instant::now();
        let mut highest = self.0.lock();
        if let Some((before, seen)) = *highest
            && epoch < before
            && !unanimous
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

    /// Asks addresses, of which each answers after so many milliseconds with an epoch, or never; who won, who is silent,
    /// and after how many milliseconds.
    async fn asked(preferred: usize, answers: &[(&str, Option<(u64, u64)>)]) -> (String, Vec<String>, u128) {
        let began = Instant::now();
        let addresses = answers.iter().map(|(address, _)| (*address).to_owned());
        let asked = ask_all(addresses.collect(), preferred, |address| {
            let found = answers.iter().find(|(name, _)| *name == address);
            let answer = found.and_then(|(_, answer)| *answer);
            async move {
                let Some((after, epoch)) = answer else {
                    return std::future::pending().await;
                };
                sleep_until(began + Duration::from_millis(after)).await;
                let answer = Answer {
                    ranges: Vec::new(),
                    epoch: Some(epoch),
                };
                (address, Ok(answer))
            }
        });
        let Asked { best, silent, .. } = asked.await;
        let silent = silent.into_iter().collect();
        (best.unwrap().0, silent, began.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn the_highest_epoch_of_the_grace_time_wins() {
        let old = ("old", Some((10, 4)));
        let (best, silent, took) = asked(2, &[old, ("new", Some((150, 5)))]).await;
        assert_eq!((&*best, silent.len(), took), ("new", 0, 150));
        let (best, silent, took) = asked(2, &[old, ("new", Some((250, 5)))]).await;
        assert_eq!((&*best, took), ("old", 210));
        assert_eq!(silent, ["new"]);
        let (best, ..) = asked(2, &[("new", Some((10, 5))), ("old", Some((20, 4)))]).await;
        assert_eq!(best, "new", "not the last one");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_costs_the_grace_time_twice_at_most() {
        let (best, silent, took) = asked(1, &[("silent", None), ("other", Some((0, 1)))]).await;
        assert_eq!((&*best, took), ("other", 400));
        assert_eq!(silent, ["silent"]);
        let (_, silent, took) = asked(1, &[("good", Some((10, 1))), ("not asked", None)]).await;
        assert_eq!((silent.len(), took), (0, 10), "nobody else is asked");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_behind_is_not_believed_for_a_while() {
        let highest = HighestEpoch::default();
        let answer = |port: u16, epoch| Answer {
            ranges: vec![(u16::MAX, format!("redis:{port}"))],
            epoch: Some(epoch),
        };
        assert!(highest.believe("a", &answer(1, 4), false).is_ok());
        let error = highest
            .believe("b", &answer(2, 3), false)
            .unwrap_err()
            .to_string();
        assert!(error.contains("b is behind"), "{error}");
        assert!(highest.believe("b", &answer(2, 5), false).is_ok());
        // Sentinels that were set up anew count from 0.
        assert!(
            highest.believe("c", &answer(3, 1), true).is_ok(),
            "all of them say so"
        );
        assert!(highest.believe("b", &answer(2, 0), false).is_err());
        tokio::time::advance(EPOCH_KEPT).await;
        assert!(highest.believe("c", &answer(3, 0), false).is_ok());
    }
}
